"""The figures of chapter 6: what a step in parameters does to the policy, and the step that is measured in KL. All exact."""

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from style import BLUE, GREEN, GREY, ORANGE, new, write
from torch import Tensor
from torch.func import jacrev

from logpi import exact, kl
from logpi.exact import mdp
from logpi.exact.problems import changed
from logpi.lab.problems import machine
from logpi.step.natural import conjugate_gradient

Map = Callable[[Tensor], Tensor]


def distance() -> Figure:
    """The KL of one and the same step in the parameter, wherever it starts; dashed half the Fisher matrix times its square."""
    figure, (left, right) = new(columns=2)
    theta, step = torch.linspace(-6, 6, 121, dtype=torch.float64), 0.5
    two = torch.stack([torch.zeros_like(theta), theta], -1)
    found = kl.categorical(two, two + torch.tensor([0.0, step]))
    p = theta.sigmoid()
    model = step**2 / 2 * p * (1 - p)
    assert found.max() / found[0] > 80
    assert (found / model - 1).abs().max() < 0.25
    left.plot(theta, found, color=BLUE, label="KL")
    left.plot(theta, model, "--", color=GREY, label=r"$\frac{1}{2} F(\theta) \cdot 0.5^2$")
    left.set_xlabel("log-odds, raised by 0.5")
    std = torch.logspace(-2, 0, 50, dtype=torch.float64)
    old = torch.stack([torch.zeros_like(std), std.log()], -1)
    moved = kl.gaussian(old, old + torch.tensor([0.1, 0.0]))
    assert torch.allclose(moved, 0.005 / std**2)  # the model is exact for a mean
    right.loglog(std, moved, color=ORANGE, label="KL")
    right.set_xlabel("std; the mean is raised by 0.1")
    for axes in (left, right):
        axes.set_ylabel("KL(old || new)")
    left.legend(loc="upper left")
    left.set_xlim(-11, 6.5)
    return figure


def quadratic() -> Figure:
    """Both KLs and their common quadratic model, along the natural gradient."""
    problem = exact.find("five-states")
    weight = mdp.visits(problem.table, problem.pi, 1.0)
    weight = weight / weight.sum()
    F = mdp.fisher(problem.policy, problem.obs, weight)
    x = mdp.natural_gradient(F, problem.directions()[0].gradient)
    unit = torch.einsum("sap,p->sa", problem.jacobian, x / (x @ F @ x).sqrt())
    steps = torch.linspace(0.01, 1.5, 60, dtype=torch.float64)
    new_pi = [(problem.drawing + s * unit).softmax(-1) for s in steps]
    old_new = torch.stack([mdp.kl(problem.pi, q, weight) for q in new_pi])
    new_old = torch.stack([mdp.kl(q, problem.pi, weight) for q in new_pi])
    model = steps**2 / 2
    for side in (old_new, new_old):
        assert abs(side[0] / model[0] - 1) < 0.02  # the same to second order
    assert abs(old_new[-1] / new_old[-1] - 1) > 0.1  # and apart beyond
    figure, (axes,) = new()
    axes.plot(steps, old_new, color=BLUE, label="KL(old || new)")
    axes.plot(steps, new_old, color=ORANGE, label="KL(new || old)")
    axes.plot(steps, model, "--", color=GREY, label=r"$\frac{1}{2} \Delta\theta^T F \Delta\theta$")
    axes.set_xlabel("length of the step, measured by F")
    axes.set_ylabel("KL, mean over states")
    axes.legend()
    return figure


