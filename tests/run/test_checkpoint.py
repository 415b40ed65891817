"""Checkpoints appear whole or not at all, are verified to the byte, and are never written over."""

import json
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
from logpi.run.setup import Settings, assemble

FILES = ["manifest.json", "policy.json", "policy.safetensors", "trainer.json", "trainer.safetensors"]


def build(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 5), nn.ReLU(), nn.Linear(5, outputs))


def wider(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 6), nn.ReLU(), nn.Linear(6, outputs))


def parts(iterations: int = 1, network: Any = None, **settings: Any) -> Parts:
    made = assemble(PPO(envs=2, length=8), Settings(**{"hidden": (4,), "steps": 1000} | settings), network=network)
    for _, _ in zip(range(iterations), loop(made), strict=False):
        pass
    return made


def test_a_checkpoint_is_five_files_and_leaves_nothing_else(tmp_path: Path) -> None:
    saved = checkpoint.save(parts(2), tmp_path / "checkpoints")
    assert saved == tmp_path / "checkpoints" / "step-000000000032"
    assert sorted(f.name for f in saved.iterdir()) == FILES and list(saved.parent.iterdir()) == [saved]
    manifest = json.loads((saved / "manifest.json").read_text())
    assert sorted(manifest["sha256"]) == FILES[1:]


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
    del manifest["sha256"]["policy.safetensors"]
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(logpi.LogpiError):
        logpi.load(saved)


def test_another_format_is_refused(tmp_path: Path) -> None:
    saved = checkpoint.save(parts(), tmp_path)
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(logpi.LogpiError, match="has format 99"):
        logpi.load(saved)


def test_an_existing_checkpoint_is_left_as_it_is(tmp_path: Path) -> None:
    made = parts()
    saved = checkpoint.save(made, tmp_path)
    before = {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in saved.iterdir()}
    with torch.no_grad():
        next(made.policy.parameters()).add_(1.0)
    assert checkpoint.save(made, tmp_path) == saved
    assert {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in saved.iterdir()} == before


def test_a_write_that_breaks_off_leaves_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, good = parts(), checkpoint.save(parts(2), tmp_path / "checkpoints")

    def full(path: Path) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(checkpoint, "flush", full)
        checkpoint.save(made, tmp_path / "checkpoints")
    assert checkpoint.newest(tmp_path) == good and [f.name for f in good.parent.glob("step-*")] == [good.name]
    saved = checkpoint.save(made, tmp_path / "checkpoints")
    checkpoint.verify(saved)
    assert sorted(f.name for f in good.parent.iterdir()) == [saved.name, good.name]


def test_the_newest_is_the_one_with_most_steps(tmp_path: Path) -> None:
    made, saved = parts(0, steps=10**9), []
    for steps in (999_999_999, 5, 70_000):
        made.state["steps"] = steps
        saved.append(checkpoint.save(made, tmp_path / "checkpoints"))
    assert checkpoint.newest(tmp_path) == saved[0] and checkpoint.newest(saved[1]) == saved[1]
    with pytest.raises(logpi.LogpiError, match="has no checkpoint"):
        checkpoint.newest(tmp_path / "nowhere")


@pytest.mark.parametrize("shared", [False, True])
def test_a_network_of_ones_own_is_asked_for(shared: bool, tmp_path: Path) -> None:
    made = parts(network=build, shared=shared)
    saved, obs = checkpoint.save(made, tmp_path), np.ones((3, 4), np.float32)
    with pytest.raises(logpi.LogpiError, match=r"network of yours.*pass it again"):
        logpi.load(saved)
    with pytest.raises(logpi.LogpiError, match="do not fit the network"):
        logpi.load(saved, network=wider)
    assert np.array_equal(logpi.load(saved, network=build).act(obs), made.policy.act(obs))


def test_what_is_packed_comes_back(tmp_path: Path) -> None:
    x = {
        "a": [1, 2.5, None, "x", True],
        3: {"b": torch.arange(3)},
        "deep": [{"c": torch.tensor(1.5, dtype=torch.float64)}],
    }
    tensors: dict[str, torch.Tensor] = {}
    packed = json.loads(json.dumps(checkpoint.pack(x, tensors)))
    back = checkpoint.unpack(packed, tensors)
    assert str(back) == str(x) and list(back) == list(x)


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
