"""The figures of chapter 7: a surrogate that lies, a ball of KL, and who stays in it."""

import math
from dataclasses import replace

import torch
from matplotlib.figure import Figure
from style import BLUE, GREEN, GREY, ORANGE, PINK, new, write

import logpi
from logpi import exact
from logpi.envs.tabular import Table
from logpi.exact import mdp
from logpi.lab import problems
from logpi.lab.demos.regions import landscape

DELTA = 0.3


def ice() -> Figure:
    """J, L and the bound, of all policies of one number; the surrogate rises where J falls."""
    P = torch.zeros(3, 2, 3)  # shore, ice, over
    P[0, 0, 2] = P[0, 1, 1] = 1.0
    P[1:, :, 2] = 1.0
    table = Table(P, torch.tensor([[0.0, 1], [0, -5], [0, 0]]), torch.eye(3)[0], torch.arange(3) == 2, limit=2)
    p = exact.from_table(table, gamma=1.0, policy=problems.odds([math.log(1 / 19)]), obs=torch.ones(3, 1).double())
    V, Q = mdp.values(p.table, p.pi, 1.0)
    A, d = Q - V[:, None], mdp.visits(p.table, p.pi, 1.0)
    penalty = 2 * 2**2 * A.abs().max()
    figure, panels = new(columns=2)
    for ax, until in zip(panels, (0.2, 0.0525), strict=True):
        walks = torch.linspace(0.0475 if until < 0.1 else 0.01, until, 400, dtype=torch.float64)
        pi = torch.stack([1 - walks, walks], -1)[:, None].expand(-1, 3, -1)
        gain = torch.stack([mdp.expected_return(p.table, x, 1.0) for x in pi]) - mdp.expected_return(p.table, p.pi, 1.0)
        told = (d[:, None] * pi * A).sum((1, 2))
        bound = told - penalty * (p.pi * (p.pi / pi).log()).sum(-1).amax(-1)
        assert (bound <= gain + 1e-12).all() and (told >= gain - 1e-12).all()
        assert (told.diff() > 0).all()
        if until > 0.1:
            assert abs(walks[gain.argmax()] - 0.1) < 0.001 and gain[-1] < -0.03 and told[-1] > 0.07
        ax.axhline(0, color=GREY, lw=0.6)
        ax.axvline(0.05, color=GREY, lw=0.6, ls=":")
        ax.plot(walks, told, color=ORANGE, label="L, the surrogate")
        ax.plot(walks, gain, color=BLUE, label="J, true")
        ax.plot(walks, bound, color=GREEN, ls="--", label="L - C max KL")
        ax.set(xlabel="p, probability of walking on", xlim=(float(walks[0]), until))
    panels[0].set(ylabel="gain over p = 0.05", ylim=(-0.06, 0.09))
    panels[0].legend(loc="lower left", bbox_to_anchor=(0.28, 0.0))
    panels[1].set(ylim=(-0.0025, 0.0015), title="near the old policy")
    panels[0].set_title("all of it")
    return figure


def ball() -> Figure:
    """The natural step, its backtracks and the true ball, from a policy that is even and from one that is nearly sure."""
    figure, panels = new(7.0, 3.7, 2)
    coarse, fine = (torch.linspace(-5, 5, n, dtype=torch.float64) for n in (31, 81))
    for ax, (title, at) in zip(panels, (("an even policy", (0.0, 0.0)), ("nearly sure", (1.5, -2.0))), strict=True):
        p = problems.machine(*at)
        worth, divergence = landscape(p, coarse)[1], landscape(p, fine)[0]
        share = problems.visited(p)
        g = mdp.gradient(p.table, p.policy, p.obs, p.gamma, limit=p.limit)
        F = mdp.fisher(p.policy, p.obs, share)
        x = torch.linalg.solve(F, g)
        x, start = (2 * DELTA / (g @ x)).sqrt() * x, torch.tensor(at, dtype=torch.float64)
        tries = [start + 0.8**k * x for k in range(10)]
        far = [problems.kl_between(p, moved(p, theta)) for theta in tries]
        accepted = next(k for k, (f, t) in enumerate(zip(far, tries, strict=True)) if f <= DELTA and promised(p, t) > 0)
        assert accepted == (0 if at[0] == 0 else 1) and far[accepted] <= DELTA
        turn = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
        circle = torch.stack([turn.cos(), turn.sin()])
        border = start[:, None] + math.sqrt(2 * DELTA) * torch.linalg.solve(torch.linalg.cholesky(F).T, circle)
        ax.contourf(coarse, coarse, worth, 8, cmap="Greys", alpha=0.35)
        ax.contour(fine, fine, divergence, [DELTA], colors=BLUE, linewidths=2)
        ax.plot(*border, color=GREEN, ls="--")
        ax.plot(*torch.stack(tries[: accepted + 1], 1), "o", color=ORANGE, ms=4, mfc="none")
        ax.plot(*tries[accepted], "o", color=ORANGE, ms=7)
        ax.plot(*start, "+", color=GREY, ms=10, mew=2)
        ax.set(title=title, xlabel="log-odds of mending, well", xlim=(-5, 5), ylim=(-5, 5), aspect="equal")
    panels[0].set_ylabel("log-odds of mending, worn")
    handles = [
        panels[0].plot([], [], color=BLUE, lw=2, label="true KL = 0.3")[0],
        panels[0].plot([], [], color=GREEN, ls="--", label="its quadratic model")[0],
        panels[0].plot([], [], "o", color=ORANGE, mfc="none", ms=4, label="tried")[0],
        panels[0].plot([], [], "o", color=ORANGE, ms=7, label="accepted")[0],
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handletextpad=0.4, columnspacing=1.2)
    return figure


def moved(p: exact.Problem, theta: torch.Tensor) -> exact.Problem:
    """The problem with the policy at theta."""
    return replace(p, policy=problems.odds(theta.tolist()))


def promised(p: exact.Problem, theta: torch.Tensor) -> float:
    """L, exact."""
    V, Q = mdp.values(p.table, p.pi, p.gamma, p.limit)
    d = mdp.visits(p.table, p.pi, p.gamma, p.limit)
    return float((d[..., None] * moved(p, theta).pi * (Q - V[..., None])).sum())


def cartpole() -> Figure:
    """The mean KL of each update, NPG and TRPO, the same settings."""
    figure, (ax,) = new()
    settings = {"delta": 0.05, "damping": 1e-3, "steps": 20_000, "seed": 0, "fast": "off"}
    for name, colour, mark in (("npg", PINK, "o"), ("trpo", BLUE, "s")):
        reached = torch.tensor([r["kl"] for r in logpi.learn(name, "CartPole-v1", **settings)])
        if name == "trpo":
            assert (reached <= 0.05 * (1 + 1e-4)).all()
        else:
            assert (reached > 0.05).sum() >= 8 and reached.max() > 0.1
        ax.semilogy(range(1, len(reached) + 1), reached, mark, color=colour, ls=":", lw=0.8, label=name)
    ax.axhline(0.05, color=GREY, lw=0.8)
    ax.text(20.4, 0.052, "delta", va="bottom", ha="left")
    ax.set(xlabel="update", ylabel="mean KL(old || new)", xticks=range(1, 21, 3), xlim=(0.3, 21.6))
    ax.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], labels=["0.02", "0.05", "0.1", "0.2", "0.5"])
    ax.minorticks_off()
    ax.legend(loc="upper left", ncols=2)
    return figure


if __name__ == "__main__":
    write(__file__, ice=ice, ball=ball, cartpole=cartpole)
