"""Where an environment is: by its own get_state and set_state, or by what its episode began from and its actions since."""

import contextlib
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from logpi.chance import untouched
from logpi.errors import EnvironmentFailed
from logpi.workers import wire
from logpi.workers.shown import MaskShown

LONGEST = 100_000  # actions of an episode that are kept
KNOWN = {
    TimeLimit: "_elapsed_steps",
    OrderEnforcing: "_has_reset",
    PassiveEnvChecker: None,
    MaskShown: None,
}  # layer: its state


class Episode:
    """What an episode began from, and the actions since."""

    def __init__(self) -> None:
        self.whole = False  # nothing is missing
        self.seed: int | None = None
        self.generator: dict[str, Any] | None = None  # before the reset, where no seed was given
        self.taken, self.room, self.kept = 0, 0, np.zeros(0)  # of `kept`; room: taken may come to this as things are

    def begin(self, env: gymnasium.Env, seed: int | None, options: dict[str, Any] | None) -> None:
        self.seed, self.taken, self.room = seed, 0, 0
        self.generator = draws_of(env) if seed is None else None
        self.whole = not options and (seed is not None or self.generator is not None)

    def add(self, action: Any) -> None:
        if self.taken == self.room and not self._make_room(action):
            return
        self.kept[self.taken] = action
        self.taken += 1

    def _make_room(self, action: Any) -> bool:
        """False: the actions are not kept."""
        if not self.whole:
            return False
        if self.taken == 0:
            like = np.asarray(action)
            if like.shape != self.kept.shape[1:] or like.dtype != self.kept.dtype or not len(self.kept):
                self.kept = np.zeros((64, *like.shape), like.dtype)
        elif self.taken == len(self.kept):
            self.kept = np.concatenate([self.kept, np.zeros_like(self.kept)])
        self.whole = self.taken < LONGEST and not self.kept.dtype.hasobject
        if not self.whole:
            self.taken, self.room, self.kept = 0, 0, np.zeros(0)
            return False
        self.room = min(len(self.kept), LONGEST)
        return True

    @property
    def actions(self) -> np.ndarray:
        return self.kept[: self.taken].copy()


def draws_of(env: gymnasium.Env) -> dict[str, Any] | None:
    """The state of the environment's random generator; None where it is not Gymnasium's."""
    generator = getattr(getattr(env, "np_random", None), "bit_generator", None)
    return None if generator is None else dict(generator.state)


def set_draws(env: gymnasium.Env, state: dict[str, Any] | None) -> None:
    if state is not None:
        env.np_random.bit_generator.state = state


def take(guard: Any) -> dict[str, Any] | None:
    """guard: the Guard of the environment."""
    env, episode, layers = guard.env.unwrapped, guard.episode, offered(guard.env)
    last = {"now": draws_of(env), "obs": np.array(guard.obs), "reward": guard.reward}
    if layers is not None:
        return {"layers": layers} | last
    if not episode.whole:
        return None
    return {"seed": episode.seed, "generator": episode.generator, "actions": episode.actions} | last


def kind(state: dict[str, Any]) -> tuple[Any, ...]:
    """What one trial proves: the way of coming back. Its last part: whether the trial takes a step at all."""
    return ("layers", True) if "layers" in state else ("replay", state["seed"] is None, len(state["actions"]) > 0)


def restore(guard: Any, state: dict[str, Any]) -> None:
    if "layers" in state:
        guard.env.reset()
        set_offered(guard.env, state["layers"])
        set_draws(guard.env.unwrapped, state["now"])
        guard.obs[...] = state["obs"]
        guard.reward, guard.begun, guard.episode.whole = state["reward"], True, False
        return
    set_draws(guard.env.unwrapped, state["generator"])
    guard.reset(seed=state["seed"])
    for action in state["actions"]:
        guard.step(action)
    if not same(
        [guard.obs, guard.reward, draws_of(guard.env.unwrapped)], [state["obs"], state["reward"], state["now"]]
    ):
        reason = "does not come back to where it was when its actions are replayed"
        raise EnvironmentFailed(f"{guard} {reason}: start a new run from its weights with --init.", guard.number)


def holds(construct: Callable[[], gymnasium.Env], state: dict[str, Any], number: int) -> bool:
    """Does an environment made afresh come to this state? Whatever it draws, global generators go on as before."""
    from logpi.workers.guard import Guard

    with untouched():
        scratch = None
        try:
            scratch = Guard(construct, number)
            restore(scratch, state)
            return "layers" not in state or same(offered(scratch.env), state["layers"])
        except Exception:
            return False
        finally:
            if scratch is not None:
                with contextlib.suppress(Exception):
                    scratch.close()


def same(x: Any, y: Any) -> bool:
    """To the bit."""
    return wire.encode(x) == wire.encode(y)


def layers_of(env: gymnasium.Env) -> list[gymnasium.Env]:
    """From the outermost wrapper to the environment itself."""
    return [env, *layers_of(env.env)] if isinstance(env, gymnasium.Wrapper) else [env]


def offers(layer: gymnasium.Env, *names: str) -> bool:
    return all(callable(getattr(type(layer), name, None)) for name in names)


def offered(env: gymnasium.Env) -> list[Any] | None:
    """The state of every layer, if every layer tells it."""
    found: list[Any] = []
    for layer in layers_of(env):
        if type(layer) in KNOWN:
            name = KNOWN[type(layer)]
            found.append(None if name is None else getattr(layer, name))
        elif offers(layer, "get_state", "set_state"):
            try:
                wire.encode(state := layer.get_state())  # type: ignore[attr-defined]
            except TypeError:  # it wants arguments, or gives what no file keeps
                return None
            found.append(state)
        elif offers(layer, "clone_state", "restore_state"):  # of the Arcade Learning Environment
            found.append(layer.clone_state(include_rng=True).__getstate__())  # type: ignore[attr-defined]
        else:
            return None
    return found


def set_offered(env: gymnasium.Env, states: list[Any]) -> None:
    for layer, state in zip(reversed(layers_of(env)), reversed(states), strict=True):
        if type(layer) in KNOWN:
            name = KNOWN[type(layer)]
            if name is not None:
                setattr(layer, name, state)
        elif offers(layer, "set_state"):
            layer.set_state(state)
        else:
            blank = layer.clone_state()
            layer.restore_state(type(blank)(state))
