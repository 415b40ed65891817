"""Environments: a batch of them behind one contract, whatever steps them. `make` picks the fastest correct backend."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, Literal, get_args

import gymnasium
import torch
from gymnasium.vector import AutoresetMode

from logpi.envs.acrobot import ACROBOT
from logpi.envs.atari import atari
from logpi.envs.base import Environments, InArrays, SendReceive, Step, StepArrays
from logpi.envs.cartpole import CARTPOLE, CARTPOLE_WITHOUT_VELOCITIES
from logpi.envs.gym import Gymnasium
from logpi.envs.loop import Loop
from logpi.envs.mountain_car import MOUNTAIN_CAR, MOUNTAIN_CAR_CONTINUOUS
from logpi.envs.native import Native
from logpi.envs.pendulum import PENDULUM
from logpi.envs.pool import envpool
from logpi.envs.tabular import TABULAR
from logpi.envs.tensors import Tensors
from logpi.envs.workers import Workers
from logpi.errors import LogpiError, nearest, short
from logpi.run.paths import is_path
from logpi.workers.construct import Around, Built, ByPath, Registered, option, registered
from logpi.workers.game import ATARI, Game
from logpi.workers.guard import Guard

__all__ = ["NATIVE", "Backend", "Environments", "InArrays", "SendReceive", "Step", "StepArrays", "construction", "make"]

Backend = Literal["auto", "native", "vector", "sync", "async", "envpool"]
TASKS = {
    "CartPole-v1": CARTPOLE,
    "CartPoleNoVel-v1": CARTPOLE_WITHOUT_VELOCITIES,
    "Acrobot-v1": ACROBOT,
    "MountainCar-v0": MOUNTAIN_CAR,
    "MountainCarContinuous-v0": MOUNTAIN_CAR_CONTINUOUS,
    "Pendulum-v1": PENDULUM,
}
NATIVE: dict[str, Callable[..., Any]] = {name: partial(Native, task) for name, task in TASKS.items()} | TABULAR
EXTRAS = {"mujoco": "mujoco", "box2d": "box2d", "Box2D": "box2d", "ale": "atari", "swig": "box2d"}


def make(
    env: str | Callable[[], gymnasium.Env] | Built,
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
    'async' slices of them in `workers` processes, 'envpool' envpool's of that id.
    'auto' takes the first there is of native, vector and sync, and
    'seeded' leaves out what cannot start two environments from one seed.
    on_failure: async may 'restart' what broke, with new episodes; the others fail.
    """
    if backend not in get_args(Backend):
        raise LogpiError(f"There is no backend {backend!r}.{nearest(str(backend), get_args(Backend))}")
    if on_failure == "restart" and backend != "async":
        raise LogpiError(f"--on-failure restart is for environments in processes: use --backend async, not {backend}.")
    asked = env if isinstance(env, Built) else Built(env)
    if asked.base in NATIVE and asked.alone and not asked.options and backend in ("auto", "native"):
        return NATIVE[asked.base](n=n, device=device, dtype=dtype)
    if getattr(made := asked.base.load() if isinstance(asked.base, ByPath) else asked.base, "tensors", False) is True:
        if not asked.alone or backend != "auto":
            raise LogpiError(f"{asked} steps in tensors by itself: leave away --wrap, --masks info and --backend.")
        return _constructed(lambda: Tensors(partial(made, **dict(asked.options)), n, device, dtype))
    if backend == "native":
        if asked.base in NATIVE:
            raise LogpiError(f"A native {asked} has no --wrap, --env-options or --masks info: use --backend auto.")
        raise LogpiError(f"There is no native {asked}: use --backend auto. Native are {', '.join(NATIVE)}.")
    if backend == "envpool":
        if not isinstance(asked.base, str) or not asked.alone:
            raise LogpiError("--backend envpool makes environments of envpool's own ids, without wrappers.")
        if seeded:
            raise LogpiError("envpool cannot start two environments from one seed: use a method without groups.")
        return _constructed(lambda: envpool(str(asked.base), n, dict(asked.options)))
    construct = asked
    if isinstance(asked.base, str):
        construct = replace(asked, base=registered(spec_of(asked.base), dict(asked.options)))
    if backend == "vector" or (backend == "auto" and not seeded):
        found = _steps_itself(construct, n)
        if found is not None:
            return found
        if backend == "vector":
            name = construct.base.spec.id if isinstance(construct.base, Registered | Game) else "A constructor"
            raise LogpiError(f"{name} has no vector entry point of its own: use --backend auto.")
    if backend == "async":
        return Workers(construct, _constructed(lambda: Guard(construct, 0)), n, workers, step_timeout, on_failure)
    return _constructed(lambda: Loop(construct, n, autoreset))


