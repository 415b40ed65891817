"""Checks by enumeration: the expected gradient of an estimator beside the linear solve, biases beside the theory."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from logpi import psi
from logpi.envs.tabular import chain
from logpi.exact import mdp, problems, verdict
from logpi.exact.estimators import Choice, Estimator
from logpi.exact.expectation import moments, surrogate_of
from logpi.exact.kit.holds import EXACT, agree, apart, check, normal
from logpi.exact.problem import Problem

find = cache(problems.find)


def expected(problem: Problem, rows: int = 1, **choice: Any) -> Tensor:
    """The expected gradient [P] of a choice over every batch of so many rows."""
    page = Estimator(Choice(**{"gamma": problem.gamma} | choice))
    return moments(problem, surrogate_of(page), page.rows, rows, symmetric=True).mean


def unbiased(problem: Problem, rows: int = 1, **choice: Any) -> None:
    verdict.check(Choice(**{"gamma": problem.gamma} | choice), problem, EXACT, rows=rows)


@cache
def solvable() -> Problem:
    """Two prompts whose completions are right or wrong, 1 or 0."""
    return problems.sequences(3, 2, lambda prompt, x: float(x[0] == 1 and x[-1] == prompt), prompts=2)


def truth(problem: Problem) -> Tensor:
    return problem.directions()[0].gradient


@check("reward-to-go with gamma^t has the gradient of J")
def _() -> None:
    unbiased(find("five-states"), rows=2)
    unbiased(find("sequences"))


@check("reward-to-go without gamma^t has the gradient of J without gamma^t")
def _() -> None:
    where = find("five-states")
    verdict.check(Choice(gamma=where.gamma, from_start=False), where, EXACT, rows=2, from_start=False)
    apart(expected(where, from_start=False), truth(where), "with and without gamma^t")


@check("the total return has the gradient of J")
def _() -> None:
    unbiased(find("five-states"), psi="total")


@check("every credit of a true critic has the gradient of J")
def _() -> None:
    for name in ("td", "n_step", "gae", "vtrace", "q", "advantage"):
        unbiased(find("five-states"), psi=name, lam=0.7)


@check("a baseline that does not know the episode leaves the gradient of J, however wrong it is")
def _() -> None:
    wrong = problems.changed(find("five-states"), critic_error=1.0)
    for more in ({"baseline": "value"}, {"baseline": "constant"}, {"psi": "gae", "lam": 1.0}):
        unbiased(wrong, **more)
    unbiased(wrong, rows=2, baseline="leave_one_out")
    apart(expected(wrong, psi="td"), truth(wrong), "the TD error of a wrong critic")


@check("leave-one-out in a group has the gradient of J, the group mean (G - 1) / G of it")
def _() -> None:
    where = find("prompts")
    for G in (2, 3):
        unbiased(where, rows=G, psi="total", baseline="group_leave_one_out")
        agree(expected(where, G, psi="total", baseline="group_mean"), (G - 1) / G * truth(where), f"groups of {G}")


@check("in pairs with rewards 0 and 1 the group's std is 1/2, of the sample sqrt(1/2)")
def _() -> None:
    for correction, std in ((0, 0.5), (1, 0.5**0.5)):
        more: dict[str, Any] = {"psi": "total", "baseline": "group_standardised", "eps": 0.1, "correction": correction}
        agree(expected(solvable(), 2, **more), truth(solvable()) / 2 / (std + 0.1), f"correction {correction}")


@check("the mean of the same n rows shrinks the gradient of a bandit by (n - 1) / n")
def _() -> None:
    for name in ("mean", "time"):
        agree(expected(find("bandit"), 3, baseline=name), 2 / 3 * truth(find("bandit")), name)


@check("every surrogate has at pi_old the gradient of J")
def _() -> None:
    for name in ("score", "ratio", "clip", "mirror", "clipped_weight", "sequence_clip"):
        unbiased(find("five-states"), psi="total", objective=name)


@check("importance ratios correct for actions that an older policy drew")
def _() -> None:
    old = problems.changed(find("bandit"), drift=0.5)
    for name in ("ratio", "clip", "clipped_weight", "sequence_clip"):
        unbiased(old, objective=name, clip=1e6)
    apart(expected(old), truth(old), "the score of another policy's actions")


@check("per_budget divides the gradient of J by the budget, and in a bandit every average is one")
def _() -> None:
    where = find("five-states")
    for rows in (1, 2):
        agree(expected(where, rows, average="per_budget", budget=7.0), truth(where) / 7, f"{rows} rows")
    for name in ("per_episode", "per_action", "per_sequence", "per_budget"):
        unbiased(find("bandit"), rows=2, average=name)


@check("k1 in the reward has the gradient of the KL of episodes, in the loss none")
def _() -> None:
    where, silent = find("sequences"), find("sequences").without_reward()
    verdict.check(Choice(kl="k1_reward"), where, EXACT, rows=1, kl=1.0)
    agree(expected(silent, kl="k1"), 0.0, "k1 in the loss")


@check("k2 in the loss has the gradient of the KL of each action, k3 that of the other direction")
def _() -> None:
    silent = find("sequences").without_reward()
    assert silent.ref is not None
    pi, ref = (x.softmax(-1) for x in (silent.policy(silent.obs), silent.ref))
    d = mdp.visits(silent.table, pi, 1.0, silent.limit).sum(0).detach()
    theta = list(silent.policy.parameters())
    for name, p, q in (("k2", pi, ref), ("exact", pi, ref), ("k3", ref, pi)):
        right = mdp.flat(torch.autograd.grad(mdp.kl(p, q, d), theta, retain_graph=True))
        agree(expected(silent, kl=name), -right, name)


def conditional(problem: Problem, credit: Tensor) -> Tensor:
    """E[credit of the first action | s_0, a_0], [S, A]; NaN where no episode begins so."""
    x, (S, A) = problem.every, problem.table.P.shape[:2]
    at, p = x.state[:, 0] * A + x.action[:, 0], problem.probability
    total, weight = (torch.zeros(S * A, dtype=p.dtype).index_add(0, at, y) for y in (p * credit[:, 0], p))
    return (total / weight).reshape(S, A)


def judged(problem: Problem, V: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What psi asks for, of every trajectory, the critic saying V [S]."""
    b = problem.batch(problem.every)
    V = torch.where(problem.table.terminal, 7.0, V)  # what it says of a terminal state means nothing
    value, after = (torch.where(b.mask, V[s], 0.0) for s in (problem.every.state, problem.every.after))
    return b.reward, value, after, b.terminated, b.truncated


