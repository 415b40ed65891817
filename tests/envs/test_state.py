"""An environment that is saved goes on bit for bit in another process's fresh one, resets included; or says that it cannot."""

import json
import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from keeping import Counter, Draws, Forgets, Global, Objects, Private, Unwrapped, Writes, limited

from logpi import LogpiError, envs
from logpi.errors import EnvironmentFailed
from logpi.run.pack import pack, unpack
from logpi.workers import snapshot
from logpi.workers.guard import Guard

MODES = list(AutoresetMode)


def play(made: Any, steps: int, seed: int = 0) -> list[torch.Tensor]:
    """Everything that `steps` steps of random actions show."""
    generator, found, space = torch.Generator().manual_seed(seed), [], made.action_space
    for _ in range(steps):
        if isinstance(space, spaces.Discrete):
            action = torch.randint(int(space.n), (made.n,), generator=generator)
        else:
            action = 2 * torch.rand(made.n, *space.shape, generator=generator) - 1
        step = made.step(action)
        found += [x for x in step if x is not None]
    return found


def written(state: Any) -> Any:
    """As a checkpoint gives it back."""
    tensors: dict[str, torch.Tensor] = {}
    return unpack(json.loads(json.dumps(pack(state, tensors))), tensors)


def goes_on(env: Any, before: int, pending: bool = False, **how: Any) -> bool:
    """pending: an environment has ended and will be reset in the next step."""
    made = envs.make(env, 3, **{"backend": "sync"} | how)
    made.reset([5, 6, 7])
    play(made, before)
    while pending and not made.pending.any():
        play(made, 1, before)
    state = made.state()
    if state is None:
        return False
    fresh = envs.make(env, 3, **{"backend": "sync"} | how)
    fresh.load_state(written(state))
    shown = play(made, 60, 1)
    for x, y in zip(shown, play(fresh, 60, 1), strict=True):
        assert x.dtype == y.dtype and torch.equal(x, y)
    assert pending or any(bool(x.any()) for x in shown if x.dtype == torch.bool), "some episode must end"
    assert snapshot.same(made.state(), fresh.state()), "both are in one place"
    made.close(), fresh.close()
    return True


SLOW = [("MountainCarContinuous-v0", 970), ("HalfCheetah-v5", 970)]  # for which one mode is enough
QUICK = [("CartPole-v1", 45), ("Pendulum-v1", 170), ("Acrobot-v1", 470), ("FrozenLake-v1", 33), ("Hopper-v5", 45)]


@pytest.mark.parametrize(
    ("env", "before", "autoreset"),
    [
        *((*case, AutoresetMode.SAME_STEP) for case in SLOW),
        *((*case, mode) for case in QUICK for mode in MODES),
    ],
)
def test_sixty_steps_are_the_same_to_the_bit(env: str, before: int, autoreset: AutoresetMode) -> None:
    assert goes_on(env, before, autoreset=autoreset)


def test_a_reset_that_is_due_is_saved_too() -> None:
    assert goes_on("CartPole-v1", 5, pending=True, autoreset=AutoresetMode.NEXT_STEP)


def test_taxi_too_whatever_its_version() -> None:
    taxi = max(name for name in gym.registry if name.startswith("Taxi-"))
    assert goes_on(taxi, 170)


def test_a_state_just_after_a_reset_is_one_too() -> None:
    made, fresh = (envs.make("Pendulum-v1", 2, backend="sync") for _ in range(2))
    made.reset([1, 2])
    fresh.load_state(made.state())
    assert all(torch.equal(x, y) for x, y in zip(play(made, 5), play(fresh, 5), strict=True))


def test_the_arcade_learning_environment_tells_its_state_in_bytes() -> None:
    import ale_py

    gym.register_envs(ale_py)
    one, two = (Guard(lambda: gym.make("ALE/Pong-v5", obs_type="ram"), 0) for _ in range(2))
    one.reset(seed=3)
    for k in range(40):
        one.step(k % 6)
    state = one.state()
    assert state is not None and isinstance(state["layers"][-1], bytes)
    two.load_state(written(state))
    for k in range(100):
        assert snapshot.same(one.step(k * 7 % 6), two.step(k * 7 % 6))


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_its_own_state_is_taken_under_a_time_limit(backend: str) -> None:
    assert goes_on(limited, 33, backend=backend)
    made = envs.make(limited, 3, backend=backend)
    made.reset([5, 6, 7]), play(made, 33)
    layers = [state["layers"] for state in made.state()["envs"]]
    assert all(0 <= steps < 12 and own["total"] > 12 for steps, own in layers)
    made.close()


@pytest.mark.parametrize("env", [Global, Private, Counter, Forgets, Objects, lambda: Unwrapped(Counter())])
def test_what_cannot_come_back_says_so(env: Any) -> None:
    made = envs.make(env, 2, backend="sync")
    made.reset([1, 2])
    play(made, 60)
    assert made.state() is None
    made.reset([1, 2])
    play(made, 3)
    assert made.state() is None or env not in (Global, Private)


def test_an_unknown_layer_is_replayed_through() -> None:
    assert goes_on(lambda: Unwrapped(gym.make("CartPole-v1")), 40)


def test_asking_for_the_state_changes_no_number_even_of_a_global_generator() -> None:
    found = []
    for asked in (False, True):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        made = envs.make(Global, 1, backend="sync")
        made.reset([1])
        first = play(made, 2)
        assert made.guards[0].episode.taken == 2
        assert not asked or made.state() is None
        found.append([*first, *play(made, 20), torch.rand(1), torch.tensor(random.random())])
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def test_a_state_that_does_not_come_back_is_refused_with_the_cure() -> None:
    made = envs.make("Pendulum-v1", 2, backend="sync")
    made.reset([1, 2])
    play(made, 9)
    state = made.state()
    state["envs"][1]["actions"][3] += 0.125
    with pytest.raises(EnvironmentFailed) as said:
        envs.make("Pendulum-v1", 2, backend="sync").load_state(state)
    assert str(said.value) == (
        "Environment 1 (Pendulum-v1) does not come back to where it was when its actions are replayed: "
        "start a new run from its weights with --init."
    )
    assert said.value.number == 1


def test_episodes_too_long_to_be_kept_begin_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "LONGEST", 30)
    made = envs.make("Pendulum-v1", 1, backend="sync")
    made.reset([1])
    play(made, 30)
    assert made.state() is not None
    play(made, 1)
    assert made.state() is None
    play(made, 175)
    assert made.state() is not None, "the next episode is short again"


def test_a_vector_entry_point_has_no_state() -> None:
    made = envs.make("CartPole-v1", 2, backend="vector")
    made.reset([1, 2])
    assert made.state() is None and made.failures == []
    with pytest.raises(LogpiError, match="state was not saved: its episodes start again"):
        made.load_state({})


def test_an_array_that_is_written_again_does_not_change_what_was_given() -> None:
    made = envs.make(Writes, 1, backend="sync")
    kept, action = [made.reset([0])], torch.zeros(1, 2)
    for _ in range(4):
        step = made.step(action)
        kept += [step.final, step.obs]
    assert [float(x[0, 0]) for x in kept] == [-1, 0, 0, 1, 1, 2, 2, 3, -1] and not action.any()


def test_a_generator_that_is_elsewhere_after_the_replay_is_noticed() -> None:
    made = envs.make(Draws, 1, backend="sync")
    made.reset([1]), made.reset([2])
    play(made, 3)
    assert made.state() is None
