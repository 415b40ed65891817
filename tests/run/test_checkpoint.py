"""Checkpoints appear whole or not at all, are verified to the byte, and are never written over."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

import logpi
from logpi.loop import Parts, loop
from logpi.methods import PPO
from logpi.run import checkpoint
from logpi.run import spaces as spaces_json
from logpi.run.pack import pack, unpack
from logpi.run.setup import Settings, assemble

FILES = ["config.toml", "manifest.json", "policy.json", "policy.safetensors", "trainer.json", "trainer.safetensors"]


def build(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 5), nn.ReLU(), nn.Linear(5, outputs))


def wider(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 6), nn.ReLU(), nn.Linear(6, outputs))


def parts(iterations: int = 1, network: Any = None, **settings: Any) -> Parts:
    made = assemble(PPO(envs=2, length=8), Settings(**{"hidden": (4,), "steps": 1000} | settings), network=network)
    for _, _ in zip(range(iterations), loop(made), strict=False):
        pass
    return made


def test_a_checkpoint_is_six_files_and_leaves_nothing_else(tmp_path: Path) -> None:
    saved = checkpoint.save(parts(2), tmp_path / "checkpoints")
    assert saved == tmp_path / "checkpoints" / "step-000000000032"
    assert sorted(f.name for f in saved.iterdir()) == FILES and list(saved.parent.iterdir()) == [saved]
    manifest = json.loads((saved / "manifest.json").read_text())
    assert sorted(manifest["files"]) == sorted({*FILES} - {"manifest.json"})
    for name, said in manifest["files"].items():
        data = (saved / name).read_bytes()
        assert said == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert (manifest["step"], manifest["method"], manifest["environments"]) == (saved.name, "ppo", "continue")
    assert (manifest["finite"], manifest["score"], manifest["log"]) == (True, None, None)


def test_a_score_that_is_no_number_is_none(tmp_path: Path) -> None:
    for i, (score, kept) in enumerate([(1.5, 1.5), (float("nan"), None), (float("inf"), None), (None, None)]):
        (tmp_path / str(i)).mkdir()
        saved = checkpoint.save(parts(), tmp_path / str(i), {"bytes": 3, "sha256": "x"}, score)
        manifest = checkpoint.verify(saved)
        assert (manifest["score"], manifest["log"]) == (kept, {"bytes": 3, "sha256": "x"})
        assert checkpoint.best(saved.parent) == (saved if kept else None)


def test_weights_that_are_no_numbers_are_told_in_the_manifest(tmp_path: Path) -> None:
    made = parts()
    with torch.no_grad():
        next(made.policy.parameters()).view(-1)[0] = float("nan")
    assert checkpoint.verify(checkpoint.save(made, tmp_path))["finite"] is False


def test_settings_are_in_the_checkpoint_to_the_last_field(tmp_path: Path) -> None:
    made = parts()
    found = tomllib.loads((checkpoint.save(made, tmp_path) / "config.toml").read_text())
    assert found["method"]["name"] == "ppo" and found["run"]["hidden"] == [4]
    for section in ("method", "run"):
        given = {k: list(v) if isinstance(v, tuple) else v for k, v in made.config[section].items() if v is not None}
        assert found[section] == given


def test_its_json_is_json(tmp_path: Path) -> None:
    """CartPole's observations are unbounded: Infinity is not JSON."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    saved = checkpoint.save(parts(), tmp_path)
    for name in FILES:
        if name.endswith(".json"):
            json.loads((saved / name).read_text(), parse_constant=refuse)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last", "missing"])
def test_a_damaged_file_is_named_and_nothing_is_loaded(name: str, where: str, tmp_path: Path) -> None:
    saved = checkpoint.save(parts(), tmp_path)
    file, old = saved / name, (saved / name).read_bytes()
    at = {
        "first": 0,
        "middle": old.find(b'"format"') + 3 if name == "manifest.json" else len(old) // 2,
        "last": len(old) - 1,
    }
    file.unlink()
    if where != "missing":
        flipped = bytearray(old)
        flipped[at[where]] ^= 0x40
        file.write_bytes(flipped)
    fresh = parts(0)
    before = [p.clone() for p in fresh.policy.parameters()]
    for attempt in (lambda: checkpoint.restore(fresh, saved), lambda: logpi.load(saved)):
        with pytest.raises(
            logpi.LogpiError, match=name if (saved / "manifest.json").exists() else "checkpoint"
        ) as said:
            attempt()
        assert str(saved) in str(said.value) and "\n" not in str(said.value)
    assert all(torch.equal(p, q) for p, q in zip(before, fresh.policy.parameters(), strict=True))


def test_a_manifest_that_leaves_a_file_out_is_refused(tmp_path: Path) -> None:
    saved = checkpoint.save(parts(), tmp_path)
    manifest = json.loads((saved / "manifest.json").read_text())
    del manifest["files"]["policy.safetensors"], manifest["sum"]
    said = f"{saved / 'manifest.json'} is damaged (it is not what was written): use another checkpoint."
    for text in (json.dumps(manifest).encode(), checkpoint.seal(manifest)):
        (saved / "manifest.json").write_bytes(text)
        with pytest.raises(logpi.LogpiError) as refused:
            logpi.load(saved)
        assert str(refused.value) == said


def test_another_format_is_refused(tmp_path: Path) -> None:
    saved = checkpoint.save(parts(), tmp_path)
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(logpi.LogpiError) as refused:
        logpi.load(saved)
    assert str(refused.value) == (
        f"The checkpoint {saved} has format 99, this logpi reads 2: use the version that wrote it."
    )


