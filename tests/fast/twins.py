"""What the tests of the fused twins share: policies and batches by hand, a gradient both ways, and two runs side by side."""

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

import logpi
from logpi.batch import Batch, Rows
from logpi.critic import build_critic
from logpi.fast.fused import Fused
from logpi.loop import Parts, Record, loop
from logpi.now import Surrogate
from logpi.policy import Policy, build_policy
from logpi.run.setup import Settings, assemble, find_method

OBS = spaces.Box(-np.inf, np.inf, (5,), np.float32)
SMALL = {"envs": 4, "length": 16, "episodes": 3, "starts": 2, "group": 3, "critic_epochs": 3, "n": 4}


class Asked:
    """A page that is nothing but an objective and weights; `weights(mask)` differ from action to action."""

    value_coef, value_clip, rows, critic = None, None, "segments", "v"

    def __init__(self, objective: Callable[[Any, Any], Any], **more: Any) -> None:
        self.objective = lambda now, b, state: objective(now, b)
        self.__dict__ |= more

    def average(self, mask: Tensor) -> Tensor:
        return torch.linspace(0.5, 1.5, mask.numel()).reshape(mask.shape).double() / mask.numel()


def box(d: int) -> spaces.Box:
    low = -1 - np.arange(d, dtype=np.float32)
    return spaces.Box(low, np.linspace(0.5, 3, d, dtype=np.float32))


