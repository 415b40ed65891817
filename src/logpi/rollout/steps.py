"""The record of a rollout before anything is said of it, and its episodes."""

from typing import NamedTuple

import torch
from torch import Tensor


class Steps(NamedTuple):
    """What was seen and done; one step [n, ...], or a rollout [n, T, ...]."""

    obs: Tensor  # raw
    action: Tensor
    params: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    mask: Tensor
    final: Tensor  # the observation before any reset
    broken: Tensor  # the environment failed here: no reward, no end, and its next episode follows
    going: Tensor  # what ended here is no whole game


def never_ends(steps: int) -> str:
    limit = "gymnasium.wrappers:TimeLimit(max_episode_steps=1000)"
    return f"An episode has not ended after {steps} steps: give it a limit, --wrap '{limit}'."


def first_episodes(x: Steps) -> Steps:
    """Of every row the episode that it began: `mask` ends with it, and the rows with the longest."""
    ended = (x.terminated | x.truncated).long()
    mask = ended.cumsum(1) - ended == 0
    longest = int(mask.sum(1).amax())
    return Steps(*(part[:, :longest] for part in x._replace(mask=mask, broken=x.broken & mask)))


def without_broken(x: Steps) -> Steps:
    """Whole episodes: what a row holds up to its last break goes, and the episode after it begins the row."""
    slot = torch.arange(x.broken.shape[1], device=x.broken.device)
    skip = torch.where(x.broken, slot + 1, 0).amax(1, keepdim=True)
    order = (slot + skip) % len(slot)
    mask = x.mask & (slot >= skip)
    row = torch.arange(len(order), device=order.device)[:, None]
    moved = Steps(*(part[row, order] for part in x._replace(mask=mask, broken=torch.zeros_like(mask))))
    longest = int(moved.mask.sum(1).amax())
    return Steps(*(part[:, :longest] for part in moved))