def test_an_existing_checkpoint_is_left_as_it_is(tmp_path: Path) -> None:
    made = parts()
    saved = checkpoint.save(made, tmp_path)
    before = {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in saved.iterdir()}
    assert checkpoint.save(made, tmp_path) == saved
    with torch.no_grad():
        next(made.policy.parameters()).add_(1.0)
    with pytest.raises(logpi.LogpiError, match="has other weights, it is of another run: save to another folder"):
        checkpoint.save(made, tmp_path)
    assert {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in saved.iterdir()} == before


def test_a_write_that_breaks_off_leaves_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, good = parts(), checkpoint.save(parts(2), tmp_path / "checkpoints")

    def full(path: Path) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(checkpoint, "flush", full)
        checkpoint.save(made, tmp_path / "checkpoints")
    assert checkpoint.choose(tmp_path) == (good, []) and [f.name for f in good.parent.glob("step-*")] == [good.name]
    saved = checkpoint.save(made, tmp_path / "checkpoints")
    checkpoint.verify(saved)
    assert sorted(f.name for f in good.parent.iterdir()) == [saved.name, good.name]


def test_the_newest_is_the_one_with_most_steps(tmp_path: Path) -> None:
    made, saved = parts(0, steps=10**9), []
    for steps in (999_999_999, 5, 70_000):
        made.state["steps"] = steps
        saved.append(checkpoint.save(made, tmp_path / "checkpoints"))
    assert checkpoint.choose(tmp_path) == (saved[0], []) and checkpoint.choose(saved[1]) == (saved[1], [])
    with pytest.raises(logpi.LogpiError) as refused:
        checkpoint.choose(tmp_path / "nowhere")
    assert str(refused.value) == (
        f"{tmp_path / 'nowhere'} has no checkpoint: it must be a run folder, or one of its checkpoints/step-*."
    )


def test_a_newer_one_that_does_not_fit_is_skipped_with_the_reason(tmp_path: Path) -> None:
    made, saved = parts(0, steps=10**9), []
    for steps in (5, 6, 7):
        made.state["steps"] = steps
        saved.append(checkpoint.save(made, tmp_path / "checkpoints"))
    odd = lambda manifest: None if manifest["step"].endswith("5") else f"{manifest['step']} is not odd."
    assert checkpoint.choose(tmp_path, odd) == (
        saved[0],
        [f"{saved[2].name} is not odd.", f"{saved[1].name} is not odd."],
    )


@pytest.mark.parametrize("shared", [False, True])
def test_a_network_of_ones_own_is_asked_for(shared: bool, tmp_path: Path) -> None:
    made = parts(network=build, shared=shared)
    saved, obs = checkpoint.save(made, tmp_path), np.ones((3, 4), np.float32)
    with pytest.raises(logpi.LogpiError, match=r"network of yours.*pass it again"):
        logpi.load(saved)
    first = "trunk.0.bias" if shared else "network.0.bias"
    with pytest.raises(logpi.LogpiError) as refused:
        logpi.load(saved, network=wider)
    assert str(refused.value) == (
        f"The tensor {first} in {saved / 'policy.safetensors'} is [5] of float32, the network's is [6] of float32: "
        "is it of another one?"
    )
    assert np.array_equal(logpi.load(saved, network=build).act(obs), made.policy.act(obs))


def test_what_is_packed_comes_back() -> None:
    x = {
        "a": [1, 2.5, None, "x", True, float("inf"), -float("inf"), b"\x00bytes", b""],
        3: {"b": torch.arange(3)},
        "deep": [{"c": torch.tensor(1.5, dtype=torch.float64)}],
        "array": np.arange(6, dtype=np.uint64).reshape(2, 3),
        "none of them": np.zeros((0, 2)),
    }
    tensors: dict[str, torch.Tensor] = {}
    packed = json.loads(json.dumps(pack(x, tensors), allow_nan=False))
    back = unpack(packed, tensors)
    assert str(back) == str(x) and list(back) == list(x)
    for name in ("array", "none of them"):
        assert back[name].dtype == x[name].dtype and back[name].shape == x[name].shape
    assert str(unpack(json.loads(json.dumps(pack(float("nan"), {}))), {})) == "nan"


def test_what_no_checkpoint_keeps_is_named() -> None:
    cases = {
        "/a/b is a Thing, which no checkpoint keeps: give numbers or tensors.": {"a": {"b": type("Thing", (), {})()}},
        "The state is a set, which no checkpoint keeps: give numbers or tensors.": {1, 2},
        "/x/1 holds Python objects, which no checkpoint keeps: give numbers.": {"x": [0, np.array([{}, None])]},
    }
    for sentence, state in cases.items():
        with pytest.raises(logpi.LogpiError) as refused:
            pack(state, {})
        assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=-1),
        spaces.Box(-np.inf, np.inf, (3,), np.float32),
        spaces.Box(np.array([-1.1, 0.0]), np.array([0.3, np.inf]), dtype=np.float64),
    ],
    ids=str,
)
def test_spaces_come_back_as_they_were(space: spaces.Space) -> None:
    back = spaces_json.space_from_json(json.loads(json.dumps(spaces_json.space_to_json(space))))
    assert back == space and back.dtype == space.dtype


def test_loading_does_not_touch_the_global_generator(tmp_path: Path) -> None:
    saved = checkpoint.save(parts(), tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    logpi.load(saved)
    assert torch.equal(torch.rand(2), expected)


def test_two_values_of_one_name_are_refused() -> None:
    with pytest.raises(logpi.LogpiError, match="has two values that are both called /a/b: give their keys other names"):
        checkpoint.pack({"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}}, {})
