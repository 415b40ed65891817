"""The figures of chapter 8: the clip, what it holds and what it does not, the KL of real updates, beta at work."""

import math

import torch
from matplotlib.figure import Figure
from style import BLUE, GREEN, GREY, ORANGE, PINK, new, write

import logpi
from logpi import average, exact, objective, psi
from logpi.envs.tabular import Table
from logpi.exact import mdp, trajectories
from logpi.lab.problems import odds


def clip() -> Figure:
    """The objective over the ratio, by the sign of Psi; where it is flat there is no gradient."""
    figure, panels = new(columns=2)
    for ax, credit in zip(panels, (1.0, -1.0), strict=True):
        rho = torch.linspace(0.3, 1.9, 801, dtype=torch.float64).requires_grad_()
        credits, zero = torch.full_like(rho, credit), torch.zeros_like(rho)
        kept = objective.clip(rho.log(), zero, credits, 0.2, 0.2)
        (slope,) = torch.autograd.grad(kept.sum(), rho)
        x, off = rho.detach(), slope == 0
        assert torch.equal(off, x > 1.2 if credit > 0 else x < 0.8)
        ax.axvspan(0.8, 1.2, color=GREY, alpha=0.15, lw=0)
        ax.plot(x, objective.ratio(rho.log(), zero, credits).detach(), color=GREY, ls=":")
        for part, colour, name in ((~off, BLUE, "gradient on"), (off, ORANGE, "gradient off")):
            ax.plot(x[part], kept.detach()[part], color=colour, lw=2.5, label=name)
        ax.set(title="Psi = 1" if credit > 0 else "Psi = -1", xlabel="ratio")
    panels[0].set_ylabel("clipped objective")
    panels[0].legend(loc="lower right")
    return figure


def epochs() -> Figure:
    """Left: on the ice the clip stops at 1.2 times the old probability. Right: on five states the KL grows on."""
    figure, (left, right) = new(7.0, 3.4, 2)
    P = torch.zeros(3, 2, 3)  # shore, ice, over
    P[0, 0, 2] = P[0, 1, 1] = 1.0
    P[1:, :, 2] = 1.0
    table = Table(P, torch.tensor([[0.0, 1], [0, -5], [0, 0]]), torch.eye(3)[0], torch.arange(3) == 2, limit=2)
    p = exact.from_table(table, gamma=1.0, policy=odds([math.log(1 / 19)]), obs=torch.ones(3, 1).double())
    V, Q = mdp.values(p.table, p.pi, 1.0)
    A, d = Q - V[:, None], mdp.visits(p.table, p.pi, 1.0)
    walks = torch.linspace(0.02, 0.2, 361, dtype=torch.float64)
    pi = torch.stack([1 - walks, walks], -1)[:, None].expand(-1, 3, -1)
    gain = torch.stack([mdp.expected_return(p.table, x, 1.0) for x in pi]) - mdp.expected_return(p.table, p.pi, 1.0)
    both = pi.log(), p.pi.log().expand_as(pi), A.expand_as(pi)
    told = (d[:, None] * p.pi * objective.ratio(*both)).sum((1, 2))
    held = (d[:, None] * p.pi * objective.clip(*both, 0.2, 0.2)).sum((1, 2))
    assert abs(walks[held.argmax()] - 0.06) < 1e-9 and told.argmax() == len(walks) - 1 and gain[-1] < 0
    left.axhline(0, color=GREY, lw=0.6)
    for y, colour, name in ((told, ORANGE, "ratio"), (gain, BLUE, "J, true"), (held, GREEN, "clip")):
        left.plot(walks, y, color=colour, label=name)
    left.set(title="the ice, exact", xlabel="p, probability of walking on", ylabel="gain over p = 0.05")
    left.set_ylim(-0.06, 0.09)
    left.legend(loc="upper left")
    clipped, free = reached(0.2), reached(1e9)
    assert clipped[40] > 10 * clipped[1] and free[8] > 10 * clipped[8]  # it goes on; far slower
    for y, colour, name in ((free, ORANGE, "ratio"), (clipped, GREEN, "clip")):
        right.semilogy(range(1, 41), y[1:], color=colour, label=name)
    right.set(title="five states, batches of 8 episodes", xlabel="gradient steps on one batch", ylabel="KL(old || new)")
    right.legend(loc="lower right")
    return figure