def pair(
    head: str = "categorical",
    size: int = 3,
    hidden: tuple[int, ...] = (13,),
    shared: bool = False,
    seed: int = 0,
    network: Any = None,
    gain: float = 0.3,
) -> tuple[Policy, Any]:
    """(policy, its V) with parameters of size `gain` away from their beginnings."""
    actions = spaces.Discrete(size) if head == "categorical" else box(size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = build_policy(
            OBS, actions, "gaussian" if head == "categorical" else head, hidden, shared, network=network
        )
        critic = build_critic("v", policy, OBS, hidden, network)
        with torch.no_grad():
            for p in (*policy.parameters(), *critic.parameters()):
                p.add_(gain / math.sqrt(p.shape[-1]) * torch.randn_like(p))
    return policy, critic


def batch(policy: Policy, n: int, seed: int = 1, apart: float = 0.1, loud: float = 1.0) -> Batch:
    """n actions that another policy drew, `apart` from this one; observations of size `loud`."""
    g = torch.Generator().manual_seed(seed)
    old = copy.deepcopy(policy)
    with torch.no_grad():
        for p in old.parameters():
            p.add_(apart * torch.randn(p.shape, generator=g))
        obs = loud * torch.randn(n, 5, generator=g)
        params = old(obs)
        action = old.head.sample(params, g)
        log_pi = old.head.log_prob(params, action)
    other = {
        name: torch.randn(n, generator=g) for name in ("reward", "value", "value_next", "log_ref", "psi", "target")
    }
    reward = other.pop("reward")
    terminated, truncated = (torch.rand(n, generator=g) < 0.2 for _ in range(2))
    version = torch.zeros(n, dtype=torch.long)
    ends = terminated, truncated, torch.ones(n, dtype=torch.bool)
    return Batch(obs, action, log_pi, params, reward, *ends, version, None, **other)


def doubled(x: Any) -> Any:
    """A module or a batch in float64."""
    if isinstance(x, Batch):
        return x.map(lambda t: t.double() if t.is_floating_point() else t)
    return None if x is None else copy.deepcopy(x).double()


def plain_gradient(page: Any, policy: Policy, critic: Any, b: Batch) -> tuple[float, list[Tensor]]:
    """(surrogate, its gradient by every parameter), by autograd in the precision of what is given."""
    params = [*policy.parameters(), *(critic.parameters() if page.value_coef is not None else ())]
    rows = Rows(b, torch.Generator())
    surrogate = Surrogate(page, policy, critic, rows, {})
    value = sum(surrogate(rows.batch))
    return float(value.detach()), list(torch.autograd.grad(value, params, materialize_grads=True))


def fused_gradient(page: Any, policy: Policy, critic: Any, b: Batch) -> tuple[float, list[Tensor]]:
    """The same by the kernels, from one call that takes no step."""
    joint = page.value_coef is not None
    fused = Fused(policy, critic, joint)
    assert fused.main is not None, fused.reasons
    params = [*policy.parameters(), *(critic.parameters() if joint else ())]
    rows, optimizer = Rows(b, torch.Generator()), torch.optim.Adam(params, eps=1e-5, fused=True)
    surrogate = Surrogate(page, policy, critic, rows, {}, fused)
    ascent = fused.ascent(fused.main, surrogate, rows, optimizer, None)
    index, weight, bounds = ascent.minibatches(1, 1)
    before = [p.detach().clone() for p in params]
    taken, found = ascent.call(index, weight, bounds, -1.0)
    assert taken == 0 and all(
        torch.equal(p.nan_to_num(7), q.nan_to_num(7)) for p, q in zip(params, before, strict=True)
    )
    grad = torch.from_numpy(fused.main.grad.copy())
    of = {id(p): grad[at : at + p.numel()].reshape(p.shape) for p, at in fused.main.pieces}
    return float(found[2]), [of[id(p)] for p in params]


def norm(x: list[Tensor]) -> float:
    return float(torch.stack([t.double().square().sum() for t in x]).sum().sqrt())


def check_gradient(page: Any, policy: Policy, critic: Any, b: Batch, within: float = 1e-5) -> None:
    """The kernels' surrogate and gradient are the exact ones, or no further from them than three times torch's in float32."""
    value, exact = plain_gradient(page, doubled(policy), doubled(critic), doubled(b))
    single, plain = plain_gradient(page, policy, critic, b)
    found, grad = fused_gradient(page, policy, critic, b)
    assert abs(found - value) <= within * (1 + abs(value)) + 3 * abs(single - value), (found, value)
    off, usual = (norm([x - y for x, y in zip(g, exact, strict=True)]) for g in (grad, plain))
    assert off <= within * norm(exact) + 3 * usual + 1e-7, (off, usual, norm(exact))


def pendulum() -> gym.Env:
    """Cut after 20 steps."""
    return gym.make("Pendulum-v1", max_episode_steps=20)


def parts(method: Any, env: Any = "CartPole-v1", fast: str = "auto", **given: Any) -> Parts:
    """A small run; fields of the page and settings by name."""
    names = {f.name for f in dataclasses.fields(Settings)}
    fields = {f.name for f in dataclasses.fields(logpi.METHODS[method] if isinstance(method, str) else method)}
    page = {k: v for k, v in (SMALL | given).items() if k in fields}
    settings = {k: v for k, v in given.items() if k in names}
    own, network = env if callable(env) else None, settings.pop("network", None)
    settings = {"steps": 100_000, "seed": 3, "fast": fast, "env": "custom" if own else env} | settings
    return assemble(find_method(method, page), Settings(**settings), own, network)


def run(made: Parts, iterations: int = 2) -> list[Record]:
    return [record for _, record in zip(range(iterations), loop(made), strict=False)]


def counted(monkeypatch: Any, name: str = "ascend") -> list[bool]:
    """One entry for each call of a method of Fused: did it do it?"""
    calls, plain = list[bool](), getattr(Fused, name)

    def counting(*args: Any, **kwargs: Any) -> Any:
        found = plain(*args, **kwargs)
        calls.append(found is not None)
        return found

    monkeypatch.setattr(Fused, name, counting)
    return calls


def weights(made: Parts) -> list[Tensor]:
    """Everything that training moves."""
    modules = [made.policy, *([made.critic] if made.critic is not None else [])]
    return [p.detach() for m in modules for p in m.parameters()]


def check_alike(one: Parts, other: Parts, first: list[Record], second: list[Record], within: float = 2e-5) -> None:
    """Metrics and parameters are equal to float tolerance."""
    assert len(first) == len(second)
    for x, y in zip(first, second, strict=True):
        assert x.metrics.keys() == y.metrics.keys()
        for name, number in x.metrics.items():
            same = math.isnan(number) and math.isnan(y[name])
            assert same or abs(number - y[name]) <= 1e-3 * (1e-2 + abs(number)), (name, number, y[name])
    off = max(float((p - q).abs().max()) for p, q in zip(weights(one), weights(other), strict=True))
    assert off <= within, off


def check_both_ways(
    method: Any, env: Any, iterations: int = 2, within: float = 2e-5, **given: Any
) -> tuple[Parts, Parts]:
    """A fused run and the plain one train alike; both."""
    fused, plain = parts(method, env, "auto", **given), parts(method, env, "off", **given)
    assert plain.fused is None
    check_alike(fused, plain, run(fused, iterations), run(plain, iterations), within)
    return fused, plain
