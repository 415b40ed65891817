"""Checks of second-order ascent: conjugate gradient, Fisher products, natural step and trust region beside dense algebra."""

from collections.abc import Iterator

import torch
from torch import Tensor

from logpi.batch import Batch
from logpi.exact import mdp
from logpi.exact.kit.holds import agree, apart, check, claim, normal
from logpi.exact.kit.step import Setting
from logpi.now import Side
from logpi.step.gradient import Parts, total
from logpi.step.natural import (
    conjugate_gradient,
    flat,
    gradient,
    hessian_product,
    like,
    move,
    natural_direction,
    natural_step,
    trust_region_step,
)

DELTA, DAMPING = 0.02, 0.1


def positive(n: int) -> Tensor:
    M = normal(n, n)
    return M @ M.T / n + 0.1 * torch.eye(n, dtype=torch.float64)


def dense_fisher(x: Setting) -> Tensor:
    """F over the rows by mdp.fisher, [P, P]: its weight is how often each state stands there."""
    share = x.rows.batch.obs.mean(0)
    return mdp.fisher(x.policy, x.problem.obs, share).detach()


def products(x: Setting, v: Tensor, fisher: str) -> Tensor:
    if fisher == "kl":
        return hessian_product(x.kl, x.rows, x.params, v)
    return sum(flat(part) for part in x.kl.fisher(x.rows.batch, like(v, x.params)))  # type: ignore[return-value]


@check("conjugate gradient is the dense solve")
def _() -> None:
    for n in (1, 2, 7):
        M, b = positive(n), normal(n, seed=1)
        agree(conjugate_gradient(lambda v, M=M: M @ v, b, 3 * n, 1e-14), torch.linalg.solve(M, b), f"n {n}", 1e-9)  # type: ignore[misc]


@check("k products of conjugate gradient give the best of their Krylov space, and no more are taken")
def _() -> None:
    M, b, calls = positive(9), normal(9, seed=1), []

    def matvec(v: Tensor) -> Tensor:
        calls.append(v)
        return M @ v

    for k in (1, 2, 4):
        calls.clear()
        found = conjugate_gradient(matvec, b, k, 0.0)
        K, _ = torch.linalg.qr(torch.stack([torch.linalg.matrix_power(M, i) @ b for i in range(k)], 1))
        agree(found, K @ torch.linalg.solve(K.T @ M @ K, K.T @ b), f"k {k}", 1e-9)
        claim(len(calls) == k, f"{len(calls)} products, not {k}")
    calls.clear()
    agree(conjugate_gradient(matvec, torch.zeros_like(b)), 0.0, "b = 0")
    claim(not calls, "a product for b = 0")
    near = conjugate_gradient(matvec, b, 100, 1e-3)
    claim((b - M @ near).norm() <= 1e-3 * b.norm() and len(calls) < 9, "does not stop at the tolerance")


@check("both Fisher products are the dense Fisher matrix's, for every split")
def _() -> None:
    F = dense_fisher(Setting())
    apart(F, torch.zeros(()), "the Fisher matrix")
    v = normal(len(F))
    for micro in (None, 4):
        for fisher in ("head", "kl"):
            agree(products(Setting(micro), v, fisher), F @ v, f"{fisher}, micro {micro}")


@check("the Fisher matrix is E[grad log pi grad log pi'] and the Hessian of the KL in either direction")
def _() -> None:
    x = Setting()
    F, obs = dense_fisher(x), x.rows.batch.obs
    inner = torch.zeros_like(F)
    with torch.no_grad():
        pi = x.policy(obs).softmax(-1)
    for i, p in enumerate(pi):
        for a, chance in enumerate(p):
            score = flat(torch.autograd.grad(x.policy.log_prob(obs[i], torch.tensor(a)), x.params))
            inner += chance * torch.outer(score, score) / len(pi)
    agree(inner, F, "outer products")
    other = hessian_product(lambda mini: x.kl(mini, "new_old"), x.rows, x.params, normal(len(F)))
    agree(other, F @ normal(len(F)), "KL(pi || pi_old)")


@check("the natural step is the dense one: along (F + damping I)^-1 g, of length sqrt(2 delta)")
def _() -> None:
    for fisher in ("head", "kl"):
        x = Setting()
        damped = dense_fisher(x) + DAMPING * torch.eye(len(x.theta()), dtype=torch.float64)
        old, g = x.theta(), gradient(x.surrogate(x.rows.batch), x.params)
        natural_step(x.surrogate, x.kl, x.rows, x.sgd(), DELTA, DAMPING, 60, fisher)
        direction = torch.linalg.solve(damped, g)
        step = direction * (2 * DELTA / (g @ direction)).sqrt()
        agree(x.theta() - old, step, fisher, 1e-8)


