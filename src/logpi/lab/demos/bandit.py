"""Four actions, each with a hidden expected reward. Do one, see what it pays, and watch the policy answer.

A reward above the baseline makes the action that brought it more probable, one below makes it less probable. Nothing tells the
policy which action would have been best: it only hears of what it did.
"""

from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from logpi.average import per_episode
from logpi.errors import LogpiError
from logpi.objective import score
from logpi.page import Between, page
from logpi.policy.categorical import Categorical
from logpi.psi import reward_to_go
from logpi.step.gradient import climb

ACTIONS = 4
LONGEST = 200  # moves: what is still quick


@page
class Params:
    """What can be turned."""

    lr: Annotated[float, Between(0.01, 2)] = 0.3  # how far one reward moves the logits
    noise: Annotated[float, Between(0, 3)] = 0.5  # standard deviation of a reward around its hidden mean
    baseline: Literal["none", "mean"] = "none"  # mean: each reward less the mean of those before it
    reveal: bool = False  # show the expected reward of each action
    moves: str | None = None  # 0 to 3: that action; s: one sampled from the policy


FORMULA = """<math display="block"><mi>θ</mi><mo>←</mo><mi>θ</mi><mo>+</mo><mi>α</mi><mspace width="0.2em"/>
<mo>(</mo><mi>r</mi><mo>−</mo><mi>b</mi><mo>)</mo><mspace width="0.2em"/><msub><mo>∇</mo><mi>θ</mi></msub>
<mi>log</mi><mo>⁡</mo><msub><mi>π</mi><mi>θ</mi></msub><mo>(</mo><mi>a</mi><mo>)</mo></math>"""

SHOWN = (Categorical.sample, Categorical.log_prob, reward_to_go, score, per_episode, climb)


def demo(params: Params, seed: int) -> dict[str, Any]:
    """pi [n + 1, 4] before and after each of the n moves, and what each paid; the same seed hides the same rewards."""
    moves = params.moves or ""
    if len(moves) > LONGEST or set(moves) - {*"0123s"}:
        raise LogpiError(f"moves are at most {LONGEST} of the letters 0, 1, 2, 3 (that action) and s (sampled).")
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(ACTIONS, dtype=torch.float64, generator=generator)
    luck = torch.randn(LONGEST, ACTIONS, dtype=torch.float64, generator=generator)
    head = Categorical(ACTIONS)
    race = head.noise((LONGEST,), means, generator)  # drawn at once: one move more changes none before it
    logits = torch.zeros(ACTIONS, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=params.lr)
    pi, actions = [_pi(logits)], list[int]()
    rewards, psis = list[float](), list[float]()
    for i, move in enumerate(moves):
        action = head.sample(logits.detach(), noise=race[i]) if move == "s" else torch.tensor(int(move))
        reward = means[action] + params.noise * luck[i, action]
        baseline = sum(rewards) / i if params.baseline == "mean" and i else 0.0
        psi = reward_to_go(reward.reshape(1, 1), torch.ones(1, 1, dtype=torch.bool)) - baseline
        _ascend(logits, head, action, psi, optimizer)
        pi.append(_pi(logits))
        actions.append(int(action))
        rewards.append(float(reward))
        psis.append(float(psi))
    expected = [sum(p * m for p, m in zip(row, means.tolist(), strict=True)) for row in pi]
    told = {"pi": pi, "actions": actions, "sampled": [x == "s" for x in moves], "rewards": rewards, "psi": psis}
    return told | {"longest": LONGEST} | ({"means": means.tolist(), "expected": expected} if params.reveal else {})


def _ascend(logits: Tensor, head: Categorical, action: Tensor, psi: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """theta <- theta + alpha Psi grad log pi(a)."""
    log_pi = head.log_prob(logits, action).reshape(1, 1)
    climb(iter([per_episode(score(log_pi, psi), torch.ones(1, 1, dtype=torch.bool))]), [logits])
    optimizer.step()


def _pi(logits: Tensor) -> list[float]:
    return logits.detach().softmax(-1).tolist()