def follow(to_theta: Map, phi: Tensor, natural: bool, steps: int = 70, length: float = 0.02) -> Tensor:
    """The two probabilities along a path of steps of one KL each, by plain or natural gradients in phi; theta = to_theta(phi)."""
    table = machine().table

    def pi(theta: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(theta), theta], -1).softmax(-1)

    told = [pi(to_theta(phi))[:, 1]]
    for _ in range(steps):
        M = jacrev(to_theta)(phi)
        now = pi(to_theta(phi))
        g = M.T @ jacrev(lambda x: mdp.expected_return(table, pi(x), 1.0, table.limit))(to_theta(phi))
        d = mdp.visits(table, now, 1.0, table.limit).sum(0)
        F = M.T @ torch.diag(d / d.sum() * now.prod(-1)) @ M
        x = torch.linalg.solve(F, g) if natural else g
        phi = phi + length * x / (x @ F @ x).sqrt()
        told.append(pi(to_theta(phi))[:, 1])
    return torch.stack(told)


def paths() -> Figure:
    """Three parametrisations of one policy: three plain paths, one natural path."""
    theta = torch.tensor([1.5, -2.0], dtype=torch.float64)
    stretch = torch.tensor([4.0, 1.0], dtype=torch.float64)
    maps: dict[str, tuple[Map, Tensor]] = {
        r"$\theta = \varphi$": (lambda x: x, theta),
        r"$\theta = (4\varphi_1, \varphi_2)$": (lambda x: stretch * x, theta / stretch),
        r"$\theta = \sinh \varphi$": (torch.sinh, theta.asinh()),
    }
    table, grid = machine().table, torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    worth = torch.stack(
        [
            torch.stack(
                [
                    mdp.expected_return(table, torch.tensor([[1 - p, p], [1 - q, q]]).to(grid), 1.0, table.limit)
                    for p in grid
                ]
            )
            for q in grid
        ]
    )
    figure, axes = new(height=3.6, columns=2)
    ends = {}
    for ax, natural in zip(axes, (False, True), strict=True):
        ax.contour(grid, grid, worth, levels=9, colors=GREY, linewidths=0.6, alpha=0.6)
        found = [follow(f, phi, natural) for f, phi in maps.values()]
        ends[natural] = max(float((a - b).norm(dim=-1).max()) for a in found for b in found)
        for name, path, colour, style in zip(maps, found, (BLUE, ORANGE, GREEN), ("-", "--", ":"), strict=True):
            ax.plot(path[:, 0], path[:, 1], style, color=colour, linewidth=2.2, label=name)
        ax.plot(*found[0][0], "o", color=GREY)
        ax.set_title("natural gradient" if natural else "plain gradient")
        ax.set_xlabel("probability of mending, well")
        ax.set_ylabel("probability of mending, worn")
    assert ends[False] > 0.2
    assert ends[True] < 0.02
    axes[0].legend(loc="upper right")
    return figure


def cg() -> Figure:
    """What is left of the equation after k products, for three dampings: a network of 16 hidden units on a 4 x 4 grid."""
    problem = changed(exact.find("gridworld"), hidden=(16,))
    weight = mdp.visits(problem.table, problem.pi, 1.0, problem.limit).sum(0)
    F = mdp.fisher(problem.policy, problem.obs, weight / weight.sum()).detach()
    g = problem.directions()[0].gradient
    figure, (axes,) = new()
    ks, left = range(31), {}
    for damping, colour in ((1e-4, ORANGE), (1e-2, GREEN), (1e-1, BLUE)):
        A = F + damping * torch.eye(len(F), dtype=F.dtype)
        found = [conjugate_gradient(lambda v, A=A: A @ v, g, k, 0.0) for k in ks]
        left[damping] = [float((g - A @ x).norm() / g.norm()) for x in found]
        axes.semilogy(ks, left[damping], color=colour, label=f"damping {damping:g}")
    assert left[1e-1][10] < left[1e-2][10] < left[1e-4][10]
    assert left[1e-1][10] < 1e-3
    axes.axvline(10, color=GREY, linestyle=":", linewidth=1)
    axes.set_xlabel("k, products with F (dotted: the custom, 10)")
    axes.set_ylabel("|g - (F + damping I) x| / |g|")
    axes.set_ylim(1e-12, 3)
    axes.legend()
    return figure


write(__file__, distance=distance, quadratic=quadratic, paths=paths, cg=cg)
