"""A network for rock-paper-scissors whose first policy is (0.84, 0.11, 0.04): equilibrium has to be found, not kept."""

import torch
from torch import nn


def build(inputs: int, outputs: int) -> nn.Module:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([2.0, 0.0, -1.0])[:outputs] if outputs == 3 else torch.zeros(outputs))
    return layer
