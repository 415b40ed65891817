"""Pages of a user whose objectives the twins must leave to the plain path."""

from typing import Any

import torch

from logpi import objective
from logpi.methods import PPO
from logpi.page import page


@page
class Centred(PPO):
    """Not elementwise."""

    def objective(self, now: Any, b: Any, state: Any) -> Any:
        return super().objective(now, b, state) - 0.1 * (now.entropy - now.entropy.mean()).square()


@page
class TwoFaced(PPO):
    """Does one thing with tensors, another with what only looks like them."""

    def objective(self, now: Any, b: Any, state: Any) -> Any:
        bonus = 0.3 if isinstance(now.entropy, torch.Tensor) else 0.01
        return objective.clip(now.log_pi, b.log_pi, b.psi, self.clip, self.clip) + bonus * now.entropy
