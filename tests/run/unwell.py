"""Code of a user's whose runs are not well: pages that forget the mask, dull environments, a network with dropout."""

import os
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from logpi import average, objective, psi
from logpi.methods import Reinforce
from logpi.page import Count, NonNegative, page


@page
class Whole(Reinforce):
    """Nothing is wrong with this one."""

    episodes: Count = 6

    def psi(self, b, state):
        return psi.standardise(psi.reward_to_go(b.reward, b.ended), b.mask), None


@page
class InPsi(Whole):
    def psi(self, b, state):
        credit = psi.reward_to_go(b.reward, b.ended)
        return (credit - credit.mean()) / credit.std(), None


@page
class InObjective(Whole):
    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi * b.reward.sum(-1, keepdim=True))


@page
class InAverage(Whole):
    def average(self, mask):
        return torch.full(mask.shape, 1.0 / mask.numel())


@page
class NoCredit(Whole):
    def psi(self, b, state):
        return torch.zeros_like(b.reward), None


@page
class Misshapen(Whole):
    """Its trained run was of the right shape."""

    def psi(self, b, state):
        credit, _ = Whole.psi(self, b, state)
        return credit[..., :-1] if "SHORT" in os.environ else credit, None


@page
class Against(Whole):
    entropy: NonNegative = 0.01

    def objective(self, now, b, state):
        return self.entropy * now.entropy - objective.ratio(now.log_pi, b.log_pi, b.psi)


@page
class OwnBaseline(Whole):
    """The baseline, and the k1 of a KL, stand in the objective: their gradients are 0 on average."""

    def psi(self, b, state):
        return psi.reward_to_go(b.reward, b.ended), None

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi - 30.0) - 5.0 * (now.log_pi - b.log_pi)


@page
class OwnLogPi(Whole):
    """The loop's log pi is not asked for."""

    def objective(self, now, b, state):
        return objective.score(
            b.back(now.params.log_softmax(-1).gather(-1, b.ours(b.action)[..., None])[..., 0]), b.psi
        )


@page
class OwnAgainst(OwnLogPi):
    def objective(self, now, b, state):
        return -OwnLogPi.objective(self, now, b, state)


@page
class AverageAgainst(Whole):
    def average(self, mask):
        return -average.weights("per_sequence", mask)


class Dull(gym.Env):
    """Ten steps of noise, each worth the same, in units that the process says."""

    observation_space, action_space = gym.spaces.Box(-1e6, 1e6, (4,), np.float32), gym.spaces.Discrete(2)
    reward, own = 1.0, False

    def seen(self) -> np.ndarray:
        generator = np.random.default_rng() if self.own else self.np_random
        return (float(os.environ.get("UNITS", "1")) * generator.normal(size=4)).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.age = 0
        return self.seen(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.age += 1
        return self.seen(), self.reward, False, self.age == 10, {}


class Zero(Dull):
    reward = 0.0


class Nan(Dull):
    reward = float("nan")


class Random(Dull):
    own = True


def dropout(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, outputs))


HEALTHY = (
    "ppo --steps 10000",
    "reinforce --steps 6000",
    "grpo --steps 6000 --starts 2",
    "trpo --steps 10000",
    "ppo --env Pendulum-v1 --steps 9000",
    "ppo --normalise-obs --dtype float64 --steps 10000",
    "./unwell.py:Whole --steps 3000",
)
MASKS = "garbage and more padding there"
# what was trained, the check that must be the first to be wrong, what it says, other checks that must not be ok
SICK: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "./unwell.py:InPsi --steps 1000": ("masks", f"{MASKS} change the credit by", ()),
    "./unwell.py:InObjective --steps 1000": ("masks", f"{MASKS} change the gradient to NaN", ()),
    "./unwell.py:InAverage --steps 1000": ("masks", "have weight in the average", ()),
    "./unwell.py:NoCredit --steps 3000": ("signal", "the credit of every action is 0", ("movement",)),
    "./unwell.py:Against --steps 2000": ("direction", "against its own credit: agreement", ()),
    "./unwell.py:Against --steps 2000 --entropy 10": ("direction", "against its own credit: agreement", ()),
    "./unwell.py:OwnAgainst --steps 2000": ("direction", "against its own credit: agreement", ()),
    "./unwell.py:AverageAgainst --steps 2000": ("direction", "against its own credit: agreement", ()),
    "ppo --network ./unwell.py:dropout --steps 1000": (
        *("run", "failed in iteration 1: The first ratio pi / pi_old is off 1"),
        ("first ratio", "first KL", "masks"),
    ),
    "reinforce --lr 3 --steps 2000": ("step size", "KL of an update", ("signal", "movement", "entropy")),
    "ppo --lr 1e-12 --envs 4 --steps 5000": ("movement", "the learning rate is 1e-12", ("critic",)),
    "trpo --delta 0.01 --damping 0 --backtracks 1 --envs 4 --steps 5000": (
        "line search",
        "100% of the last steps",
        ("movement",),
    ),
    "grpo --env ./unwell.py:Dull --starts 2 --group 4 --steps 1000": (
        *("signal", "the loss is 0 because all rewards in every group are equal"),
        ("movement",),
    ),
    "grpo --env ./unwell.py:Dull --starts 2 --group 4 --steps 300 --entropy 0.01": (
        *(
            "signal",
            "the credit is 0 (what is left of the loss is its bonuses) because all rewards in every group are equal",
        ),
        (),
    ),
    "ppo --env ./unwell.py:Zero --steps 2000": ("signal", "every reward of 1,024 actions is 0", ()),
    "ppo --env ./unwell.py:Nan --steps 2000": ("run", "failed in iteration 1: NaN in reward", ("fresh batch",)),
    "ppo --env ./unwell.py:Random --normalise-obs --steps 2000": ("normaliser", "of them cut", ()),
    "ppo --env ./unwell.py:Dull --normalise-obs --steps 2000": (
        "fresh batch",
        "does not come back to where it was",
        (),
    ),
}
FOLLOWING = ("grpo --kl 5 --kl-estimate k1", "mdpo --kl estimate", "./unwell.py:OwnBaseline", "./unwell.py:OwnLogPi")
