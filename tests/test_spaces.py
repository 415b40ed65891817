"""What may be shown and taken: each pair of spaces is trained on, saved, loaded, asked, evaluated and written to a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from everything import Anything, Words
from gymnasium import spaces

import logpi
from logpi import LogpiError
from logpi.loop import loop
from logpi.methods import PPO
from logpi.run import checkpoint
from logpi.run.evaluate import evaluate
from logpi.run.export import export
from logpi.run.setup import Settings, assemble

VECTOR = spaces.Box(-1, 1, (2,), np.float32)  # of a size that no layer has
KIND_AND_FORCE = spaces.Dict({"kind": spaces.Discrete(3), "force": spaces.Box(-1, 1, (2,), np.float32)})
WORLDS: dict[str, tuple[spaces.Space, spaces.Space, dict[str, Any]]] = {
    "hybrid": (VECTOR, KIND_AND_FORCE, {}),
    "hybrid of the state": (VECTOR, KIND_AND_FORCE, {"log_std": "state"}),
    "hybrid beta": (VECTOR, KIND_AND_FORCE, {"head": "beta"}),
    "bytes of one axis": (spaces.Box(0, 255, (12,), np.uint8), spaces.Discrete(3), {}),
    "a table of choices": (VECTOR, spaces.MultiDiscrete([[2, 3], [4, 2]]), {}),
    "whole numbers": (VECTOR, spaces.Box(-3, 4, (2,), np.int64), {}),
    "whole numbers, beta": (VECTOR, spaces.Box(-3, 4, (2,), np.int64), {"head": "beta"}),
    "sides that float32 has not": (VECTOR, spaces.Box(-0.1, 0.1, (2,), np.float64), {"log_std_init": 2.0}),
    "few pixels": (spaces.Box(0, 255, (3, 3), np.uint8), spaces.Discrete(3), {}),
    "a stack of colours": (spaces.Box(0, 255, (2, 9, 8, 3), np.uint8), spaces.Discrete(3), {}),
    "a mission": (
        spaces.Dict(
            {"direction": spaces.Discrete(4), "image": spaces.Box(0, 255, (7, 7, 3), np.uint8), "mission": Words()}
        ),
        spaces.Discrete(7),
        {},
    ),
}


@pytest.mark.filterwarnings("ignore:The policy does not see")
@pytest.mark.parametrize("fast", ["auto", "off"])
@pytest.mark.parametrize("name", WORLDS)
def test_a_world_is_trained_saved_asked_evaluated_and_written(name: str, fast: str, tmp_path: Path) -> None:
    shown, taken, more = WORLDS[name]
    given = Settings(**{"env": "custom", "hidden": (11,), "steps": 10**6, "fast": fast} | more)
    parts = assemble(PPO(envs=2, length=12, minibatches=2), given, lambda: Anything(shown, taken))
    for _ in zip(range(2), loop(parts), strict=False):
        pass
    policy = logpi.load(checkpoint.save(parts, tmp_path / "saved"))
    for _ in range(5):
        action = policy.act(shown.sample())
        assert taken.contains(action if not isinstance(taken, spaces.Discrete) else int(action)), action
    assert evaluate(policy, lambda: Anything(shown, taken), 3, deterministic=False).returns == [5.0] * 3
    assert export(policy, tmp_path / "policy.pt2") < 1e-5


@pytest.mark.parametrize("fast", ["auto", "off"])
def test_whole_numbers_are_the_nearest(fast: str) -> None:
    given: list[Any] = []

    class Keeps(Anything):
        def step(self, action: Any) -> Any:
            given.append(action)
            return super().step(action)

    settings = Settings(env="custom", hidden=(11,), fast=fast, log_std_init=1.0)  # type: ignore[arg-type]
    made = assemble(PPO(envs=1, length=64), settings, lambda: Keeps(VECTOR, spaces.Box(-3, 4, (2,), np.int64)))
    drawn = next(iter(loop(made))).batch.action[0].numpy()
    assert np.array_equal(np.stack(given), np.clip(drawn, -3, 4).round()) and (np.abs(drawn % 1) > 0.5).any()


def test_text_that_is_not_seen_is_named() -> None:
    shown, taken, _ = WORLDS["a mission"]
    with pytest.warns(UserWarning, match="The policy does not see mission: it is text"):
        assemble(PPO(envs=2, length=12), Settings(env="custom"), lambda: Anything(shown, taken))


def test_bfloat16_without_a_picture_is_refused() -> None:
    with pytest.raises(LogpiError, match="--bf16 is for the networks of pictures, and there is none here"):
        assemble(PPO(envs=2, length=12), Settings(env="custom", bf16=True), lambda: Anything(VECTOR, KIND_AND_FORCE))
