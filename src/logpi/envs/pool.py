"""Environments of envpool (Weng et al. 2022): many in C++ threads, by envpool's own ids."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from logpi.envs.gym import Gymnasium
from logpi.errors import LogpiError, nearest
from logpi.workers.work import cores


def quiet(make: Callable[[], Any]) -> Any:
    """Without Gymnasium's word about the precision of the limits of envpool's spaces."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


class Pool(gymnasium.vector.VectorEnv):
    """Seeds are given when it is made, so a seeded reset makes it anew. An end shows its own observation, the step after it resets."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, name: str, n: int, options: dict[str, Any]) -> None:
        self.make: dict[str, Any] = {"task_id": name, "num_envs": n, "num_threads": min(n, cores())} | options
        self.num_envs, self.pool = n, self._made(0)
        self.single_observation_space, self.single_action_space = quiet(
            lambda: (self.pool.observation_space, self.pool.action_space)
        )
        self.kind = np.int32 if isinstance(self.single_action_space, gymnasium.spaces.Discrete) else np.float64

    def _made(self, seed: int) -> Any:
        import envpool  # an extra

        return quiet(lambda: envpool.make_gymnasium(**self.make, seed=seed))

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.pool.close()
            self.pool = self._made(int(seed) % 2**31)
        return quiet(self.pool.reset)

    def step(self, actions: np.ndarray) -> Any:
        return self.pool.step(actions.astype(self.kind))

    def close(self, **_: Any) -> None:
        self.pool.close()


def envpool(name: str, n: int, options: dict[str, Any]) -> Gymnasium:
    """options: of `envpool.make`, such as max_episode_steps."""
    try:
        import envpool as package
    except ModuleNotFoundError as missing:
        raise LogpiError('--backend envpool needs envpool: pip install "logpi[envpool]".') from missing
    known = package.list_all_envs()
    if name not in known:
        raise LogpiError(f"envpool has no environment {name!r}.{nearest(name, known)}")
    return Gymnasium(Pool(name, n, options), backend="envpool")
