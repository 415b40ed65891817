"""Every method is the same sentence with a word exchanged: credit, objective, average, step.

The map shows who came from whom and which words changed on the way; a node opens its page. Below, one batch of episodes of one
policy is given to every page, and each takes its own step: how far it went in policy space, what it gained on the surrogate,
and what it truly gained. One gradient step of a fixed learning rate goes as far as it happens to go; a trust region says how far.
"""

import inspect
from functools import lru_cache
from typing import Annotated, Any

import torch

from logpi import objective
from logpi.lab import problems
from logpi.loop import update
from logpi.methods import METHODS
from logpi.page import Between, page
from logpi.run.show import MEMBERS, methods_table

STARTS = 4
PARENT = {
    "baseline": "reinforce",
    "actor_critic": "baseline",
    "a2c": "actor_critic",
    "npg": "a2c",
    "trpo": "npg",
    "ppo": "trpo",
    "ppo_kl": "trpo",
    "mdpo": "trpo",
    "rloo": "baseline",
    "reinforce_pp": "ppo",
    "grpo": "ppo",
    "dr_grpo": "grpo",
    "dapo": "grpo",
    "gspo": "grpo",
    "cispo": "dapo",
}


@page
class Params:
    """What can be turned."""

    group: Annotated[int, Between(2, 32)] = 8  # episodes from each of four starts
    lr: Annotated[float, Between(0.001, 2)] = 0.3  # of every page that has a learning rate
    delta: Annotated[float, Between(0.0001, 0.2)] = 0.01  # KL of a step, on the pages that bound it
    well: Annotated[float, Between(-3, 3)] = 0.0  # log-odds of mending a machine that is well
    worn: Annotated[float, Between(-3, 3)] = 0.0  # log-odds of mending one that is worn


FORMULA = """<math display="block"><mi>θ</mi><mo>←</mo><mi>step</mi><mo>(</mo>
<munder><mi>average</mi><mtext>actions</mtext></munder><mspace width="0.3em"/>
<mi>objective</mi><mo>(</mo><mi>log</mi><mo>⁡</mo>
<msub><mi>π</mi><mi>θ</mi></msub><mo>(</mo><mi>a</mi><mo>|</mo><mi>s</mi><mo>)</mo><mo>,</mo>
<mspace width="0.2em"/><mi>Ψ</mi><mo>)</mo><mo>)</mo></math>"""

SHOWN = (update,)  # of each page, its node


def demo(params: Params, seed: int) -> dict[str, Any]:
    """The map, and the step that each page takes from the same episodes of the same policy."""
    old = problems.machine(params.well, params.worn)
    x = problems.sample(old, STARTS, seed, params.group)
    flat, grouped = problems.batch(old, x), problems.batch(old, x, params.group)
    told = {"lr": params.lr, "delta": params.delta, "group": params.group, "starts": STARTS}
    plain = {"gamma": old.gamma, "budget": old.limit, "minibatches": 1, "damping": 1e-4}
    steps = {}
    for name in METHODS:
        method = problems.page_of(name, **told, **plain)
        new, info = problems.updated(old, method, grouped if method.rows == "groups" else flat, seed)
        steps[name] = {
            "theta": problems.theta(new),
            "kl": info["kl"],  # KL(old || new), the mean over the batch's actions
            "surrogate": surrogate_gain(old, new),
            "gain": problems.worth(new) - problems.worth(old),
            "pi": new.pi[:, 1].tolist(),
        }
    return {
        "nodes": nodes(),
        "steps": steps,
        "delta": params.delta,
        "old": {"theta": problems.theta(old), "J": problems.worth(old), "pi": old.pi[:, 1].tolist()},
        "states": old.states,
        "episodes": {"states": x.state.tolist(), "actions": x.action.tolist(), "rewards": flat.reward.tolist()},
    }


@lru_cache(maxsize=1)
def nodes() -> dict[str, dict[str, Any]]:
    """Each page: its title, its formula, its four words, its source, the page it came from and the words that changed."""
    words = {name: dict(zip(MEMBERS, row, strict=True)) for name, *row in methods_table()}
    told = {}
    for name, kind in METHODS.items():
        title, formula = (inspect.getdoc(inspect.getmodule(kind)) or "").split("\n\n")
        parent = PARENT.get(name)
        changed = [x for x in MEMBERS if parent and words[name][x] != words[parent][x]]
        more = {"parent": parent, "changed": changed, "source": inspect.getsource(kind)}
        told[name] = {"title": title, "formula": formula, "words": words[name]} | more
    return told


def surrogate_gain(old: problems.Problem, new: problems.Problem) -> float:
    """sum over all episodes of p_old sum_t (rho - 1) A, exact: what the first order promises of J."""
    b, x = old.batch(old.every), old.every
    log_pi = new.drawing.log_softmax(-1)[x.state, x.action]
    advantage = b.q - b.value  # type: ignore[operator]
    gain = objective.ratio(log_pi, b.log_pi, advantage) - advantage
    return float(old.probability @ torch.where(x.mask, gain, 0.0).sum(-1))
