"""Environments: a batch of them behind one contract, whatever steps them. `make` picks the fastest correct backend."""

import sys
from collections.abc import Callable
from typing import Any, Literal

import gymnasium
import torch
from gymnasium.vector import AutoresetMode

from logpi.envs.base import Environments, InArrays, SendReceive, Step, StepArrays
from logpi.envs.cartpole import CartPole
from logpi.envs.gym import Gymnasium
from logpi.envs.loop import Loop
from logpi.envs.tabular import TABULAR
from logpi.envs.workers import Workers
from logpi.errors import LogpiError, nearest, short
from logpi.workers.construct import Registered
from logpi.workers.guard import Guard

__all__ = ["NATIVE", "Backend", "Environments", "InArrays", "SendReceive", "Step", "StepArrays", "make"]

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
    workers: int | None = None,
    step_timeout: float = 60.0,
    on_failure: Literal["fail", "restart"] = "fail",
) -> Environments:
    """n environments of a Gymnasium id, of a native one, or of a constructor.

    backend: 'native' steps tensors, 'vector' is the environment's own vector entry point, 'sync' a loop in this process,
    'async' slices of them in `workers` processes; 'auto' takes the first there is of native, vector and sync, and
    'seeded' leaves out what cannot start two environments from one seed.
    on_failure: async may 'restart' what broke, with new episodes; the others fail.
    """
    if on_failure == "restart" and backend != "async":
        raise LogpiError(f"--on-failure restart is for environments in processes: use --backend async, not {backend}.")
    if isinstance(env, str) and env in NATIVE and backend in ("auto", "native"):
        return NATIVE[env](n=n, device=device, dtype=dtype)
    if backend == "native":
        raise LogpiError(f"There is no native {env}: use --backend auto. Native are {', '.join(NATIVE)}.")
    construct: Callable[[], gymnasium.Env] = Registered(_spec(env)) if isinstance(env, str) else env
    spec = construct.spec if isinstance(construct, Registered) else None
    own = spec if spec is not None and spec.vector_entry_point is not None else None  # it steps itself
    if backend == "vector" and own is None:
        name = "A constructor" if spec is None else spec.id
        raise LogpiError(f"{name} has no vector entry point of its own: use --backend auto.")
    if own is not None and (backend == "vector" or (backend == "auto" and not seeded)):
        return Gymnasium(gymnasium.make_vec(own, n, vectorization_mode="vector_entry_point"))
    if backend == "async":
        return Workers(construct, _constructed(lambda: Guard(construct, 0)), n, workers, step_timeout, on_failure)
    return _constructed(lambda: Loop(construct, n, autoreset))


def _constructed(construct: Callable[[], Any]) -> Any:
    """What it makes; a package that is not there, or a wrong argument, in one sentence."""
    try:
        return construct()
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as missing:
        extra = next((EXTRAS[word] for word in EXTRAS if word in str(missing)), None)
        cure = f'pip install "logpi[{extra}]"' if extra else "install what it names"
        raise LogpiError(
            f"The environment needs a package that is not installed ({_line(missing)}): {cure}."
        ) from missing
    except (gymnasium.error.Error, TypeError, AttributeError) as wrong:
        raise LogpiError(f"The environment could not be made: {_line(wrong)}.") from wrong


def _spec(env: str) -> Any:
    """The entry of an id; the module that an id may name is never imported here."""
    module, _, name = env.rpartition(":")
    if module and module not in sys.modules:
        raise LogpiError(f"{short(repr(env))} names a module that is not imported: pass --import {short(module)}.")
    try:
        return gymnasium.spec(name)
    except gymnasium.error.NamespaceNotFound as unknown:
        cure = 'pip install "logpi[atari]"' if name.startswith("ALE/") else "import the package that registers it"
        raise LogpiError(f"There is no environment {short(repr(env))}, and none of its namespace: {cure}.") from unknown
    except gymnasium.error.Error as unknown:
        known = [*gymnasium.registry, *NATIVE]
        raise LogpiError(f"There is no environment {short(repr(env))}.{nearest(short(name), known)}") from unknown


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
