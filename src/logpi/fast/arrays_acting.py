"""Rollouts of CartPole-v1 in NumPy: the policy for n rows, and the environments' own dynamics."""

import numpy as np
import torch
from torch import Tensor

from logpi.envs.cartpole import FORCE, STEP_LIMIT, THETA_LIMIT, X_LIMIT, dynamics
from logpi.envs.native import NUMPY, Native
from logpi.fast.arrays_net import Machine
from logpi.policy import Policy

LIMITS = np.array([[X_LIMIT], [THETA_LIMIT]], np.float32)


def cartpole(
    machine: Machine, envs: Native, policy: Policy, noise: Tensor, whole: bool, going: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """noise [T, n, 2] -> (the next observations, what happened in T steps [n, T, *]); fewer where `whole` episodes ended."""
    steps, n = noise.shape[:2]
    before = envs.generator.get_state() if whole else None
    fresh = envs.starts(steps, n).numpy()
    late = noise.log().transpose(1, 2).contiguous().numpy()
    obs, final, params = (np.empty((steps, size, n), np.float32) for size in (4, 4, 2))
    action, terminated, truncated = (np.empty((steps, n), bool) for _ in range(3))
    s, born, still = envs.s.numpy(), -envs.age.numpy(), None if going is None else going.numpy()  # born: in which step
    normal, net, push = normal_of(policy), machine.at(n)[0], np.float32(FORCE)
    machine.fetch(0, machine.parameters)
    for t in range(steps):
        obs[t] = s
        net.x[:-1] = s if normal is None else normalised(s, *normal)
        params[t] = net.forward()[:2]
        score = params[t] - late[t]
        np.greater(score[1], score[0], action[t])
        s = dynamics(s, np.where(action[t], push, -push), NUMPY)
        final[t] = s
        left, fell = np.greater(np.abs(s[::2]), LIMITS)
        np.logical_or(left, fell, terminated[t])
        np.less_equal(born, t + 1 - STEP_LIMIT, truncated[t])
        ended = terminated[t] | truncated[t]
        if 1 in ended.tobytes():  # ended.any() takes five times as long
            s, born = np.where(ended, fresh[t], s), np.where(ended, t + 1, born)
            if whole:
                still = ~ended if still is None else still & ~ended
                if not still.any():
                    break
    taken = t + 1
    if before is not None:
        envs.generator.set_state(before)
        envs.starts(taken, n)
    envs.s, envs.age = torch.from_numpy(s), torch.from_numpy(taken - born)
    ends = {"terminated": terminated, "truncated": truncated}
    arrays = {"obs": obs, "final": final, "params": params, "action": action} | ends
    out = {name: torch.from_numpy(np.ascontiguousarray(np.moveaxis(x[:taken], -1, 0))) for name, x in arrays.items()}
    out |= {
        "action": out["action"].long(),
        "reward": torch.ones(n, taken),
        "mask": torch.ones(n, taken, dtype=torch.bool),
    }
    return envs.s.T.contiguous(), out | dict.fromkeys(("broken", "going"), torch.zeros(n, taken, dtype=torch.bool))


def normal_of(policy: Policy) -> tuple[np.ndarray, np.ndarray, float] | None:
    """(means, 1 / std, the limit) of the normaliser of observations, [D, 1]."""
    kept = policy.normaliser
    if kept is None:
        return None
    scale = (kept.var + 1e-8).rsqrt()
    return kept.mean.float()[:, None].numpy(), scale.float()[:, None].numpy(), kept.limit


def normalised(obs: np.ndarray, mean: np.ndarray, scale: np.ndarray, limit: float) -> np.ndarray:
    return np.clip((obs - mean) * scale, -limit, limit)
