"""Rollouts with the fused policy: CartPole-v1 whole in one call, every other environment with one call a step."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from logpi.batch import Batch
from logpi.envs.native import Native
from logpi.fast import passes, rolling, survey
from logpi.fast.machine import Machine, address
from logpi.policy import Policy


def normal_of(policy: Policy) -> np.ndarray:
    """What the kernels know of the normaliser of observations: means, 1 / std, the limit; empty where there is none."""
    kept = policy.normaliser
    if kept is None:
        return np.zeros(0, np.float32)
    scale = (kept.var + 1e-8).rsqrt()
    return torch.cat([kept.mean, scale, kept.mean.new_tensor([kept.limit])]).float().numpy()


def place(x: np.ndarray) -> int:
    """The address of an array; null where it is empty."""
    return address(x) if x.size else 0


def prepare(machine: Machine) -> None:
    tensors = machine.tensors()
    rolling.prepare(*machine.own(tensors))


def cartpole(
    machine: Machine, envs: Native, policy: Policy, noise: Tensor, whole: bool, going: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """noise [T, n, 2] -> (the next observations, what happened in T steps [n, T, *]); fewer where `whole` episodes ended."""
    steps, n = noise.shape[:2]
    before = envs.generator.get_state() if whole else None
    fresh = envs.starts(steps, n)
    out = {
        "obs": torch.empty(n, steps, 4),
        "final": torch.empty(n, steps, 4),
        "params": torch.empty(n, steps, 2),
        "action": torch.empty(n, steps, dtype=torch.long),
        "log_pi": torch.empty(n, steps),
        "terminated": torch.empty(n, steps, dtype=torch.bool),
        "truncated": torch.empty(n, steps, dtype=torch.bool),
    }
    state, age, normal = envs.s.clone(memory_format=torch.contiguous_format), envs.age.clone(), normal_of(policy)
    tensors = machine.tensors()
    rolling.cartpole(
        *machine.own(tensors), place(normal),
        *(x.data_ptr() for x in (noise, state, age, fresh)), n, steps, *(x.data_ptr() for x in out.values()),
    )  # fmt: skip
    envs.s, envs.age = state, age
    more = {"reward": torch.ones(n, steps), "mask": torch.ones(n, steps, dtype=torch.bool)}
    out |= more | dict.fromkeys(("broken", "going"), torch.zeros(n, steps, dtype=torch.bool))
    if before is not None:
        ended = (out["terminated"] | out["truncated"])[going if going is not None else slice(None)]
        if bool(ended.any(1).all()):  # the plain loop stops here: leave its generator's state, too
            needed = int(ended.long().argmax(1).amax()) + 1
            envs.generator.set_state(before)
            envs.starts(needed, n)
            out = {name: x[:, :needed] for name, x in out.items()}
    return state.T.contiguous(), out


def collect(control: Any, machine: Machine, critic: Machine | None, policy: Policy) -> Batch:
    """`Control.__call__` for segments of CartPole: every action is ours, every reward 1."""
    n, steps = control.envs.n, control.length
    noise = policy.head.noise((steps, n), next(policy.parameters()), control.generator)
    control.obs, x = cartpole(machine, control.envs, policy, noise, False, None)
    obs, final, reward = x["obs"], x["final"], x["reward"]
    ended, start = x["terminated"] | x["truncated"], control.steps_before.clone()
    lengths = np.empty(n * steps, np.int64)
    over = passes.episodes(ended.data_ptr(), control.steps_before.data_ptr(), n, steps, address(lengths))
    control.recent.extend((float(length), length) for length in lengths[:over].tolist())
    control.finished += over
    control.length_before, control.return_before = control.steps_before.clone(), control.steps_before.double()
    if policy.normaliser is not None:
        control.unseen_obs = obs.flatten(0, 1)
        obs, final = policy.normalise(obs), policy.normalise(final)
    if policy.return_normaliser is not None:
        control.unseen_returns = control._discounted_returns(reward, ended, x["mask"])
        reward = policy.return_normaliser(reward)
    flags = x["terminated"], x["truncated"], x["mask"]
    batch = Batch(
        obs, x["action"], x["log_pi"], x["params"], reward, *flags, torch.full((n, steps), control.version), start
    )
    return batch if critic is None else look(critic, batch, final, control.recompute)


def look(critic: Machine, b: Batch, final: Tensor, again: bool) -> Batch:
    """`Control._look`."""
    value, following = survey.values(critic, b.obs, final, b.ended)
    return b.with_(
        value=value, value_next=following, look=(lambda rows: look(critic, rows, final, again)) if again else None
    )