@check("credit of a true critic is Q - V though episodes are cut")
def _() -> None:
    where = problems.from_table(replace(chain(), limit=5))
    V, Q = mdp.values(where.table, where.pi, where.gamma)  # of the process that is not cut
    given, s = judged(where, V), starts(where)
    for lam in (0.0, 0.7, 1.0):
        agree(conditional(where, psi.gae(*given, where.gamma, lam))[s], (Q - V[:, None])[s], f"gae, lam {lam}")
    agree(conditional(where, psi.n_step(*given, where.gamma, 3))[s], (Q - V[:, None])[s], "n_step")
    apart(where.probability[given[4].any(-1)].sum(), torch.zeros(()), "cut episodes")


@check("V-trace without limits evaluates pi from another policy's actions")
def _() -> None:
    old = problems.changed(find("five-states"), drift=0.7, critic_error=1.0)
    V, _ = (x[0] for x in mdp.values(old.table, old.pi, old.gamma, old.limit))
    said = V + normal(len(V))
    target, credit = psi.vtrace(*judged(old, said), old.gamma, ratios(old), 1.0, torch.inf, torch.inf)
    agree(of_starts(old, target), V[starts(old)], "E target")
    agree(of_starts(old, credit), (V - said)[starts(old)], "E psi")


@check("V-trace with limit 1 has the value of min(pi, mu), normalised, as its fixed point")
def _() -> None:
    old = problems.changed(find("five-states"), drift=0.7)
    both = old.pi.minimum(old.drawing.softmax(-1))
    V, _ = (x[0] for x in mdp.values(old.table, both / both.sum(-1, keepdim=True), old.gamma, old.limit))
    target, credit = psi.vtrace(*judged(old, V), old.gamma, ratios(old))
    agree(of_starts(old, target), V[starts(old)], "E target")
    agree(of_starts(old, credit), 0.0, "E psi")
    apart(V, mdp.values(old.table, old.pi, old.gamma)[0], "the values of both policies")


def starts(problem: Problem) -> Tensor:
    return problem.table.start.nonzero()[:, 0]


def of_starts(problem: Problem, credit: Tensor) -> Tensor:
    """E[credit of the first action | s_0] of each state in which episodes begin."""
    return (problem.drawing.softmax(-1) * conditional(problem, credit)).sum(-1)[starts(problem)]


def ratios(problem: Problem) -> Tensor:
    """pi / mu of every action of every trajectory; 1 in padding."""
    x, rho = problem.every, problem.pi / problem.drawing.softmax(-1)
    return torch.where(x.mask, rho[x.state, x.action], 1.0)
