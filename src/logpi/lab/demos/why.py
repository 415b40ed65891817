"""Why learn a policy, and not only what actions are worth? Because the best policy may have to be random, and because an argmax jumps.

In rock, paper, scissors against an opponent who sees through you, every deterministic policy loses every throw. Here the opponent always
plays the best reply to the policy of the moment; policy gradient is chased round and round, and the average of its policies finds
the mixture that cannot be exploited.

Two actions are worth almost the same: a tiny change of their worth turns the greedy choice round, and moves a softmax policy hardly at all.
"""

from typing import Annotated, Any

import torch
from torch import Tensor

from logpi import kl
from logpi.envs.tabular import PAYOFF, bandit
from logpi.exact import mdp
from logpi.page import Between, page
from logpi.policy.categorical import Categorical

ACTIONS = ("rock", "paper", "scissors")
SWEEP = 81  # differences of worth


@page
class Params:
    """What can be turned."""

    lr: Annotated[float, Between(0.01, 1)] = 0.2  # how far a natural step moves the logits
    rounds: Annotated[int, Between(1, 200)] = 100  # steps against the opponent's best reply
    temperature: Annotated[float, Between(0.02, 1)] = 0.2  # of the softmax over two worths; small is nearly greedy
    tiny: Annotated[float, Between(0.001, 0.1)] = 0.01  # how much the worth of one action changes


FORMULA = """<math display="block"><munder><mo>max</mo><mi>π</mi></munder><munder><mo>min</mo><mi>b</mi></munder>
<munder><mo>∑</mo><mi>a</mi></munder><mi>π</mi><mo>(</mo><mi>a</mi><mo>)</mo>
<mspace width="0.2em"/><mi>r</mi><mo>(</mo><mi>a</mi><mo>,</mo><mi>b</mi>
<mo>)</mo><mo>=</mo><mn>0</mn><mo>,</mo><mspace width="1em"/><mtext>only at</mtext><mspace width="0.5em"/><mi>π</mi><mo>=</mo>
<mo>(</mo><mfrac><mn>1</mn><mn>3</mn></mfrac><mo>,</mo><mfrac><mn>1</mn><mn>3</mn></mfrac><mo>,</mo><mfrac><mn>1</mn><mn>3</mn></mfrac><mo>)</mo></math>"""

SHOWN = (mdp.values, Categorical.mode, kl.categorical)


def demo(params: Params, seed: int) -> dict[str, Any]:
    """What each pure policy earns, the path of policy gradient and of its average, and the argmax that flips."""
    return {
        "actions": ACTIONS,
        "payoff": PAYOFF.tolist(),  # ours x theirs
        "pure": [worst(pi) for pi in torch.eye(3, dtype=torch.float64)],  # what each earns against the best reply
        "mixed": worst(torch.full((3,), 1 / 3, dtype=torch.float64)),
        "chase": chase(params, seed),
        "flip": flip(params),
    }


def worst(pi: Tensor) -> float:
    """What a policy earns of an opponent who knows it."""
    return float((pi @ PAYOFF).min())


def chase(params: Params, seed: int) -> dict[str, Any]:
    """Natural policy gradient against the best reply: the policies, their averages, and what each earns at worst."""
    logits = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))[0]
    policies, replies = [], []
    for _ in range(params.rounds):
        pi = logits.softmax(-1)
        reply = int((pi @ PAYOFF).argmin())
        V, Q = mdp.values(bandit(PAYOFF[:, reply].tolist()), pi.expand(2, 3), 1.0, limit=1)
        logits = logits + params.lr * (Q - V[..., None])[0, 0]  # of a softmax, the natural gradient is the advantage
        policies.append(pi)
        replies.append(reply)
    path = torch.stack(policies)
    rounds = torch.arange(1, len(path) + 1, dtype=torch.float64)
    average = path.cumsum(0) / rounds[:, None]
    bound = (
        -path[0].min().log() / (params.lr * rounds) + params.lr / 2
    )  # exponential weights' regret, rewards in [-1, 1]
    return {
        "path": path.tolist(),
        "replies": replies,
        "average": average.tolist(),
        "worst": [worst(pi) for pi in path],
        "worst_of_average": [worst(pi) for pi in average],
        "bound": (-bound).tolist(),  # the average never earns less than this
    }


def flip(params: Params) -> dict[str, Any]:
    """The probability of the second of two actions as its worth passes the first's, and what a tiny change does at the tie."""
    gap = torch.linspace(-0.5, 0.5, SWEEP, dtype=torch.float64)
    logits = soft(gap, params.temperature)
    two = Categorical(2)
    below, above = soft(torch.tensor([-0.5, 0.5], dtype=torch.float64) * params.tiny, params.temperature)
    return {
        "gap": gap.tolist(),
        "greedy": two.mode(logits).tolist(),
        "soft": logits.softmax(-1)[:, 1].tolist(),
        "before": {"greedy": int(two.mode(below)), "soft": float(below.softmax(-1)[1])},
        "after": {"greedy": int(two.mode(above)), "soft": float(above.softmax(-1)[1])},
        "kl": float(kl.categorical(below, above)),
    }


def soft(gap: Tensor, temperature: float) -> Tensor:
    """Logits of two actions of worth 0 and `gap`."""
    return torch.stack([torch.zeros_like(gap), gap], -1) / temperature
