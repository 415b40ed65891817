"""The factors alone are pure functions of tensors: use them in a loop of your own. Here GAE and PPO's gradient by hand."""

import torch

from logpi import average, objective, psi

T = 6
reward, value = torch.ones(2, T), torch.zeros(2, T)
value_next = torch.full((2, T), 10.0)
terminated, truncated = torch.zeros(2, T, dtype=torch.bool), torch.zeros(2, T, dtype=torch.bool)
terminated[0, 2], truncated[1, 2] = True, True  # row 0 failed at t = 2, row 1 ran out of time

advantage = psi.gae(reward, value, value_next, terminated, truncated, gamma=0.9, lam=0.0)
print("TD errors, terminated:", advantage[0].tolist())
print("TD errors, truncated :", advantage[1].tolist())

mask = torch.ones(2, T, dtype=torch.bool)
log_pi = torch.full((2, T), -0.7, requires_grad=True)
gain = objective.clip(log_pi, log_pi.detach(), psi.standardise(advantage, mask), low=0.2, high=0.2)
average.per_action(gain, mask).backward()
print("gradient = psi / number of actions:", torch.allclose(log_pi.grad, psi.standardise(advantage, mask) / mask.sum()))
