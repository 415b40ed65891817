"""NaN and inf put into every place of an update, through the real loop: environments, pages, heads, parameters, hooks."""

import itertools
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from logpi.loop import Parts
from logpi.methods import METHODS
from logpi.run.setup import Settings, assemble

NAN, INF = float("nan"), float("inf")
SMALL = {"envs": 2, "length": 8, "episodes": 3, "starts": 2, "group": 2, "epochs": 2, "minibatches": 2} | {
    "critic_epochs": 2,
    "iterations": 3,
}
RATIO = ("npg", "trpo", "ppo", "ppo_kl", "mdpo", "grpo")
SEPARATE = ("baseline", "npg", "trpo")  # a critic with a fit of its own
JOINT = ("actor_critic", "a2c", "ppo", "ppo_kl", "mdpo")
NATURAL = ("npg", "trpo")
ENV, STEP = 1, 3  # where something is made bad
COUNT = itertools.count()


class Walk(gym.Env):
    """Random observations and rewards; cut after five steps, or after more than a segment. `sick` makes one bad."""

    sick, bad, limit = "", NAN, 5

    def __init__(self, actions: spaces.Space) -> None:
        self.own = np.random.default_rng(next(COUNT))  # two from one seed differ: one of their observations is marked
        self.observation_space, self.action_space = spaces.Box(-10, 10, (2,), np.float64), actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.age = 0
        return self.np_random.normal(size=2), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, reward, t, last = self.own.normal(size=2), float(self.own.normal()), self.age % 8, False
        self.age += 1
        if self.sick == "reward" and t == STEP:
            reward = self.bad
        if self.sick == "obs" and t == STEP - 1:
            obs[1] = self.bad
        if self.sick in ("final", "terminal") and t == STEP:
            obs[0], last = self.bad, True
        terminated = last and self.sick == "terminal"
        return obs, reward, terminated, not terminated and (last or self.age >= self.limit), {}


class DiscreteWalk(Walk):
    def __init__(self) -> None:
        super().__init__(spaces.Discrete(3))


class BoxWalk(Walk):
    def __init__(self) -> None:
        super().__init__(spaces.Box(-1, 1, (2,), np.float64))


class After:
    """A collector that does `then` with the batch, before the update sees it."""

    def __init__(self, collect: Any, then: Any) -> None:
        self.inner, self.then = collect, then

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, policy: Any, critic: Any) -> Any:
        batch = self.inner(policy, critic)
        return self.then(batch) or batch


class Poked:
    """A page some of whose answers are replaced."""

    def __init__(self, method: Any, **members: Any) -> None:
        self.inner, self.__dict__ = method, {"inner": method} | members

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def at(b: Any, x: torch.Tensor) -> torch.Tensor:
    return x.flatten(0, b.mask.dim() - 2)[ENV, STEP]


def with_bad(x: torch.Tensor, b: Any, value: float) -> torch.Tensor:
    x = x.clone()
    x.flatten(0, b.mask.dim() - 2)[ENV, STEP] = value
    return x


