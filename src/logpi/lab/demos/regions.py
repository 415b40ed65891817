"""The same gradient, five ways to follow it. A step in the parameters is not a step in the policy.

Each ring is one distance from the policy at the start, KL(old || new); the shading is the true return. Plain gradient steps
feel only the slope of the parameters; the natural step and TRPO measure their length in KL, PPO's clip stops paying for
leaving, and mirror descent makes distance cost something.
"""

from typing import Annotated, Any

import torch
from torch import Tensor
from torch.func import vmap

from logpi import kl, objective
from logpi.exact import mdp
from logpi.exact.problem import Problem
from logpi.lab import problems
from logpi.page import Between, page
from logpi.step.gradient import ascend
from logpi.step.natural import conjugate_gradient, natural_step, trust_region_step

SIDE, CELLS = 4.0, 33  # the map goes from -SIDE to SIDE
PATHS = {"plain": "a2c", "natural": "npg", "trust region": "trpo", "clip": "ppo", "mirror": "mdpo"}


@page
class Params:
    """What can be turned."""

    well: Annotated[float, Between(-3, 3)] = 1.5  # log-odds of mending a machine that is well
    worn: Annotated[float, Between(-3, 3)] = -2.0  # log-odds of mending one that is worn
    episodes: Annotated[int, Between(4, 128)] = 128  # of each iteration
    iterations: Annotated[int, Between(1, 6)] = 5  # steps along each path
    lr: Annotated[float, Between(0.01, 5)] = 1.0  # of the plain, the clipped and the mirror step
    delta: Annotated[float, Between(0.001, 0.2)] = 0.05  # KL of a natural step and of a trust region
    clip: Annotated[float, Between(0.02, 0.9)] = 0.2  # how far PPO's ratio is paid for moving
    eta: Annotated[float, Between(0.01, 5)] = 0.5  # step size of mirror descent
    epochs: Annotated[int, Between(1, 6)] = 5  # passes over a batch, clip and mirror


FORMULA = """<math display="block"><munder><mo>max</mo><mi>θ</mi></munder>
<mi>E</mi><mo>[</mo><mi>ρ</mi><mi>A</mi><mo>]</mo>
<mspace width="1em"/><mtext>subject to</mtext><mspace width="1em"/>
<mi>E</mi><mo>[</mo><mi>KL</mi><mo>(</mo><msub><mi>π</mi><mtext>old</mtext></msub>
<mo>‖</mo><msub><mi>π</mi><mi>θ</mi></msub><mo>)</mo><mo>]</mo><mo>≤</mo><mi>δ</mi></math>"""

SHOWN = (kl.categorical, objective.ratio, objective.clip, ascend, natural_step, trust_region_step, conjugate_gradient)


def demo(params: Params, seed: int) -> dict[str, Any]:
    """The map of KL and J over both parameters, and the path of each step over it."""
    start = problems.machine(params.well, params.worn)
    axis = torch.linspace(-SIDE, SIDE, CELLS, dtype=torch.float64)
    divergence, worth = landscape(start, axis)
    return {
        "parameters": [f"log-odds of mending when {state}" for state in start.states],
        "axis": axis.tolist(),
        "kl": divergence.tolist(),  # [worn][well]: rows are the second parameter
        "J": worth.tolist(),
        "delta": params.delta,
        "paths": {name: path(start, method(params, name), params, seed) for name in PATHS},
    }


def method(params: Params, name: str) -> Any:
    """The page of a path, without entropy bonus, discount or minibatches."""
    told = {x: getattr(params, x) for x in ("lr", "delta", "clip", "eta", "epochs")}
    told |= {} if name == "clip" else {"clip": None}
    plain = {"gamma": 1.0, "lam": 1.0, "entropy": 0.0, "minibatches": 1, "damping": 1e-4, "max_grad_norm": 100.0}
    return problems.page_of(PATHS[name], **told, **plain)


def landscape(old: Problem, axis: Tensor) -> tuple[Tensor, Tensor]:
    """(KL(old || new) over the states that old visits, J) of every policy on the map, [worn, well]."""
    worn, well = torch.meshgrid(axis, axis, indexing="ij")
    logits = torch.stack([torch.zeros(*well.shape, 2, dtype=axis.dtype), torch.stack([well, worn], -1)], -1)
    divergence = kl.categorical(old.drawing.expand_as(logits), logits) @ problems.visited(old)
    pi = logits.softmax(-1).flatten(0, 1)
    worth = vmap(lambda pi: mdp.expected_return(old.table, pi, old.gamma, old.limit))(pi)
    return divergence, worth.reshape(well.shape)


def path(start: Problem, method: Any, params: Params, seed: int) -> list[dict[str, Any]]:
    """The policy after each iteration, from fresh episodes of the one before."""
    told, here = [where(start, start, 0.0)], start
    for k in range(params.iterations):
        x = problems.sample(here, params.episodes, seed * 1000 + k)
        new, info = problems.updated(here, method, problems.batch(here, x), seed)
        told.append(where(start, new, info["kl"]))
        here = new
    return told


def where(start: Problem, here: Problem, step: float) -> dict[str, Any]:
    """theta; the KL of the last step, over its batch; that from the start, and J."""
    far = problems.kl_between(start, here)
    return {"theta": problems.theta(here), "step": step, "kl": far, "J": problems.worth(here)}
