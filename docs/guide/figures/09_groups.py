"""The figures of chapter 9: what groups, averages, ratios and KLs do to the expected gradient of a language model, enumerated."""

from functools import cache
from itertools import pairwise
from typing import Any

import torch
from matplotlib.figure import Figure
from style import BLUE, COLOURS, GREEN, GREY, ORANGE, PINK, new, write
from torch import Tensor

from logpi import exact
from logpi.exact import Choice, Estimator, Moments, Problem
from logpi.exact.problems import changed

F64 = torch.float64


def expected(problem: Problem, rows: int = 2, **choice: Any) -> Moments:
    """The mean and the variance of an estimator's gradient over every batch of one group."""
    estimator = Estimator(Choice(psi="total", **choice))
    return exact.moments(problem, exact.surrogate_of(estimator), estimator.rows, rows, symmetric=True)


def binomial(p: Tensor, n: int) -> Tensor:
    """P(K = k) of n trials, [n + 1, ...]."""
    return (
        torch.distributions.Binomial(n, p, validate_args=False).log_prob(torch.arange(n + 1, dtype=F64)[:, None]).exp()
    )


def std() -> Figure:
    """The weight that a prompt of success p gets, and how often its group says nothing."""
    p = torch.linspace(0.02, 0.98, 97, dtype=F64)
    at = p[::12]
    logits = torch.stack([torch.zeros_like(at), torch.logit(at)], 1)
    prompts = exact.sequences(2, 1, lambda m, x: float(x[0] == 1), prompts=len(at), logits=logits)
    truth = (prompts.jacobian @ prompts.directions()[0].gradient)[: len(at), 1]
    figure, (left, right) = new(columns=2)
    left.plot(p, (p * (1 - p)).rsqrt(), color=GREY, ls="--", label="group of infinite size")
    for colour, n in zip((PINK, GREEN, BLUE), (16, 8, 4), strict=True):
        k = torch.arange(n + 1, dtype=F64)[:, None]
        weight = (binomial(p, n) * (k * (n - k)).sqrt()).sum(0) / (n * p * (1 - p))
        found = expected(prompts, n, baseline="group_standardised", eps=1e-12).mean
        dots = (prompts.jacobian @ found)[: len(at), 1] / truth
        assert (dots - weight[::12]).abs().max() < 1e-10  # the formula is what is enumerated
        assert dots[0] > 1.05 * dots[4] and (dots - dots.flip(0)).abs().max() < 1e-10
        left.plot(p, weight, color=colour, label=f"group of {n}")
        left.plot(at, dots, "o", color=colour, ms=4)
        none = p**n + (1 - p) ** n
        right.plot(p, none, color=colour)
        assert (none - binomial(p, n)[[0, -1]].sum(0)).abs().max() < 1e-12 and none[0] > 0.7
    out = expected(prompts, 4, baseline="group_leave_one_out").mean
    one = (prompts.jacobian @ out)[: len(at), 1] / truth
    assert (one - 1).abs().max() < 1e-12
    left.plot(at, one, "s-", color=ORANGE, ms=4, label="leave one out")
    left.set(xlabel="success of the prompt", ylabel="its gradient, over the true one", ylim=(0, 7))
    left.legend(fontsize=9, loc="upper center")
    right.set(xlabel="success of the prompt", ylabel="groups of equal rewards", ylim=(0, 1))
    return figure


def lengths(problem: Problem) -> list[float]:
    """P(right), the mean length of a right answer and of a wrong one."""
    p, n = problem.probability, problem.every.mask.sum(-1)
    right = problem.every.action[:, 0] == 1
    return [float(p[right].sum()), *(float((p * n)[x].sum() / p[x].sum()) for x in (right, ~right))]


