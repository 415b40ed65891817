"""From a method, an environment and settings to the parts of a run; and `learn`, the whole in one call."""

import copy
import dataclasses
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import torch

from logpi import envs
from logpi.critic import build_critic
from logpi.device import heed_bf16, pick
from logpi.errors import LogpiError, nearest
from logpi.layout import Seen, is_text, leaves
from logpi.loop import Parts, Record, loop
from logpi.methods import METHODS
from logpi.now import joint_coef
from logpi.page import Between, Count, Finite, Positive, check, option, page
from logpi.policy import Policy, build_policy
from logpi.policy.encoder import Picture
from logpi.rollout.control import Control
from logpi.run import language
from logpi.run.language import Text
from logpi.run.load import KINDS, load
from logpi.run.optimizers import optimizers
from logpi.run.paths import is_path, load_object
from logpi.run.worlds import kind_of, must_be_one, must_mean_something

LARGE = 32 * 32  # of a picture, and
WIDE = 512  # units of a layer from which on a matrix product is worth several threads


@page
class Settings:
    """Of a run, whatever the method."""

    env: str = "CartPole-v1"  # a Gymnasium id, a native one, or ./file.py:MyEnv
    steps: Count = 100_000  # actions to take in all
    seed: Annotated[int, Between(0, 2**63 - 1)] = 0  # of networks, environments and sampling
    backend: envs.Backend = "auto"  # what steps the environments; async: processes, for slow ones
    workers: Count | None = None  # processes of --backend async; else found by a trial
    step_timeout: Positive = 60.0  # seconds after which a worker's step is given up
    on_failure: Literal["fail", "restart"] = "fail"  # of an environment in a worker
    env_options: tuple[str, ...] = ()  # key=value, of the environment's constructor
    wrap: tuple[str, ...] = ()  # ./file.py:MyWrapper or gymnasium.wrappers:Name, the first innermost
    masks: Literal["obs", "info"] = "obs"  # where action_mask is told: a key of the observation, or the info
    head: Literal["gaussian", "squashed", "beta"] = "gaussian"  # density on a Box
    log_std: Literal["free", "state"] = "free"  # of a Gaussian: one for all states, or from the network
    log_std_init: Finite = 0.0  # where it begins
    hidden: tuple[Count, ...] = (64, 64)  # widths of the hidden layers; a picture alone has its own
    pictures: Literal["auto", "nature", "impala", "small"] = "auto"  # network of uint8 [H, W, C] or [C, H, W]
    memory: Literal["none", "gru", "lstm"] = "none"  # of the episode so far, as wide as the last hidden layer
    network: str | None = None  # ./file.py:build, build(inputs, outputs) -> module
    shared: bool = False  # policy and critic share all layers but the last; pictures and memory always
    normalise_obs: bool = False  # observations to mean 0, std 1
    normalise_reward: bool = True  # rewards over the std of the discounted return
    clip_reward: bool = False  # rewards to their sign, as is usual for Atari; returns are told as they are
    optimizer: str = "Adam"  # any of torch.optim
    reference: str | None = None  # run whose policy is pi_ref; else the first policy
    micro: Count = 4096  # steps (or whole episodes) through the networks at once: memory only
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"  # where tensors live
    dtype: Literal["float32", "float64"] = "float32"  # of parameters and data
    bf16: bool = False  # a picture's network computes in bfloat16: faster where the hardware has it, coarser
    fast: Literal["auto", "off"] = "auto"  # fused twins of what they cover, with logpi[fast]; else NumPy's
    threads: Count | None = None  # of torch; else one, and all cores for layers wider than 512
    measure_gradient: Annotated[int, Between(0)] = 0  # iterations between measurements of the gradient's noise; 0: none

    where = property(lambda self: self.env)


def learn(method: Any = "ppo", env: str | Callable[[], gym.Env] = "CartPole-v1", **settings: Any) -> Iterator[Record]:
    """Train, one record per iteration: `for record in logpi.learn("ppo", "CartPole-v1", steps=50_000, clip=0.1): ...`.

    method: a name of METHODS, a page (class or instance), or an import path. Keywords are fields of the page or of
    `Settings`; with a `task` a language model is trained, and they are of `Text`, whose `engine` may be an object, too.
    record["return"] is the mean of the last 100 episodes, record.policy acts, record.save(folder) writes a checkpoint that
    `logpi.load` reads. Sets torch's threads for the process.
    """
    kind = kind_of(settings)
    names = {f.name for f in dataclasses.fields(kind)}
    fields = {k: settings.pop(k) for k in list(settings) if k not in names}
    page = find_method(method, fields)
    must_be_one({*settings, *fields} | ({"env"} if env != Settings.env else set()), page, kind)
    if kind is Text:
        engine = settings.pop("engine", None)
        own = None if isinstance(engine, str) else engine
        text = Text(**settings, engine=engine if own is None else "custom")
        must_mean_something({*settings, *fields}, page, text)
        return records(assemble(page, text, engine=own))
    network = settings.pop("network", None)
    given = Settings(
        **settings, env=env if isinstance(env, str) else "custom", network=network if isinstance(network, str) else None
    )
    must_mean_something({*settings, *fields}, page, given)
    return records(assemble(page, given, env, None if isinstance(network, str) else network))