def construction(
    env: str | Callable[[], gymnasium.Env], options: Sequence[str] = (), wrap: Sequence[str] = (), masks: str = "obs"
) -> Built:
    """What `make` takes for an environment as the settings describe it.

    options: 'key=value' of its constructor; wrap: gymnasium wrappers, see `Around`, the first innermost; masks: 'info'
    shows info["action_mask"] beside the observation.
    """
    base = ByPath.of(env) if isinstance(env, str) and is_path(env) else env
    return Built(base, tuple(map(option, options)), tuple(map(Around.of, wrap)), masks == "info")


def _steps_itself(construct: Built, n: int) -> Gymnasium | None:
    """By the vector environment that its id has; None: it has none, or there is something around it."""
    if not isinstance(construct.base, Registered | Game) or not construct.alone:
        return None
    spec, options = construct.base.spec, dict(construct.options)
    if isinstance(construct.base, Game):
        return _constructed(lambda: atari(spec, n, options))
    if spec.vector_entry_point is None or spec.entry_point == ATARI:  # whose vector environment shows pictures alone
        return None
    entry = "vector_entry_point"
    return _constructed(lambda: Gymnasium(gymnasium.make_vec(spec, n, vectorization_mode=entry, **options)))


def _constructed(construct: Callable[[], Any]) -> Any:
    """What it makes; a package that is not there, or a wrong argument, in one sentence."""
    try:
        return construct()
    except LogpiError:
        raise
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as missing:
        extra = next((EXTRAS[word] for word in EXTRAS if word in str(missing)), None)
        cure = f'pip install "logpi[{extra}]"' if extra else "install what it names"
        raise LogpiError(
            f"The environment needs a package that is not installed ({_line(missing)}): {cure}."
        ) from missing
    except Exception as wrong:
        raise LogpiError(f"The environment could not be made: {type(wrong).__name__}: {_line(wrong)}.") from wrong


def spec_of(env: str) -> Any:
    """The entry of an id; the module that an id may name is never imported here."""
    module, _, name = env.rpartition(":")
    if module and module not in sys.modules:
        raise LogpiError(f"{short(repr(env))} names a module that is not imported: pass --import {short(module)}.")
    if name.startswith("ALE/") or "NoFrameskip-v" in name:
        with contextlib.suppress(ModuleNotFoundError):
            gymnasium.register_envs(import_module("ale_py"))  # whose ids these are
    try:
        return gymnasium.spec(name)
    except gymnasium.error.NamespaceNotFound as unknown:
        cure = 'pip install "logpi[atari]"' if name.startswith("ALE/") else "import the package that registers it"
        raise LogpiError(f"There is no environment {short(repr(env))}, and none of its namespace: {cure}.") from unknown
    except gymnasium.error.Error as unknown:
        if env in NATIVE:
            around = "--wrap, --env-options, --masks info and other backends"
            raise LogpiError(f"{env} is there in tensors alone, --backend native: leave away {around}.") from unknown
        known = [*gymnasium.registry, *NATIVE]
        raise LogpiError(f"There is no environment {short(repr(env))}.{nearest(short(name), known)}") from unknown


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
