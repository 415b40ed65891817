"""One environment, watched: what it returns is checked, what it raises is named, where it is can be kept."""

import traceback
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from logpi.errors import EnvironmentFailed, LogpiError, short
from logpi.workers import snapshot
from logpi.workers.snapshot import Episode


def name_of(env: gymnasium.Env) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


class Guard(gymnasium.Wrapper):
    """The outermost layer of environment `number`. Observations are its own copies, in the space's dtype.

    What an environment tells in `info` is dropped: nothing here reads it.
    """

    def __init__(self, construct: Callable[[], gymnasium.Env], number: int) -> None:
        env = construct()
        if not isinstance(env, gymnasium.Env):
            raise LogpiError(
                f"The environment's constructor gave a {type(env).__name__}: it must give a gymnasium.Env."
            )
        super().__init__(env)
        self.construct, self.number, self.name = construct, number, name_of(env)
        space = env.observation_space
        self.shape, self.dtype = space.shape, space.dtype
        self.episode = Episode()
        self.obs: Any = None  # the last one
        self.reward = 0.0  # the last one
        self.proven: set[tuple[Any, ...]] = set()  # ways of coming back that were tried and hold
        self.lost = False  # a way was tried and does not

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.episode.begin(self.env.unwrapped, seed, options)
        try:
            given = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise self._raised(error, "reset") from error
        if not isinstance(given, tuple) or len(given) != 2:
            raise self._wrong("reset", f"a {type(given).__name__}", "(obs, info)")
        self.obs, self.reward = self._checked(given[0], "reset"), 0.0
        return self.obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        action = action.copy() if isinstance(action, np.ndarray) else action
        self.episode.add(action)
        try:
            given = self.env.step(action)
        except Exception as error:
            raise self._raised(error, "step") from error
        if not isinstance(given, tuple) or len(given) != 5:
            found = f"{len(given)} values" if isinstance(given, tuple) else f"a {type(given).__name__}"
            raise self._wrong("step", found, "(obs, reward, terminated, truncated, info)")
        self.obs = self._checked(given[0], "step")
        reward, terminated, truncated = given[1:4]
        if not isinstance(reward, float | np.floating):
            number = np.asarray(reward)
            if number.shape != () or number.dtype.kind not in "fiub":
                raise self._wrong("step", f"the reward {short(repr(reward), 40)}", "one real number")
        for word, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                raise self._wrong("step", f"{word} {short(repr(flag), 40)}", "True or False")
        self.reward = float(reward)
        return self.obs, self.reward, bool(terminated), bool(truncated), {}

    def _checked(self, given: Any, where: str) -> Any:
        """A copy of an observation in the space's dtype; spaces of several parts are left alone."""
        if self.shape is None:
            return given
        try:
            obs = np.asarray(given)
        except ValueError:  # rows of different lengths
            obs = np.array(None)
        if obs.dtype != self.dtype and not np.can_cast(obs.dtype, self.dtype or object, "same_kind"):
            raise self._wrong(where, f"an obs of dtype {obs.dtype}", f"{self.dtype}")
        if obs.shape != self.shape:
            raise self._wrong(where, f"an obs of shape {obs.shape}", f"{self.shape}")
        return obs.astype(self.dtype)

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
        found = None if self.lost or self.shape is None or self.obs is None else snapshot.take(self)
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
