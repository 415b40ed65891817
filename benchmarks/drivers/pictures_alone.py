"""What the arithmetic of one iteration takes: the Nature CNN's passes over its batch by plain torch, and nothing else."""

import time

import torch
from clock import asked, tell
from torch import nn

torch.set_num_threads(asked["threads"])
net = nn.Sequential(
    nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 1), nn.ReLU(),
    nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 5),
)  # fmt: skip
net = net.to(memory_format=torch.channels_last)
envs, rows = asked["envs"], asked["envs"] * asked["length"]
x = torch.rand(rows, 4, 84, 84).contiguous(memory_format=torch.channels_last)


def iteration() -> None:
    """Acting step by step, and the update's forward and backward passes; V of the batch and what is measured are left out."""
    with torch.no_grad():
        for t in range(asked["length"]):
            net(x[t * envs : (t + 1) * envs])
    for part in x.chunk(asked["minibatches"]) * asked["epochs"]:
        net.zero_grad()
        net(part).sum().backward()


if __name__ == "__main__":
    iteration()
    began = time.perf_counter()
    for _ in range(3):
        iteration()
    tell(3 * rows / (time.perf_counter() - began), "torch")