def records(parts: Parts) -> Iterator[Record]:
    """The loop, which closes what it collects from when it is left."""
    try:
        yield from loop(parts)
    finally:
        parts.collect.close()


def find_method(method: Any, fields: dict[str, Any] | None = None) -> Any:
    """A page from a name, an import path, a class or an instance; checked to be one."""
    if isinstance(method, str):
        if not is_path(method) and method not in METHODS:
            raise LogpiError(f"There is no method {method!r}.{nearest(method, METHODS)}")
        method = load_object(method) if is_path(method) else METHODS[method]
    name = method.__name__ if isinstance(method, type) else type(method).__name__
    missing = [x for x in ("psi", "objective", "average", "step", "rows", "critic") if not hasattr(method, x)]
    if missing or not dataclasses.is_dataclass(method):
        raise LogpiError(
            f"{name} is not a method page: it needs to be a dataclass with psi, objective, average, step, rows and critic."
        )
    known = [f.name for f in dataclasses.fields(method)]
    taken = {f.name for kind in (Settings, Text) for f in dataclasses.fields(kind)} & {*known}
    if taken:
        raise LogpiError(f"{name}.{min(taken)} is the name of a setting of every run: give the field another name.")
    for field in fields or {}:
        if field not in known:
            raise LogpiError(f"Neither {name} nor the run's settings have {field!r}.{nearest(field, known)}")
    made: Any = method(**fields or {}) if isinstance(method, type) else dataclasses.replace(method, **fields or {})
    check(made)
    if made.rows not in ("segments", "episodes", "groups"):
        raise LogpiError(f"{name}.rows is {made.rows!r}: there is segments, episodes and groups.")
    return made