def reached(eps: float, steps: int = 40, batches: int = 100, n: int = 8) -> list[float]:
    """The exact KL after each full-batch gradient step, the mean over batches of drawn episodes, each with its own policy."""
    p, random = exact.find("five-states"), torch.Generator().manual_seed(0)
    start = torch.multinomial(p.table.start, n * batches, True, generator=random)
    x = trajectories.drawn(p.table, p.pi, start, random)
    b = p.batch(x)
    credit = psi.gae(b.reward, b.value, b.value_next, b.terminated, b.truncated, p.gamma, 0.95)
    credit, mask, old, s, a = (z.unflatten(0, (batches, n)) for z in (credit, x.mask, b.log_pi, x.state, x.action))
    credit = torch.stack([psi.standardise(c, m) for c, m in zip(credit, mask, strict=True)])
    logits, which = p.drawing.expand(batches, -1, -1).clone().requires_grad_(), torch.arange(batches)[:, None, None]
    share = mdp.visits(p.table, p.pi, 1.0)
    found = []
    for _ in range(steps + 1):
        found.append(float(mdp.kl(p.pi, logits.detach().softmax(-1), share / share.sum()) / batches))
        gain = objective.clip(logits.log_softmax(-1)[which, s, a], old, credit, eps, eps)
        total = sum(average.per_action(g, m) for g, m in zip(gain, mask, strict=True))
        (g,) = torch.autograd.grad(total, logits)
        logits = (logits + g).detach().requires_grad_()
    outside = ((logits.log_softmax(-1)[which, s, a] - old).expm1().abs() > eps)[mask].double().mean()
    assert eps > 1 or 0.45 < outside < 0.65
    return found


def cartpole() -> Figure:
    """The KL of each update of 16 epochs, with the clip and without."""
    figure, (ax,) = new()
    settings = {"epochs": 16, "anneal": False, "steps": 20_000, "seed": 0, "fast": "off"}
    told = {}
    for eps, colour, mark, name in ((1e6, ORANGE, "o", "no clip"), (0.2, GREEN, "s", "clip 0.2")):
        told[name] = [r["kl"] for r in logpi.learn("ppo", "CartPole-v1", clip=eps, **settings)]
        ax.semilogy(range(1, len(told[name]) + 1), told[name], mark, color=colour, ls=":", lw=0.8, label=name)
    held, free = (torch.tensor(told[name]) for name in ("clip 0.2", "no clip"))
    assert held.max() < 0.1 and 50 < free.median() / held.median() < 200
    ax.set(xlabel="update", ylabel="mean KL(old || new)", xticks=range(1, 21, 3))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def beta() -> Figure:
    """PPO's KL penalty: beta runs after the KL."""
    figure, (top, low) = new(7.0, 3.2, 2)
    settings = {"target": 0.01, "anneal": False, "steps": 30_000, "seed": 0, "fast": "off"}
    told = [(r["kl"], r.parts.state["beta"]) for r in logpi.learn("ppo_kl", "CartPole-v1", **settings)]
    far, weight = (torch.tensor(x, dtype=torch.float64) for x in zip(*told, strict=True))
    before = torch.cat([torch.ones(1, dtype=torch.float64), weight[:-1]])
    assert torch.equal(weight / before, torch.where(far > 0.015, 2.0, torch.where(far < 0.01 / 1.5, 0.5, 1.0)).double())
    updates = range(1, len(told) + 1)
    top.axhspan(0.01 / 1.5, 0.015, color=GREY, alpha=0.2, lw=0)
    top.semilogy(updates, far, "o", color=BLUE, ls=":", lw=0.8, ms=4)
    top.set(title="KL reached, and the band that it should be in", xlabel="update")
    low.semilogy(updates, weight, color=PINK, drawstyle="steps-post", base=2)
    low.set(title="beta for the next update", xlabel="update")
    return figure


if __name__ == "__main__":
    write(__file__, clip=clip, epochs=epochs, cartpole=cartpole, beta=beta)
