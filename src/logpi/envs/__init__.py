"""Environments: a batch of them behind one contract, whatever steps them. `make` picks the fastest correct backend."""

from collections.abc import Callable
from typing import Any, Literal

import gymnasium
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from logpi.envs.base import Environments, Step
from logpi.envs.cartpole import CartPole
from logpi.envs.gym import Gymnasium
from logpi.envs.tabular import TABULAR
from logpi.errors import LogpiError, nearest

__all__ = ["NATIVE", "Backend", "Environments", "Step", "make"]

Backend = Literal["auto", "native", "vector", "sync", "async"]
NATIVE: dict[str, Callable[..., Any]] = {"CartPole-v1": CartPole} | TABULAR
EXTRAS = {"mujoco": "mujoco", "box2d": "box2d", "Box2D": "box2d", "ale": "atari", "swig": "box2d"}


def make(
    env: str | Callable[[], gymnasium.Env],
    n: int,
    backend: Backend = "auto",
    autoreset: AutoresetMode = AutoresetMode.SAME_STEP,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    seeded: bool = False,
) -> Environments:
    """n environments of a Gymnasium id, of a native one, or of a constructor.

    backend: 'native' steps tensors, 'vector' is the environment's own vector entry point, 'sync' a loop in this process;
    'auto' takes the first there is, and 'seeded' leaves out what cannot start two environments from one seed.
    """
    if isinstance(env, str) and env in NATIVE and backend in ("auto", "native"):
        return NATIVE[env](n=n, device=device, dtype=dtype)
    if backend == "native":
        raise LogpiError(f"There is no native {env}: use --backend auto. Native are {', '.join(NATIVE)}.")
    if not isinstance(env, str):
        return Gymnasium(_sync(env, n, autoreset), "sync")
    spec = _spec(env)
    if backend == "vector" or (backend == "auto" and spec.vector_entry_point is not None and not seeded):
        if spec.vector_entry_point is None:
            raise LogpiError(f"{env} has no vector entry point of its own: use --backend auto.")
        return Gymnasium(gymnasium.make_vec(env, n, vectorization_mode="vector_entry_point"), "vector")
    return Gymnasium(_sync(lambda: gymnasium.make(env, disable_env_checker=True), n, autoreset), "sync")


def _sync(construct: Callable[[], gymnasium.Env], n: int, autoreset: AutoresetMode) -> SyncVectorEnv:
    try:
        return SyncVectorEnv([construct] * n, autoreset_mode=autoreset)
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as missing:
        extra = next((EXTRAS[word] for word in EXTRAS if word in str(missing)), None)
        cure = f'pip install "logpi[{extra}]"' if extra else "install what it names"
        raise LogpiError(
            f"The environment needs a package that is not installed ({_line(missing)}): {cure}."
        ) from missing
    except (gymnasium.error.Error, TypeError, AttributeError) as wrong:
        raise LogpiError(f"The environment could not be made: {_line(wrong)}.") from wrong


def _spec(env: str) -> Any:
    try:
        return gymnasium.spec(env)
    except gymnasium.error.NamespaceNotFound as unknown:
        cure = 'pip install "logpi[atari]"' if env.startswith("ALE/") else "import the package that registers it"
        raise LogpiError(f"There is no environment {env!r}, and none of its namespace: {cure}.") from unknown
    except gymnasium.error.Error as unknown:
        known = [*gymnasium.registry, *NATIVE]
        raise LogpiError(f"There is no environment {env!r}.{nearest(env, known)}") from unknown
    except ModuleNotFoundError as missing:
        raise LogpiError(
            f"The environment {env!r} needs a module that is not installed: {_line(missing)}."
        ) from missing


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