def length() -> Figure:
    """Ascent along the exact expected gradient where the reward is of the first token, and length earns nothing."""
    figure, (axes,) = new(height=3.4)
    names = {"per_episode": "per episode, or a constant", "per_action": "per action", "per_sequence": "per sequence"}
    for colour, (average, name) in zip((GREY, GREEN, ORANGE), names.items(), strict=True):
        logits, path = torch.tensor([[-40.0, 0.0, 0.5]] + 14 * [[0.0, 0.0, 0.0]], dtype=F64), []
        while True:
            here = exact.sequences(3, 4, lambda m, x: float(x[0] == 1), logits=logits)
            path.append(lengths(here))
            if path[-1][0] > 0.9:
                break
            found = expected(here, baseline="group_leave_one_out", average=average).mean
            logits = (
                logits + {"per_episode": 2, "per_action": 5, "per_sequence": 5}[average] * (here.jacobian @ found)[:15]
            )
        accuracy, right, wrong = zip(*path, strict=True)
        axes.plot(accuracy, wrong, color=colour, label=f"{name}, wrong answers")
        axes.plot(accuracy, right, color=colour, ls="--", label=f"{name}, right answers")
        moved = abs(right[-1] - right[0]) + abs(wrong[-1] - wrong[0])
        if average == "per_episode":
            assert moved < 1e-9  # what earns nothing does not move
        else:
            assert right[-1] < right[0] - 0.05 and wrong[-1] > wrong[0] + 0.02
    axes.set(xlabel="share of right answers, as it rises", ylabel="mean length")
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def whole(now: Any, b: Any) -> Tensor:
    """The importance weight of the whole text times its reward against the other's."""
    reward = b.reward.sum(-1)
    credit = reward - reward.flip(-1)
    return (torch.where(b.mask, now.log_pi - b.log_pi, 0.0).sum(-1).exp() * credit).mean()


@cache
def finished() -> Problem:
    """Right is an answer that begins with token 1 and is brought to its end."""
    return exact.sequences(3, 3, lambda m, x: float(x[0] == 1 and x[-1] == 0))


def ratios() -> Figure:
    """Bias and variance of the objectives when the texts are an older policy's."""
    figure, (left, right) = new(height=3.6, columns=2)
    drifts = [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5]
    names = {
        "score": "no ratio (score)",
        "ratio": "ratio of the token",
        "clip": "clip (GRPO)",
        "clipped_weight": "clipped weight (CISPO)",
        "sequence_clip": "clip of the text (GSPO)",
        "whole": "ratio of the whole text",
    }
    bias = {}
    for colour, (form, name) in zip(COLOURS, names.items(), strict=True):
        found = []
        for drift in drifts:
            old = changed(finished(), drift=drift)
            if form == "whole":
                m = exact.moments(old, whole, "one start", 2)
            else:
                m = expected(old, baseline="group_leave_one_out", objective=form)
            found.append(exact.figures(m, old.directions()[0]))
        bias[form] = [x["relative_bias"] for x in found]
        left.plot(drifts, bias[form], "o-", color=colour, ms=3, label=name)
        right.plot(drifts, [x["variance"] for x in found], "o-", color=colour, ms=3)
    assert max(bias["whole"]) < 1e-12 and all(x[0] < 1e-12 for x in bias.values())
    assert all(bias[x][2] < bias["score"][2] for x in names if x != "score")
    assert bias["ratio"][-1] < min(bias[x][-1] for x in ("clip", "clipped_weight", "sequence_clip"))
    left.set(xlabel="drift of the parameters", ylabel="relative bias")
    right.set(xlabel="drift of the parameters", ylabel="variance of a group of 2")
    figure.legend(*left.get_legend_handles_labels(), fontsize=9, loc="outside lower center", ncols=3)
    return figure


