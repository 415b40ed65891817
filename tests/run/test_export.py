"""An exported policy acts as the run's own, without logpi."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

import logpi
from logpi import LogpiError
from logpi.policy import Policy, build_policy
from logpi.run.commands.export import main as command
from logpi.run.export import APART, TRIED, export, observations

PICTURE = spaces.Box(0, 255, (40, 40, 3), np.uint8)
BOX = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 4.0], np.float32))
VECTOR = spaces.Box(-9, 9, (5,), np.float32)
CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "mlp": (VECTOR, spaces.Discrete(4, start=2), {"normalise_obs": True}),
    "gaussian": (VECTOR, BOX, {"normalise_obs": True}),
    "squashed": (VECTOR, BOX, {"head": "squashed", "log_std": "state"}),
    "beta": (VECTOR, BOX, {"head": "beta", "shared": True}),
    "cnn": (PICTURE, spaces.Discrete(3), {}),
    "impala": (PICTURE, BOX, {"pictures": "impala"}),
    "hybrid": (VECTOR, spaces.Tuple([spaces.Discrete(3), BOX]), {}),
    "masked": (
        spaces.Dict({"obs": VECTOR, "action_mask": spaces.MultiBinary(4)}),
        spaces.Discrete(4),
        {"normalise_obs": True},
    ),
}


def made(name: str) -> Policy:
    seen, taken, more = CASES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = build_policy(seen, taken, hidden=(16,), **more)
        for p in policy.network.parameters():
            p.data += (0.05 if seen is PICTURE else 0.3) * torch.randn_like(p)
        if seen is PICTURE:  # what all pictures have in common would decide alone
            with torch.no_grad():
                policy.network.bias -= policy.network(policy.trunk(observations(policy))).mean(0)
    if policy.normaliser is not None:
        size = policy.normaliser.mean.shape[0]
        policy.normaliser.update(3 + 2 * torch.randn(500, size, generator=torch.Generator().manual_seed(1)))
    return policy.eval()


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.parametrize("name", CASES)
def test_a_file_says_what_the_policy_says(name: str, kind: str, tmp_path: Path) -> None:
    policy = made(name)
    out = tmp_path / f"policy.{kind}"
    assert export(policy, out) < 1e-5 and [f.name for f in tmp_path.iterdir()] == [out.name]
    obs = observations(policy)
    ours = policy.act(obs).numpy()
    assert len(obs) == TRIED and len({x.tobytes() for x in ours}) > 1, "they are not all the same action"
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
        for rows in (1, 7, TRIED):
            theirs = session.run(None, {"obs": obs[:rows].numpy()})[0]
            np.testing.assert_allclose(theirs, ours[:rows], rtol=0, atol=APART * max(1.0, np.abs(ours).max()))


def test_a_file_that_would_act_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from logpi.run import export as room

    monkeypatch.setattr(room, "by_pt2", lambda file, obs: made("gaussian").act(obs).numpy() + 0.01)
    with pytest.raises(LogpiError, match="would act otherwise than the policy, by"):
        room.export(made("gaussian"), tmp_path / "policy.pt2")
    assert not [*tmp_path.iterdir()]


def test_a_policy_with_a_memory_is_refused(tmp_path: Path) -> None:
    policy = build_policy(VECTOR, BOX, memory="gru")
    with pytest.raises(LogpiError, match="has a memory"):
        export(policy, tmp_path / "policy.onnx")
    with pytest.raises(LogpiError, match=r"must end in .onnx or .pt2"):
        export(made("mlp"), tmp_path / "policy.h5")


def test_what_cannot_be_written_is_told_before_anything_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LogpiError, match="leave --onnx and --torch away, or --out"):
        command(["nowhere", "--onnx", "--out", "x.pt2"])
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(LogpiError, match="ONNX files need onnx, onnxscript and onnxruntime"):
        export(made("mlp"), tmp_path / "policy.onnx")
    assert not [*tmp_path.iterdir()]


ALONE = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
print(session.run(None, {"obs": numpy.zeros((2, 4), numpy.float32)})[0].tolist(), "logpi" in sys.modules, "torch" in sys.modules)
"""


def test_the_command_writes_into_the_run_folder_what_needs_neither_logpi_nor_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "logpi"]
    train = [*command, "train", "ppo", "--steps", "2048", "--evaluate", "0", "--no-plot", "--quiet", "--normalise-obs"]
    subprocess.run(train, cwd=tmp_path, check=True)
    (run,) = tmp_path.glob("runs/*/*/*")
    done = subprocess.run(
        [*command, "export", str(run), "--onnx", "--torch"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{run / 'policy.onnx'}: obs [n, 4] -> action; on 1000 observations within ")
    assert second.startswith(f"{run / 'policy.pt2'}: ")
    alone = subprocess.run(
        [sys.executable, "-c", ALONE, str(run / "policy.onnx")], capture_output=True, text=True, check=True
    )
    expected = logpi.load(run).act(np.zeros((2, 4), np.float32)).tolist()
    assert alone.stdout.strip() == f"{expected} False False"


def saved(folder: Path) -> Path:
    """A checkpoint of a run."""
    from logpi.methods import PPO
    from logpi.run import checkpoint
    from logpi.run.setup import Settings, assemble

    return checkpoint.save(assemble(PPO(envs=2, length=8), Settings(hidden=(4,))), folder / "checkpoints")


def test_a_checkpoint_is_written_beside_never_into(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    command([str(folder), "--torch"])
    assert (tmp_path / "policy.pt2").is_file() and logpi.load(folder)
    with pytest.raises(LogpiError, match="is a checkpoint, which holds its own files alone: name a file elsewhere"):
        command([str(tmp_path), "--out", str(folder / "more" / "policy.pt2")])
    assert logpi.load(folder)


SEEN = spaces.Dict({"where": spaces.Discrete(5, start=2), "speed": spaces.Box(-9, 9, (2,), np.float32)})
TAKEN = spaces.Dict({"kind": spaces.Discrete(3), "force": BOX})


def by_layout(parts: list[dict[str, Any]], obs: dict[str, Any]) -> np.ndarray:
    """What a reader of the file makes of a raw observation, with nothing but the file's own word."""
    row = np.zeros((1, parts[-1]["end"]), np.float32)
    for part in parts:
        (key,), place = part["path"], row[0, part["begin"] : part["end"]]
        if part["kind"] == "choice":
            place[obs[key] - part["space"]["start"]] = 1
        else:
            place[:] = obs[key]
    return row


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_file_says_what_lies_where(kind: str, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        policy = build_policy(SEEN, TAKEN, hidden=(16,)).eval()
        policy.network[-1].weight.data *= 100
    out, told = tmp_path / f"policy.{kind}", {"layout.json": ""}
    export(policy, out)
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
        said = session.get_modelmeta().custom_metadata_map["layout"]
    else:
        module, said = torch.export.load(str(out), extra_files=told).module(), told["layout.json"]
    layout = json.loads(said)
    SEEN.seed(0)
    for _ in range(20):
        obs = SEEN.sample()
        row = by_layout(layout["obs"], obs)
        found = session.run(None, {"obs": row})[0] if kind == "onnx" else module(torch.as_tensor(row)).detach().numpy()
        expected = policy.act(obs)
        for part in layout["action"]:
            np.testing.assert_allclose(
                found[0, part["begin"] : part["end"]], np.ravel(expected[part["path"][0]]), atol=1e-5
            )
