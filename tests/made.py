"""Policies, critics, batches and runs made by hand in float64, for every page and every head."""

import copy
from dataclasses import fields
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from logpi.batch import Batch, Rows
from logpi.critic import build_critic
from logpi.loop import Parts
from logpi.methods import A2C, GRPO, MDPO, NPG, PPO, PPOKL, RLOO, TRPO, ActorCritic, Baseline, Reinforce
from logpi.now import row_scores
from logpi.policy import Policy, build_policy
from logpi.run.setup import optimizers

OBS = spaces.Box(-np.inf, np.inf, (3,), np.float64)
BOX = spaces.Box(np.array([-1.0, 0.0]), np.array([2.0, 0.5]), dtype=np.float64)
HEADS = ("categorical", "gaussian", "squashed", "beta")
PAGES = {
    "reinforce": Reinforce(),
    "reinforce-total": Reinforce(credit="total"),
    "reinforce-from-start": Reinforce(from_start=True),
    "baseline-value": Baseline(from_start=True),
    "baseline-none": Baseline(baseline="none"),
    "baseline-mean": Baseline(baseline="mean"),
    "baseline-time": Baseline(baseline="time"),
    "baseline-leave-one-out": Baseline(baseline="leave_one_out"),
    "baseline-optimal": Baseline(baseline="optimal"),
    "baseline-previous": Baseline(baseline="previous_mean"),
    "actor-critic": ActorCritic(from_start=True),
    "actor-critic-q": ActorCritic(credit="q"),
    "actor-critic-advantage": ActorCritic(credit="advantage", expected=False),
    "a2c": A2C(n=3),
    "npg": NPG(),
    "trpo": TRPO(fisher="kl"),
    "ppo": PPO(value_clip=0.1, from_start=True),
    "ppo-kl": PPOKL(),
    "mdpo": MDPO(),
    "mdpo-estimate-clip": MDPO(kl="estimate", clip=0.2, entropy=0.01),
    "grpo": GRPO(starts=2, group=3),
    "grpo-k3": GRPO(starts=2, group=3, kl=0.1, kl_live=True, entropy=0.01),
    "rloo": RLOO(starts=2, group=3),
    "rloo-kl": RLOO(starts=2, group=3, kl=0.1, max_grad_norm=1.0),
}


class Drift(gym.Env):
    """s' = s + a / 10 in two dimensions from a random start, reward -|s|^2, cut after `limit` steps, over outside 1."""

    observation_space = spaces.Box(-10, 10, (2,), np.float64)
    action_space = spaces.Box(-1, 1, (2,), np.float64)
    limit = 5

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.s, self.age = self.np_random.uniform(-0.8, 0.8, 2), 0
        return self.s.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.s, self.age = self.s + 0.1 * action, self.age + 1
        over = bool((np.abs(self.s) > 1).any())
        return self.s.copy(), -float(self.s @ self.s), over, self.age >= self.limit and not over, {}


def policy_for(
    head: str = "categorical", seed: int = 0, shared: bool = False, hidden: tuple[int, ...] = (5, 4)
) -> Policy:
    """A float64 policy on 3 observations, 3 actions or a Box of 2; its outputs are of size 1, not 0.01."""
    actions = spaces.Discrete(3) if head == "categorical" else BOX
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = build_policy(OBS, actions, "gaussian" if head == "categorical" else head, hidden, shared)
        policy.place("cpu", torch.float64)
        with torch.no_grad():
            for p in policy.parameters():
                p.add_(0.3 * torch.randn_like(p))
    return policy


def critic_for(kind: str | None, policy: Policy, seed: int = 1, hidden: tuple[int, ...] = (5, 4)) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = build_critic(kind, policy, OBS, hidden)
        return None if critic is None else critic.double()


def mask_for(rows: str) -> Tensor:
    """Segments with masked steps inside, at the front and at the tail; episodes and groups padded behind."""
    if rows == "segments":
        mask = torch.ones(3, 8, dtype=torch.bool)
        mask[0, 3], mask[0, 5:7], mask[1, 0], mask[2, 7] = False, False, False, False
        return mask
    lengths = torch.tensor([5, 8, 3, 6, 1, 7])
    mask = torch.arange(8) < lengths[:, None]
    return mask if rows == "episodes" else mask.unflatten(0, (2, 3))