def assemble(
    method: Any,
    settings: Settings | Text,
    env: Any = None,
    network: Any = None,
    name: str | None = None,
    weights: Path | None = None,
    engine: Any = None,
) -> Parts:
    """Everything that `loop` needs, built from one seed. `env`, `network` and `engine` may be objects of the caller's.

    name: how the method was asked for, which a checkpoint's config.toml keeps. weights: a checkpoint that will be restored.
    """
    if isinstance(settings, Text):
        return language.assemble(method, settings, name or name_of(method), weights, engine)
    device, dtype = pick(settings.device), getattr(torch, settings.dtype)
    network = load_object(settings.network) if network is None and settings.network else network
    if network is not None and (not callable(network) or isinstance(network, torch.nn.Module)):
        raise LogpiError(
            f"The network {settings.network or network!r} must be a function build(inputs, outputs) -> module."
        )
    seeds = torch.randint(2**31, (4,), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    made = environments(method, settings, env, device, dtype)
    torch.set_num_threads(threads(settings, made.observation_space))
    if unread := [path for path, leaf in leaves(made.observation_space) if is_text(leaf)]:
        names = ", ".join(".".join(map(str, path)) for path in unread)
        warnings.warn(f"The policy does not see {names}: it is text.", stacklevel=2)
    policy, critic = networks(method, settings, made, network, seeds[0])
    policy.place(device, dtype)
    if critic is not None:
        critic.to(device, dtype)
    optimizer, critic_optimizer = optimizers(method, settings.optimizer, policy, critic)
    fused = twins(policy, critic, joint_coef(method) is not None, settings)
    return Parts(
        method=method,
        policy=policy,
        critic=critic,
        reference=reference_policy(method, settings, policy, network),
        collect=collector(method, settings, made, fused, seeds),
        optimizer=optimizer,
        critic_optimizer=critic_optimizer,
        generator=torch.Generator().manual_seed(seeds[3]),
        state={"iteration": 0, "steps": 0, "horizon": settings.steps, "progress": 0.0},
        micro=settings.micro,
        fused=fused,
        measure_gradient=settings.measure_gradient,
        config={
            "method": {"name": name or name_of(method)} | dataclasses.asdict(method),
            "run": dataclasses.asdict(settings),
        },
    )


def collector(method: Any, settings: Settings, made: envs.Environments, fused: Any, seeds: list[int]) -> Control:
    return Control(
        made,
        method.rows,
        torch.Generator(pick(settings.device)).manual_seed(seeds[1]),
        seeds[2],
        option(method, "length"),
        option(method, "group") if method.rows == "groups" else 1,
        option(method, "gamma"),
        fused,
        settings.clip_reward,
        option(method, "recompute"),
    )


def environments(method: Any, settings: Settings, env: Any, device: str, dtype: torch.dtype) -> envs.Environments:
    """As many as the page's rows need; env: the caller's own."""
    if isinstance(env, gym.Env):
        raise LogpiError("An environment is given by its constructor, as several are made: env=lambda: gym.make(...).")
    asked = env if env is not None and not isinstance(env, str) else settings.env
    group = option(method, "group") if method.rows == "groups" else 1
    sizes = {"segments": option(method, "envs"), "episodes": option(method, "episodes")}
    n = sizes.get(method.rows, option(method, "starts") * group)
    must_be_several(n // group, method.rows, settings.measure_gradient)
    must_part(n, method, settings.memory)
    return envs.make(
        envs.construction(asked, settings.env_options, settings.wrap, settings.masks),
        n,
        settings.backend,
        device=device,
        dtype=dtype,
        seeded=method.rows == "groups",
        workers=settings.workers,
        step_timeout=settings.step_timeout,
        on_failure=settings.on_failure,
    )


def twins(policy: Policy, critic: Any, joint: bool, settings: Settings) -> Any:
    """The fast twins, or None: where they are off, or nothing of them can run here."""
    if settings.fast == "off" or settings.dtype != "float32" or pick(settings.device) != "cpu":
        return None
    try:
        from logpi.fast.fused import Fused  # an extra
    except ImportError:
        from logpi.fast.arrays import Arrays

        return Arrays(policy, critic, joint)
    return Fused(policy, critic, joint)


def threads(settings: Settings, observations: gym.Space | None = None) -> int:
    """As many as asked for; else one: for small layers a barrier costs more than it saves, and far more beside a neighbour."""
    pictures = [] if observations is None else Seen(observations).of("picture")
    large = any(piece.end - piece.begin >= LARGE for piece in pictures)
    wide = large or (settings.network is None and max(settings.hidden, default=0) > WIDE)
    return settings.threads or (os.cpu_count() or 1 if wide else 1)


def must_be_several(units: int, rows: str, measure_gradient: int) -> None:
    """The noise of a gradient shows between independent rows only: segments, episodes, or groups."""
    if measure_gradient and units < 2:
        cure = {"segments": "--envs", "episodes": "--episodes", "groups": "--starts"}[rows]
        raise LogpiError(f"--measure-gradient compares independent rows, and here is one: give {cure} 2 or more.")


def name_of(method: Any) -> str:
    """Of a page: its key in METHODS, or where it was defined."""
    kind = type(method)
    return next((name for name, page in METHODS.items() if page is kind), f"{kind.__module__}:{kind.__qualname__}")


def networks(method: Any, settings: Settings, made: envs.Environments, network: Any, seed: int) -> tuple[Policy, Any]:
    """Policy and critic, initialised on the CPU from the seed alone: the same on every device."""
    chosen = {k: getattr(settings, k) for k in KINDS}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = build_policy(made.observation_space, made.action_space, **chosen, network=network)
        critic = build_critic(method.critic, policy, made.observation_space, settings.hidden, network)
    for picture in (*policy.modules(), *(critic.modules() if critic is not None else ())):
        if isinstance(picture, Picture):
            picture.bf16 = policy.bf16 = settings.bf16
    if settings.bf16 and not policy.bf16:
        raise LogpiError("--bf16 is for the networks of pictures, and there is none here: leave it away.")
    if settings.bf16:
        heed_bf16(pick(settings.device))
    policy.spec = chosen | {"observations": made.observation_space, "actions": made.action_space}
    policy.spec |= {"network": settings.network or ("custom" if network is not None else None)}
    return policy, critic


def reference_policy(method: Any, settings: Settings, policy: Policy, network: Any) -> Policy | None:
    """pi_ref, frozen, for a page that asks for one."""
    if not option(method, "reference"):
        if settings.reference:
            raise LogpiError("This page has no KL to a reference policy: ppo, grpo and rloo with --kl above 0 do.")
        return None
    frozen = load(settings.reference, network) if settings.reference else copy.deepcopy(policy)
    frozen.must_fit(policy.spec["observations"], policy.spec["actions"])
    return frozen.place(pick(settings.device), getattr(torch, settings.dtype)).requires_grad_(False)


def must_part(rows: int, method: Any, memory: str) -> None:
    """With a memory, minibatches are whole rows."""
    parts = getattr(method, "minibatches", 1)
    if memory != "none" and method.rows == "segments" and parts > rows:
        raise LogpiError(
            f"With --memory, minibatches are of whole rows, and {rows} cannot be parted into {parts}:"
            " give more --envs or fewer --minibatches."
        )