@check("the length holds for a direction that has not converged; without a gradient no step")
def _() -> None:
    x = Setting()
    damped = dense_fisher(x) + DAMPING * torch.eye(len(x.theta()), dtype=torch.float64)
    step, _, _ = natural_direction(x.surrogate, x.kl, x.rows, x.params, "head", DELTA, DAMPING, 2)
    agree(step @ damped @ step / 2, DELTA, "x'(F + damping I)x / 2", 1e-9)

    def flat_surrogate(mini: Batch) -> Iterator[Tensor]:
        yield sum((0 * p).sum() for p in x.params)  # type: ignore[misc]

    agree(natural_direction(flat_surrogate, x.kl, x.rows, x.params, "head", DELTA, DAMPING, 5)[0], 0.0, "g = 0")


class Magnified:
    """A divergence whose values, not its Fisher matrix, are so many times too large, and so much more."""

    def __init__(self, x: Setting, times: float, more: float = 0.0) -> None:
        self.kl, self.fisher, self.times, self.more = x.kl, x.kl.fisher, times, more

    def __call__(self, mini: Batch, side: Side = "old_new") -> Iterator[Tensor]:
        return (self.times * part + self.more for part in self.kl(mini, side))


@check("a trust region step has KL <= delta and a higher surrogate, and is the first length that has")
def _() -> None:
    first_that_has("ratio", 1e-3, 0.9, "old_new", shortened=False)
    first_that_has("ratio", 1e-3, 4.0, "old_new", shortened=True)
    first_that_has("ratio", 1e-3, 4.0, "new_old", shortened=True)
    first_that_has("mirror", 1.0, 1.0, "old_new", shortened=True)


def first_that_has(form: str, delta: float, times: float, side: Side, shortened: bool) -> None:
    x = Setting(objective=form)
    kl, old = Magnified(x, times), [p.detach().clone() for p in x.params]
    full, g, before = natural_direction(x.surrogate, kl, x.rows, x.params, "head", delta, 1e-3, 5)

    def now() -> tuple[float, float]:
        return float(total(x.surrogate(x.rows.batch))), float(total(kl(x.rows.batch, side)))

    told = trust_region_step(x.surrogate, kl, x.rows, x.sgd(), delta, 1e-3, 5, shrink=0.8, side=side)
    k, (value, divergence), where = int(told["backtracks"]), now(), f"{form}, KL x {times:g}, {side}"
    claim(value > before, f"{where}: the surrogate fell from {before:.6g} to {value:.6g}")
    claim(divergence <= delta, f"{where}: KL {divergence:.6g}, not <= {delta:g}")
    agree(told["gain"], value - before, f"{where}: the gain told")
    agree(x.theta() - flat(old), 0.8**k * full, f"{where}: the step")
    agree(told["step_norm"], 0.8**k * full.norm(), f"{where}: the length told")
    agree(torch.stack([told["grad_norm"], told["expected_gain"]]), torch.stack([g.norm(), g @ full]), f"{where}: told")
    claim((k > 0) is shortened, f"{where}: shortened {k} times")
    if k:
        move(x.params, old, 0.8 ** (k - 1) * full)
        value, divergence = now()
        claim(value <= before or divergence > delta, f"{where}: shortened once too often")


@check("a trust region step that no length makes better restores the parameters bit for bit")
def _() -> None:
    x = Setting()
    old = [p.detach().clone() for p in x.params]

    def climbing(elsewhere: float) -> Parts:
        """A surrogate that climbs where it stands, and is so much wherever else."""

        def surrogate(mini: Batch) -> Iterator[Tensor]:
            away = sum((p - q).sum() for p, q in zip(x.params, old, strict=True))
            moved = not all(torch.equal(p, q) for p, q in zip(x.params, old, strict=True))
            yield away - away.detach() + (elsewhere if moved else 0.0)  # type: ignore[union-attr]

        return surrogate

    for elsewhere in (-1.0, 0.0, torch.inf, torch.nan):
        told = trust_region_step(climbing(elsewhere), x.kl, x.rows, x.sgd(), DELTA, DAMPING, 5)
        claim(told["accepted"] == 0, f"accepted a surrogate that is {elsewhere} more")
        claim(all(torch.equal(p, q) for p, q in zip(x.params, old, strict=True)), "the parameters were not restored")
    told = trust_region_step(climbing(1.0), Magnified(x, 0.0, DELTA), x.rows, x.sgd(), DELTA, DAMPING, 5)
    claim(told["accepted"] == 1 and told["backtracks"] == 0, "a KL that is delta is not accepted")


@check("a parameter on which nothing depends has gradient and Fisher product 0")
def _() -> None:
    x = Setting()
    idle = torch.ones(3, dtype=torch.float64, requires_grad=True)
    g = gradient(x.surrogate(x.rows.batch), [*x.params, idle])
    agree(g, torch.nn.functional.pad(gradient(x.surrogate(x.rows.batch), x.params), (0, 3)), "gradient")
    found = hessian_product(x.kl, x.rows, [*x.params, idle], torch.ones_like(g))
    agree(found, torch.nn.functional.pad(products(x, torch.ones_like(g[:-3]), "kl"), (0, 3)), "Fisher product")