def batch_for(method: Any, policy: Policy, critic: Any = None, seed: int = 2, mask: Tensor | None = None) -> Batch:
    """A random batch of the page's kind with actions that the policy drew; masked slots are zero."""
    mask = mask_for(method.rows) if mask is None else mask
    g, shape = torch.Generator().manual_seed(seed), mask.shape
    obs = torch.randn(*shape, 3, dtype=torch.float64, generator=g)
    reward = torch.randn(shape, dtype=torch.float64, generator=g)
    last = mask & ~torch.nn.functional.pad(mask[..., 1:], (0, 1))
    if method.rows == "segments":
        terminated = (torch.rand(shape, generator=g) < 0.15) & mask
        truncated = (torch.rand(shape, generator=g) < 0.15) & mask & ~terminated
        start = torch.randint(5, shape[:-1], generator=g)
    else:
        cut = torch.rand(shape[:-1], generator=g)[..., None] < 0.5
        terminated, truncated, start = last & ~cut, last & cut, torch.zeros(shape[:-1], dtype=torch.long)
    with torch.no_grad():
        params = policy(obs)
        action = policy.head.sample(params, g)
        log_pi = policy.head.log_prob(params, action)
        log_ref = log_pi + 0.1 * torch.randn(shape, dtype=torch.float64, generator=g)
        version = torch.zeros(shape, dtype=torch.long)
        b = Batch(obs, action, log_pi, params, reward, terminated, truncated, mask, version, start, log_ref=log_ref)
        if critic is not None:
            here = critic.evaluate(policy, policy.trunk(obs), obs, action, g)
            after = {f"{k}_next": torch.randn(shape, dtype=torch.float64, generator=g) for k in here}
            b = b.with_(**here, **after)
    return fill(b, lambda x: torch.zeros((), dtype=x.dtype))


def fill(b: Batch, value: Any) -> Batch:
    """`value(field)` in the masked slots of every field but the mask and `start`."""
    changes = {}
    for x in fields(b):
        field = getattr(b, x.name)
        if isinstance(field, Tensor) and x.name not in ("mask", "start"):
            ours = b.mask.reshape(b.mask.shape + (1,) * (field.dim() - b.mask.dim()))
            changes[x.name] = torch.where(ours, field, value(field))
    return b.with_(**changes)


def parts_for(method: Any, policy: Policy, critic: Any = None, micro: int | None = None, seed: int = 3) -> Parts:
    """A run on copies of the policy and the critic, without environments: ready for `loop.update`."""
    policy, critic = copy.deepcopy(policy), copy.deepcopy(critic)
    made = optimizers(method, "Adam", policy, critic)
    reference = policy_for_reference(policy) if getattr(method, "reference", False) else None
    state = {"iteration": 0, "steps": 0, "horizon": 1000, "progress": 0.0}
    return Parts(method, policy, critic, reference, None, *made, torch.Generator().manual_seed(seed), state, micro)


def policy_for_reference(policy: Policy) -> Policy:
    """Near the policy, not the policy."""
    other = copy.deepcopy(policy)
    with torch.no_grad():
        for i, p in enumerate(other.parameters()):
            p.add_(0.05 * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(i)))
    return other.requires_grad_(False)


def rows_for(method: Any, b: Batch, micro: int | None = None) -> Rows:
    return Rows(b, torch.Generator().manual_seed(0), whole=method.rows != "segments", micro=micro)


def case(method: Any, head: str = "categorical", seed: int = 0) -> tuple[Policy, Any, Batch]:
    """(policy, critic, batch) for a page."""
    policy = policy_for(head, seed)
    critic = critic_for(method.critic, policy, seed + 1)
    b = batch_for(method, policy, critic, seed + 2)
    return policy, critic, b.with_(scores=partial(row_scores, policy, b))
