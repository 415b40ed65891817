"""One environment, watched: what it returns is checked, what it raises is named, where it is can be kept."""

import traceback
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from logpi.errors import EnvironmentFailed, LogpiError, short
from logpi.layout import Seen, Taken
from logpi.workers import snapshot
from logpi.workers.shown import Allowed
from logpi.workers.snapshot import Episode


def name_of(env: gymnasium.Env) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


BOOLS = (bool, np.bool_)
FLOATS = (float, np.floating)


class Guard(gymnasium.Wrapper):
    """The outermost layer of environment `number`. What the environment tells in `info` is dropped: nothing reads it.

    `obs`, the array that `seen` makes of an observation, is written again by every step and reset; `show_in` says where.
    Actions are arrays, too, as `taken` has them.
    """

    def __init__(self, construct: Callable[[], gymnasium.Env], number: int) -> None:
        env = construct()
        if not isinstance(env, gymnasium.Env):
            raise LogpiError(
                f"The environment's constructor gave a {type(env).__name__}: it must give a gymnasium.Env."
            )
        super().__init__(env)
        self.construct, self.number, self.name = construct, number, name_of(env)
        self.seen, self.taken = Seen(env.observation_space), Taken(env.action_space)
        self.shape, self.dtype = self.seen.shape, self.seen.dtype
        self.allowed = Allowed.of(self.seen, env.action_space)
        self.episode = Episode()
        self.obs: Any = np.zeros(self.shape, self.dtype)  # the last one, as `seen` lays it out
        self.reward = 0.0  # the last one
        self.begun = False  # there is a last one
        self.proven: set[tuple[Any, ...]] = set()  # ways of coming back that were tried and hold
        self.lost = False  # a way was tried and does not

    def show_in(self, row: np.ndarray) -> None:
        """Observations are written there from now on. row [*obs]."""
        row[...] = self.obs
        self.obs = row

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.episode.begin(self.env.unwrapped, seed, options)
        try:
            given = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise self._raised(error, "reset") from error
        if not isinstance(given, tuple) or len(given) != 2:
            raise self._wrong("reset", f"a {type(given).__name__}", "(obs, info)")
        self._show(given[0], "reset")
        self._must_allow("reset")
        self.reward, self.begun = 0.0, True
        return self.obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        terminated, truncated = self.advance(action)
        return self.obs, self.reward, terminated, truncated, {}

    def advance(self, action: Any) -> tuple[bool, bool]:
        """A step, with a copy of the action: (terminated, truncated), the rest is in `obs` and `reward`."""
        if isinstance(action, np.ndarray):
            action = action.copy()
        self.episode.add(action)
        try:
            given = self.env.step(action if self.taken.plain else self.taken.unpack(action))
        except Exception as error:
            raise self._raised(error, "step") from error
        if not isinstance(given, tuple) or len(given) != 5:
            found = f"{len(given)} values" if isinstance(given, tuple) else f"a {type(given).__name__}"
            raise self._wrong("step", found, "(obs, reward, terminated, truncated, info)")
        obs, reward, terminated, truncated, _ = given
        self._show(obs, "step")
        if not isinstance(reward, FLOATS):
            number = np.asarray(reward)
            if number.shape != () or number.dtype.kind not in "fiub":
                raise self._wrong("step", f"the reward {short(repr(reward), 40)}", "one real number")
        for word, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, BOOLS):
                raise self._wrong("step", f"{word} {short(repr(flag), 40)}", "True or False")
        self.reward = float(reward)
        if not (terminated or truncated):
            self._must_allow("step")
        return bool(terminated), bool(truncated)

    def _show(self, given: Any, where: str) -> None:
        """Into `obs`, if it is of the space."""
        if not self.seen.plain:
            self._lay_out(given, where)
            return
        if type(given) is not np.ndarray or given.dtype != self.dtype:
            given = self._array(given, where)
        if given.shape != self.shape:
            raise self._wrong(where, f"an obs of shape {given.shape}", f"{self.shape}")
        self.obs[...] = given

    def _lay_out(self, given: Any, where: str) -> None:
        try:
            self.seen.pack(given, self.obs)
        except (ValueError, TypeError, KeyError, IndexError) as wrong:
            found = f"an obs {short(repr(given), 60)} ({short(str(wrong), 80)})"
            raise self._wrong(where, found, short(str(self.seen.space), 200)) from wrong

    def _must_allow(self, where: str) -> None:
        """What it shows is acted on: masks leave something."""
        if self.allowed is not None and self.allowed.stuck(self.obs):
            raise EnvironmentFailed(self.allowed.sentence(str(self), where), self.number)

    def _array(self, given: Any, where: str) -> np.ndarray:
        try:
            obs = np.asarray(given)
        except ValueError:  # rows of different lengths
            obs = np.array(None)
        if obs.dtype != self.dtype and not np.can_cast(obs.dtype, self.dtype or object, "same_kind"):
            raise self._wrong(where, f"an obs of dtype {obs.dtype}", f"{self.dtype}")
        return obs

    def _wrong(self, where: str, found: str, expected: str) -> EnvironmentFailed:
        return EnvironmentFailed(f"{self} returned {found} from {where}: expected is {expected}.", self.number)

    def _raised(self, error: Exception, where: str) -> EnvironmentFailed:
        return raised(error, where, self.number, self.name)

    def __str__(self) -> str:
        return f"Environment {self.number} ({self.name})"

    def state(self) -> dict[str, Any] | None:
        """All that `load_state` of the same environment, made afresh, needs to go on bit for bit; None: there is no way.

        Whatever way there is, is tried out first on a scratch environment.
        """
        found = None if self.lost or not self.begun else snapshot.take(self)
        kind = None if found is None else snapshot.kind(found)
        if found is not None and kind not in self.proven:
            self.lost = not snapshot.holds(self.construct, found, self.number)
            if kind is not None and kind[-1]:
                self.proven.add(kind)
        return None if self.lost else found

    def load_state(self, state: dict[str, Any]) -> None:
        """Come back to where `state()` was; EnvironmentFailed if the last observation is another one there."""
        snapshot.restore(self, state)


def raised(error: Exception, where: str, number: int, name: str) -> EnvironmentFailed:
    """What an environment raised, with its own traceback."""
    message = short(str(error), 300).rstrip(".")
    details = "".join(traceback.format_exception(error))
    sentence = f"Environment {number} ({name}) raised {type(error).__name__} in {where}"
    return EnvironmentFailed(f"{sentence}: {message}." if message else f"{sentence}.", number, details)
