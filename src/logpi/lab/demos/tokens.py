"""A language model is a policy: the state is the text so far, the action is the next token.

A tiny transformer that has never learnt anything is asked to say a word backwards. It answers several times; each answer is paid
the share of letters in their place, and compared with the mean of its group: that is the advantage of every token in it. Take steps
of GRPO and watch tokens of good answers grow likelier. What it would earn is exact: all its answers are few enough to count.
"""

import copy
from typing import Annotated, Any

import torch

from logpi import average, objective, psi
from logpi.batch import Batch
from logpi.lab import problems
from logpi.methods import GRPO
from logpi.now import Now
from logpi.page import Between, page
from logpi.run.language import must_have_transformers
from logpi.step.gradient import ascend


@page
class Params:
    """What can be turned."""

    step: Annotated[int, Between(0, 20)] = 0  # GRPO steps taken before the answers
    group: Annotated[int, Between(2, 32)] = 16  # answers to the prompt
    lr: Annotated[float, Between(0.01, 1)] = 0.3  # how far a step goes
    scale: bool = True  # divide by the group's std; without it Dr. GRPO's credit


FORMULA = """<math display="block"><msub><mi>Ψ</mi><mi>i</mi></msub><mo>=</mo><mfrac><mrow><msub><mi>R</mi><mi>i</mi></msub><mo>−</mo>
<mover><mi>R</mi><mo>¯</mo></mover></mrow><mrow><mi>std</mi><mspace width="0.2em"/><mi>R</mi></mrow></mfrac><mo>,</mo><mspace width="1em"/>
<mfrac><mn>1</mn><mi>G</mi></mfrac><munder><mo>∑</mo><mi>i</mi></munder><mfrac><mn>1</mn><msub><mi>T</mi><mi>i</mi></msub></mfrac>
<munder><mo>∑</mo><mi>t</mi></munder><mi>min</mi><mo>(</mo><msub><mi>ρ</mi><mi>t</mi></msub><msub><mi>Ψ</mi><mi>i</mi></msub><mo>,</mo>
<mi>clip</mi><mo>(</mo><msub><mi>ρ</mi><mi>t</mi></msub><mo>)</mo><msub><mi>Ψ</mi><mi>i</mi></msub><mo>)</mo></math>"""

SHOWN = (GRPO, psi.group_standardise, psi.group_mean, objective.clip, average.weights, ascend)


def demo(params: Params, seed: int) -> dict[str, Any]:
    """The answers of the model after so many steps, what each token is credited with, and its probability after the next step."""
    must_have_transformers()
    from logpi.lab import little  # an extra

    method = GRPO(group=params.group, lr=params.lr, scale=params.scale, starts=1, epochs=1, minibatches=1)
    here = little.model(method, seed, params.step)
    answers = little.group(here, method, seed, params.step)
    later = copy.deepcopy(here)
    credited, info = problems.improve(later, method, answers, seed)
    history = [little.history(method, seed, k) for k in range(params.step + 1)]
    return {
        "prompt": little.PROMPT,
        "right": little.RIGHT,
        "answers": told(here, later, credited),
        "mean": float(answers.reward.sum(-1).mean()),  # of this group
        "expected": [x["reward"] for x in history],  # exact, before each step
        "right_probability": [x["right"] for x in history],
        "next": little.earned(later),
        "kl": info["kl"],  # of the next step, the mean over the tokens of the group
    }


@torch.no_grad()
def told(here: Any, later: Any, b: Batch) -> list[dict[str, Any]]:
    """Each answer: its tokens, reward and advantage; of each token log pi before and after the next step, and its weight."""
    weights = average.weights("per_sequence", b.mask)[0]
    rows = b.map(lambda x: x[0])
    after = Now(later, None, rows).log_pi
    out = []
    for i, ours in enumerate(rows.mask):
        tokens = rows.action[i, ours].tolist()
        out.append(
            {
                "tokens": here.tokenizer.convert_ids_to_tokens(tokens),
                "reward": float(rows.reward[i].sum()),
                "psi": rows.psi[i, ours].tolist(),  # type: ignore[index]
                "weight": weights[i, ours].tolist(),
                "log_pi": rows.log_pi[i, ours].tolist(),
                "after": after[i, ours].tolist(),
            }
        )
    return out
