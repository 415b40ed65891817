"""What a mask must leave: one action of every choice wherever one is to be taken, on every backend that shows masks."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from logpi import envs
from logpi.envs.gym import Gymnasium
from logpi.errors import EnvironmentFailed
from logpi.workers.guard import Guard

NOTHING = "returned an action_mask that allows nothing from {}: expected is one action at least of every choice."
PARTS = spaces.MultiDiscrete([2, 3])


class Masked(gym.Env):
    """Shows the masks of a list, one after the other; the last one ends the episode."""

    def __init__(self, actions: spaces.Space, masks: list[list[int]]) -> None:
        self.action_space, self.masks = actions, np.array(masks, np.int8)
        shown = {"x": spaces.Box(-1, 1, (1,), np.float32), "action_mask": spaces.MultiBinary(len(masks[0]))}
        self.observation_space = spaces.Dict(shown)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.t = 0
        return self._now(), {}

    def _now(self) -> dict[str, Any]:
        return {"x": np.zeros(1, np.float32), "action_mask": self.masks[self.t]}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._now(), 0.0, self.t == len(self.masks) - 1, False, {}


class Half(Masked):
    """Rules out all of the second part in its first step."""

    def __init__(self) -> None:
        super().__init__(PARTS, [[1, 1, 0, 1, 0], [1, 0, 0, 0, 0], [1] * 5])


def after_a_step(construct: Any) -> Guard:
    guard = Guard(construct, 3)
    guard.reset()
    guard.advance(np.array([0, 1]))
    return guard


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_a_part_of_which_nothing_is_left_is_named(backend: Any) -> None:
    made = envs.make(Half, 2, backend, workers=1)
    made.reset([1, 2])
    with pytest.raises(EnvironmentFailed) as said:
        made.step(torch.tensor([[0, 1], [0, 1]]))
    made.close()
    assert str(said.value) == f"Environment 0 (Half) {NOTHING.format('step')}"


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_vector_environments_masks_are_looked_at_too(mode: AutoresetMode) -> None:
    made = Gymnasium(gym.vector.SyncVectorEnv([Half, Half], autoreset_mode=mode))
    made.reset([1, 2])
    with pytest.raises(EnvironmentFailed) as said:
        made.step(torch.tensor([[0, 1], [0, 1]]))
    assert str(said.value) == f"Environment 0 {NOTHING.format('step')}" and said.value.number == 0


@pytest.mark.parametrize("mode", AutoresetMode)
def test_where_it_has_ended_nothing_needs_to_be_left(mode: AutoresetMode) -> None:
    def over() -> gym.Env:
        return Masked(PARTS, [[1] * 5, [0] * 5])

    assert not after_a_step(over).obs[after_a_step(over).allowed.place].any()
    made = Gymnasium(gym.vector.SyncVectorEnv([over, over], autoreset_mode=mode))
    made.reset([1, 2])
    assert made.step(torch.zeros(2, 2, dtype=torch.long)).terminated.all()


def test_coins_may_all_have_to_stay_no() -> None:
    coins = after_a_step(lambda: Masked(spaces.MultiBinary(2), [[0, 0], [0, 0], [1, 1]]))
    assert coins.allowed is not None and not coins.allowed.stuck(coins.obs)
    both = spaces.Dict({"a": spaces.MultiBinary(2), "b": spaces.Discrete(2)})
    assert Guard(lambda: Masked(both, [[0, 0, 0, 1], [1] * 4]), 0).reset() is not None
    with pytest.raises(EnvironmentFailed, match="allows nothing from reset"):
        Guard(lambda: Masked(both, [[1, 1, 0, 0], [1] * 4]), 0).reset()


class Told(gym.Env):
    """Tells its mask in the info, but not when it is over."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(1, np.float32), {"action_mask": [1, 0]}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 0.0, True, False, {}


def test_a_mask_in_the_info_may_be_missing_at_the_end() -> None:
    made = envs.make(envs.construction(Told, masks="info"), 1, "sync")
    made.reset([1])
    step = made.step(torch.zeros(1, dtype=torch.long))
    assert step.final[0].sum() == 2 and step.obs[0].sum() == 1 and bool(step.terminated)


def test_masks_of_several_choices_may_be_a_tuple_as_gymnasium_takes_them() -> None:
    class Both(Told):
        action_space = PARTS

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return np.zeros(1, np.float32), {"action_mask": (np.array([1, 0]), np.array([0, 1, 1]))}

    made = envs.make(envs.construction(Both, masks="info"), 1, "sync")
    assert made.reset([1])[0].tolist() == [1, 0, 0, 1, 1, 0]