def every_call(f: Any, change: Any) -> Any:
    """f whose n-th answer is change(n, answer)."""
    calls = []

    def changed(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        return change(len(calls) - 1, f(*args, **kwargs))

    return changed


def spoil(kind: str) -> Any:
    """An injection in the environment itself."""

    def inject(parts: Parts, bad: float) -> None:
        env = parts.collect.envs.guards[ENV].unwrapped
        env.sick, env.bad = kind, bad

    return inject


def in_action(parts: Parts, bad: float) -> None:
    def change(n: int, action: torch.Tensor) -> torch.Tensor:
        if n == STEP:
            action[ENV, 1] = bad
        return action

    parts.policy.head.sample = every_call(parts.policy.head.sample, change)


def in_log_prob(parts: Parts, bad: float) -> None:
    def change(n: int, log_pi: torch.Tensor) -> torch.Tensor:
        if n == 0:
            log_pi[ENV, STEP] = bad
        return log_pi

    parts.policy.head.log_prob = every_call(parts.policy.head.log_prob, change)


def in_params(parts: Parts, bad: float) -> None:
    def change(n: int, out: torch.Tensor) -> torch.Tensor:
        if n == STEP:
            out[ENV, 0] = bad
        return out

    parts.policy.network.forward = every_call(parts.policy.network.forward, change)


def in_value(parts: Parts, bad: float) -> None:
    def change(n: int, out: torch.Tensor) -> torch.Tensor:
        if n == 0:
            out[ENV, STEP] = bad
        return out

    parts.critic.network.forward = every_call(parts.critic.network.forward, change)


def in_credit(which: int) -> Any:
    def inject(parts: Parts, bad: float) -> None:
        inner = parts.method

        def poked(b: Any, state: Any) -> Any:
            found = list(inner.psi(b, state))
            found[which] = with_bad(found[which], b, bad)
            return found

        parts.method = Poked(inner, psi=poked)

    return inject


def in_objective(parts: Parts, bad: float) -> None:
    inner, marked = parts.method, []

    def poked(now: Any, b: Any, state: Any) -> torch.Tensor:
        return torch.where((b.obs == marked[0]).all(-1), bad, inner.objective(now, b, state))

    parts.method = Poked(inner, objective=poked)
    parts.collect = After(parts.collect, lambda b: marked.append(at(b, b.obs)))


def in_log_pi_of_the_update(parts: Parts, bad: float) -> None:
    """Of one observation, once the rollout is over: whatever minibatch it is in."""
    network, log_prob, marked, hits = parts.policy.network.forward, parts.policy.head.log_prob, [], []

    def forward(obs: torch.Tensor) -> torch.Tensor:
        hits[:] = [(obs == mark).all(-1) for mark in marked]
        return network(obs)

    def poked(params: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        log_pi = log_prob(params, action)
        return torch.where(hits[0], bad, log_pi) if marked else log_pi

    parts.policy.network.forward, parts.policy.head.log_prob = forward, poked
    parts.collect = After(parts.collect, lambda b: marked.append(at(b, b.obs)))


def in_ratio(parts: Parts, bad: float) -> None:
    """Finite log pi, but exp of the difference is not."""
    parts.collect = After(parts.collect, lambda b: b.with_(log_pi=with_bad(b.log_pi, b, -1e4)))


def in_gradient(parts: Parts, bad: float) -> None:
    next(parts.policy.network.parameters()).register_hook(lambda g: g * bad)


def in_critic_gradient(parts: Parts, bad: float) -> None:
    next(parts.critic.parameters()).register_hook(lambda g: g * bad)


def poke(module: torch.nn.Module, bad: float) -> None:
    with torch.no_grad():
        next(module.network.parameters())[0, 1] = bad


def in_parameter(who: str) -> Any:
    def inject(parts: Parts, bad: float) -> None:
        parts.collect = After(parts.collect, lambda b: poke(getattr(parts, who), bad))

    return inject


def in_parameter_by_the_step(parts: Parts, bad: float) -> None:
    inner = parts.method

    def poked(*args: Any) -> Any:
        info = inner.step(*args)
        poke(parts.policy, bad)
        return info

    parts.method = Poked(inner, step=poked)


def in_reference(parts: Parts, bad: float) -> None:
    poke(parts.reference, bad)


EVERY, CRITICS = tuple(METHODS), SEPARATE + JOINT
HERE = ", environment 1, step 3, iteration 2"
MINI = r", epoch 1, minibatch [12]"
LOG = ": look at the policy's log_prob."
WORLD, RATE, PSI = ": look at the environment.", ": lower the learning rate.", ": look at the page's psi."
BOTH, WORLDS = (NAN, INF), ("discrete", "box")
OWN = "parameter network.0.weight, iteration 2"


class Place(NamedTuple):
    """An injection, what the sentence says after "NaN in " or "inf in ", and where there is such a place."""

    inject: Any
    sentence: str
    names: tuple[str, ...] = EVERY
    heads: tuple[str, ...] = WORLDS
    bad: tuple[float, ...] = BOTH


PLACES = {
    "reward": Place(spoil("reward"), "reward" + HERE + WORLD),
    "observation": Place(spoil("obs"), r"obs\[1\]" + HERE + WORLD),
    "final obs": Place(spoil("final"), "value of the final obs" + HERE + WORLD, CRITICS),
    "action": Place(in_action, r"action\[1\]" + HERE + ": look at how the policy samples.", heads=("box",)),
    "log pi": Place(in_log_prob, "log pi" + HERE + LOG),
    "distribution": Place(in_params, r"distribution parameter\[0\]" + HERE + RATE, bad=(NAN,)),
    "value": Place(in_value, "value" + HERE + RATE, CRITICS),
    "psi": Place(in_credit(0), "psi" + HERE + PSI),
    "target": Place(in_credit(1), "target" + HERE + PSI, CRITICS),
    "objective": Place(in_objective, f"objective{HERE}({MINI})?: look at the page's objective."),
    "log pi in the update": Place(in_log_pi_of_the_update, f"log pi{HERE}({MINI})?{LOG}", bad=(NAN,)),
    "ratio": Place(in_ratio, f"importance ratio{HERE}({MINI})?{RATE}", RATIO, bad=(INF,)),
    "gradient": Place(in_gradient, f"gradient of policy {OWN}(, epoch 1, minibatch 1)?{RATE}", bad=(NAN,)),
    "critic's gradient": Place(
        in_critic_gradient, f"gradient of critic {OWN}, epoch 1, minibatch 1{RATE}", CRITICS, bad=(NAN,)
    ),
    "policy parameter": Place(in_parameter("policy"), f"policy {OWN}{RATE}"),
    "critic parameter": Place(in_parameter("critic"), f"critic {OWN}{RATE}", CRITICS),
    "after the step": Place(in_parameter_by_the_step, f"policy {OWN}{RATE}", heads=("discrete",)),
    "reference": Place(
        in_reference,
        "reference log pi, environment 0, step 0, iteration 2: look at the reference policy.",
        ("grpo", "rloo"),
        bad=(NAN,),
    ),
}


def run(name: str, head: str = "discrete", **settings: Any) -> Parts:
    page = METHODS[name]
    more = {"kl": 0.1} if name in ("grpo", "rloo") else {}
    method = page(**{k: v for k, v in SMALL.items() if k in page.__dataclass_fields__}, **more)
    env = DiscreteWalk if head == "discrete" else BoxWalk
    parts = assemble(method, Settings(**{"env": "custom", "steps": 10**6, "hidden": (6,)} | settings), env)
    if method.rows == "segments":
        for each in parts.collect.envs.guards:
            each.unwrapped.limit = 10**6
    return parts