def kl() -> Figure:
    """The gradient of a KL to the reference, by estimate and place: how far from the two that it may be meant to be, and its noise."""
    figure, (left, right) = new(height=3.6, columns=2)
    silent = exact.find("sequences").without_reward()
    texts, tokens = silent.directions(beta=1.0)
    names = ["k1", "k2", "k3", "k3_live", "exact", "k1_reward", "k3_reward"]
    found = [expected(silent, 1, kl=x) for x in names]
    far = {to: [exact.figures(m, to)["relative_bias"] for m in found] for to in (texts, tokens)}
    at = torch.arange(len(names))
    for shift, colour, to, name in ((-0.2, BLUE, texts, "KL of texts"), (0.2, ORANGE, tokens, "KL of tokens")):
        left.barh(at + shift, far[to], 0.36, color=colour, label=name)
    right.barh(at, [m.variance for m in found], 0.5, color=GREY)
    exactly = {to: [n for n, x in zip(names, far[to], strict=True) if x < 1e-10] for to in far}
    assert exactly == {texts: ["k1_reward"], tokens: ["k2", "k3_live", "exact"]}
    assert abs(far[texts][0] - 1) < 1e-12 and abs(far[tokens][0] - 1) < 1e-12  # k1 in the loss: nothing
    variance = dict(zip(names, [m.variance for m in found], strict=True))
    assert variance["exact"] < variance["k3"] < variance["k2"] < variance["k1_reward"] < variance["k1"]
    said = ["k1, loss", "k2, loss", "k3, loss", "k3 live, loss", "exact, loss", "k1, reward", "k3, reward"]
    left.set(yticks=at, yticklabels=said, xlabel="relative bias of the gradient", xlim=(0, 1.15))
    right.set(yticks=at, yticklabels=[], xlabel="variance of one text's gradient")
    for axes in (left, right):
        axes.invert_yaxis()
    figure.legend(*left.get_legend_handles_labels(), fontsize=9, loc="outside upper center", ncols=2)
    return figure


def judged() -> Figure:
    """A reward model that counts, where the worth of a text does not: the optimum of RLHF for every beta."""
    worth = lambda m, x: x.count(1) - 0.2 * x.count(1) ** 2  # noqa: E731
    logits = torch.tensor([0.6, -0.4, 0.0], dtype=F64).expand(31, 3)
    first = exact.sequences(3, 5, worth, logits=logits)
    x, p = first.every, first.probability
    features = torch.stack([((x.action == a) & x.mask).sum(-1).to(F64) for a in (1, 2)], 1)
    truth = torch.where(x.mask, first.table.R[x.state, x.action], 0.0).sum(-1)
    prefers = torch.sigmoid(4 * (truth[:, None] - truth))  # judges are sure where the worth differs much

    def loss(w: Tensor) -> Tensor:
        """Bradley and Terry's, expected over all pairs of texts of the first policy."""
        r = features @ w
        return -(p[:, None] * p * prefers * torch.nn.functional.logsigmoid(r[:, None] - r)).sum()

    w = torch.zeros(2, dtype=F64)
    for _ in range(12):  # Newton: the loss is convex
        slope, curvature = (f(loss, w) for f in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian))
        w = w - torch.linalg.solve(curvature, slope)
    assert slope.abs().max() < 1e-12 and w[0] > 0
    reward = features @ w
    rows = []
    for beta in torch.logspace(2.0, -0.5, 120, dtype=F64):
        best = (p.log() + reward / beta).softmax(0)  # pi_ref exp(r / beta) / Z
        rows.append([float(x) for x in (best @ (best.log() - p.log()), best @ reward, best @ truth)])
    divergence, said, true = zip(*rows, strict=True)
    peak = max(range(len(true)), key=true.__getitem__)
    assert all(a < b for a, b in pairwise(said)) and true[0] < true[peak] > 0.2 + true[-1]
    figure, (left, right) = new(columns=2)
    left.plot(divergence, said, color=ORANGE)
    right.plot(divergence, true, color=BLUE)
    right.plot(divergence[peak], true[peak], "o", color=BLUE)
    left.set(ylabel="mean reward, by the model", xlabel="KL to the first policy, nats")
    right.set(ylabel="mean worth, in truth", xlabel="KL to the first policy, nats")
    return figure


if __name__ == "__main__":
    write(__file__, std=std, length=length, ratios=ratios, kl=kl, judged=judged)
