"""Conjugate gradient, Fisher products, the natural step, the trust region."""

import copy
import gc
import weakref

import pytest
import torch
from made import HEADS, batch_for, case, parts_for, policy_for, rows_for
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from logpi.finite import NotFinite
from logpi.loop import credited, update
from logpi.methods import NPG, TRPO
from logpi.now import Divergence, Surrogate
from logpi.step.gradient import total
from logpi.step.natural import (
    conjugate_gradient,
    flat,
    gradient,
    hessian_product,
    like,
    move,
    natural_step,
    trust_region_step,
)


def positive(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(n, n, dtype=torch.float64, generator=g)
    return A @ A.T / n + 0.1 * torch.eye(n, dtype=torch.float64), torch.randn(n, dtype=torch.float64, generator=g)


class Counted:
    """v -> A v, counting."""

    def __init__(self, A: Tensor) -> None:
        self.A, self.calls = A, 0

    def __call__(self, v: Tensor) -> Tensor:
        self.calls += 1
        return self.A @ v


@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_conjugate_gradient_is_the_dense_solve(n):
    A, b = positive(n)
    assert torch.allclose(
        conjugate_gradient(Counted(A), b, 3 * n, 1e-14), torch.linalg.solve(A, b), rtol=1e-9, atol=1e-10
    )


def test_conjugate_gradient_of_zero_is_zero_without_a_product():
    matvec = Counted(positive(5)[0])
    assert torch.equal(conjugate_gradient(matvec, torch.zeros(5), 10), torch.zeros(5)) and matvec.calls == 0


def test_conjugate_gradient_takes_no_more_products_than_allowed_and_is_best_in_their_krylov_space():
    A, b = positive(12)
    for k in (1, 2, 5):
        matvec = Counted(A)
        x = conjugate_gradient(matvec, b, k, 0.0)
        assert matvec.calls == k
        K, _ = torch.linalg.qr(torch.stack([torch.linalg.matrix_power(A, i) @ b for i in range(k)], 1))
        assert torch.allclose(x, K @ torch.linalg.solve(K.T @ A @ K, K.T @ b), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-4])
def test_conjugate_gradient_stops_at_the_first_residual_under_the_tolerance(tolerance):
    A, b = positive(12)
    matvec = Counted(A)
    x = conjugate_gradient(matvec, b, 100, tolerance)
    before = conjugate_gradient(Counted(A), b, matvec.calls - 1, 0.0)
    assert (b - A @ x).norm() <= tolerance * b.norm() < (b - A @ before).norm()


def nodes(head: str, params: Tensor) -> tuple[Tensor, Tensor]:
    """Actions [N, R, ...] and weights [N, R] with which sum_i w_i f(a_i) is E f(a): all actions, or a quadrature."""
    if head == "categorical":
        actions = torch.arange(params.shape[-1])[:, None].expand(-1, len(params))
        return actions, params.softmax(-1).T
    if head == "beta":  # the trapezoid rule in y, x = sigmoid(y)
        y = torch.arange(-34, 34.5, 0.5, dtype=torch.float64)
        y = torch.cartesian_prod(y, y)[:, None].expand(-1, len(params), 2)
        alpha, beta = params.chunk(2, -1)
        density = torch.distributions.Beta(alpha, beta).log_prob(y.sigmoid()).exp()
        return y.sigmoid(), (density * y.sigmoid() * (-y).sigmoid() * 0.5).prod(-1)
    mean, log_std = params.chunk(2, -1)
    z = torch.arange(-12, 12, 0.25, dtype=torch.float64)
    z = torch.cartesian_prod(z, z)[:, None]
    weight = ((-(z.square()) / 2).exp() / (2 * torch.pi) ** 0.5 * 0.25).prod(-1)
    return mean + log_std.exp() * z, weight.expand(-1, len(params))


def dense_fisher(policy, head: str, obs: Tensor) -> Tensor:
    """E[score score'] over the rows and the policy's actions, [P, P]."""
    params = policy(obs).detach().requires_grad_(True)
    actions, weight = nodes(head, params.detach())
    assert torch.allclose(weight.sum(0), torch.ones(len(obs), dtype=torch.float64), atol=1e-10)
    spread = params.expand(len(actions), *params.shape)
    score = torch.autograd.grad(policy.head.log_prob(spread, actions).sum(), spread)[
        0
    ]  # of the distribution's parameters
    inner = torch.einsum("nr,nrp,nrq->rpq", weight, score, score) / len(obs)
    theta = list(policy.parameters())
    out = policy(obs)
    rows = [
        [flat(torch.autograd.grad(x, theta, retain_graph=True, materialize_grads=True)) for x in row] for row in out
    ]
    J = torch.stack([torch.stack(row) for row in rows])
    return torch.einsum("rpi,rpq,rqj->ij", J, inner, J)


@pytest.mark.parametrize("head", HEADS)
def test_both_fisher_products_are_the_dense_fisher_matrix(head):
    policy = policy_for(head)
    b = batch_for(NPG(), policy, mask=torch.ones(1, 4, dtype=torch.bool))
    F, params, rows = dense_fisher(policy, head, b.obs[0]), list(policy.parameters()), rows_for(NPG(), b)
    kl = Divergence(policy, rows)
    for seed in range(3):
        v = torch.randn(len(F), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        from_head = sum(flat(x) for x in kl.fisher(rows.batch, like(v, params)))
        for found in (from_head, hessian_product(kl, rows, params, v)):
            assert torch.allclose(found, F @ v, rtol=1e-9, atol=1e-9)
        other_side = hessian_product(lambda mini: kl(mini, "new_old"), rows, params, v)
        assert torch.allclose(other_side, F @ v, rtol=1e-9, atol=1e-9)
    assert F.abs().max() > 1e-2


def closures(method, head="categorical", micro=None, seed=0):
    policy, critic, b = case(method, head, seed)
    rows = rows_for(method, credited(method, b, {}), micro)
    surrogate = Surrogate(method, policy, critic, rows, {"progress": 0.0})
    return policy, surrogate, Divergence(policy, rows), rows, torch.optim.SGD(policy.parameters(), lr=1.0)


@pytest.mark.parametrize(("fisher", "relative"), [("head", False), ("head", True), ("kl", False)])
@pytest.mark.parametrize("head", HEADS)
def test_the_natural_step_is_the_dense_one_and_of_the_predicted_length(head, fisher, relative):
    policy, surrogate, kl, rows, optimizer = closures(NPG(), head)
    params, old = list(policy.parameters()), flat(policy.parameters()).detach().clone()
    g, n = gradient(surrogate(rows.batch), params), len(old)
    columns = [sum(flat(x) for x in kl.fisher(rows.batch, like(e, params))) for e in torch.eye(n, dtype=torch.float64)]
    F = torch.stack(columns)
    damped = F + 0.1 * ((g @ F @ g) / (g @ g) if relative else 1.0) * torch.eye(n, dtype=torch.float64)
    info = natural_step(surrogate, kl, rows, optimizer, 0.02, 0.1, 200, fisher, relative)
    x = flat(policy.parameters()).detach() - old
    assert abs(float(x @ damped @ x) / 2 / 0.02 - 1) < 1e-9
    assert torch.allclose(x / x.norm(), torch.nn.functional.normalize(torch.linalg.solve(damped, g), dim=0), atol=1e-8)
    assert torch.allclose(info["step_norm"], x.norm(), rtol=1e-9) and torch.allclose(info["grad_norm"], g.norm())


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_length_holds_for_a_direction_that_has_not_converged(iterations):
    policy, surrogate, kl, rows, optimizer = closures(NPG())
    params, old = list(policy.parameters()), flat(policy.parameters()).detach().clone()
    kept = copy.deepcopy(policy)
    natural_step(surrogate, kl, rows, optimizer, 0.02, 0.05, iterations, "head")
    x = flat(policy.parameters()).detach() - old
    Fx = sum(flat(y) for y in Divergence(kept, rows).fisher(rows.batch, like(x, params))) + 0.05 * x
    assert abs(float(x @ Fx) / 2 / 0.02 - 1) < 1e-9


@pytest.mark.parametrize("step", [natural_step, trust_region_step])
def test_no_gradient_is_no_step(step):
    policy, surrogate, kl, rows, optimizer = closures(NPG())
    rows.batch = rows.batch.with_(psi=torch.zeros_like(rows.batch.psi))
    kept = copy.deepcopy(policy)
    info = step(surrogate, kl, rows, optimizer, 0.02)
    assert all(torch.equal(p, q) for p, q in zip(policy.parameters(), kept.parameters(), strict=True))
    assert float(info["step_norm"]) == 0.0


@pytest.mark.parametrize("side", ["old_new", "new_old"])
def test_the_accepted_step_is_the_longest_that_holds_the_kl_in_the_named_direction_and_gains(side):
    shortened = 0
    for seed in range(8):
        policy, surrogate, kl, rows, optimizer = closures(TRPO(), "categorical", seed=seed)
        before, old = total(surrogate(rows.batch)), flat(policy.parameters()).detach().clone()
        info = trust_region_step(surrogate, kl, rows, optimizer, 0.5, 1e-3, 20, "head", 40, 0.9, side)
        assert float(info["accepted"]) == 1.0
        assert total(kl(rows.batch, side)) <= 0.5 and total(surrogate(rows.batch)) > before
        if info["backtracks"] > 0:
            params = list(policy.parameters())
            move(params, like(old, params), (flat(params).detach() - old) / 0.9)  # the length before it
            over = bool(total(kl(rows.batch, side)) > 0.5)
            assert over or total(surrogate(rows.batch)) <= before
            shortened += int(over)
    assert shortened


class Made:
    """A surrogate with a chosen value as a function of the distance from the start, and gradient 1 at the start."""

    def __init__(self, params: list[Tensor], value) -> None:
        self.params, self.start, self.value = params, [p.detach().clone() for p in params], value

    def __call__(self, mini):
        d = flat([p - s for p, s in zip(self.params, self.start, strict=True)])
        yield self.value(d)


REFUSED = {
    "falls": lambda d: d.sum() - 1e8 * d.square().sum(),
    "nan": lambda d: d.sum() + 0 * (1e-30 - d.square().sum()).log(),
    "inf": lambda d: d.sum() + (float("inf") if d.any() else 0.0),
    "equal": lambda d: d.sum() - d.sum(),
}
UNKNOWN = {
    "NaN in surrogate: look at the page's objective.": lambda d: d.sum() + float("nan"),
    "inf in surrogate: look at the page's objective.": lambda d: d.sum() + float("inf"),
    "NaN in gradient: lower the learning rate.": lambda d: d.square().sum().sqrt() + d.sum(),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_refused_step_leaves_every_parameter_bit_for_bit(why):
    policy, _, kl, rows, optimizer = closures(TRPO())
    kept = copy.deepcopy(policy)
    info = trust_region_step(Made(list(policy.parameters()), REFUSED[why]), kl, rows, optimizer, 0.01)
    assert all(torch.equal(p, q) for p, q in zip(policy.parameters(), kept.parameters(), strict=True))
    assert float(info["accepted"]) == float(info["step_norm"]) == float(info["gain"]) == 0.0


@pytest.mark.parametrize("sentence", UNKNOWN)
@pytest.mark.parametrize("step", [natural_step, trust_region_step])
def test_a_surrogate_or_a_gradient_that_is_not_finite_is_no_step_but_an_error(step, sentence):
    policy, _, kl, rows, optimizer = closures(TRPO())
    kept = copy.deepcopy(policy)
    with pytest.raises(NotFinite) as told:
        step(Made(list(policy.parameters()), UNKNOWN[sentence]), kl, rows, optimizer, 0.01)
    assert str(told.value) == sentence
    assert all(torch.equal(p, q) for p, q in zip(policy.parameters(), kept.parameters(), strict=True))


def test_a_step_whose_kl_is_nan_is_refused():
    policy, surrogate, kl, rows, optimizer = closures(TRPO())
    kept = copy.deepcopy(policy)

    class Broken:
        fisher = kl.fisher

        def __call__(self, mini, side="old_new"):
            yield torch.tensor(float("nan"), dtype=torch.float64)

    info = trust_region_step(surrogate, Broken(), rows, optimizer, 0.01)
    assert all(torch.equal(p, q) for p, q in zip(policy.parameters(), kept.parameters(), strict=True))
    assert float(info["accepted"]) == 0.0


@pytest.mark.parametrize("fisher", ["head", "kl"])
def test_npg_is_trpo_when_the_full_step_is_accepted(fisher):
    policy, critic, b = case(NPG())
    plain = parts_for(NPG(delta=1e-4, damping=0.5, fisher=fisher), policy, critic)
    region = parts_for(TRPO(delta=1e-4, damping=0.5, fisher=fisher), policy, critic)
    update(plain, b)
    info = update(region, b)[1]
    assert info["accepted"] == 1.0 and info["backtracks"] == 0.0 and info["step_norm"] > 0
    assert all(torch.equal(p, q) for p, q in zip(plain.policy.parameters(), region.policy.parameters(), strict=True))


class Held:
    """How many numbers autograd keeps alive, at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def _free(self, size: int) -> None:
        self.now -= size

    def pack(self, x: Tensor):
        box = type("Box", (), {})()
        box.x, size = x, x.numel() if x.dim() else 0
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(box, self._free, size)
        return box


def most_held(fisher: str, lead: int, micro: int | None) -> int:
    policy = policy_for(hidden=(32, 32))
    b = batch_for(NPG(), policy, mask=torch.ones(lead, 16, dtype=torch.bool))
    rows = rows_for(NPG(), b, micro)
    kl, params, held = Divergence(policy, rows), list(policy.parameters()), Held()
    v = torch.randn(flat(params).shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gc.collect()
    with saved_tensors_hooks(held.pack, lambda box: box.x):
        if fisher == "kl":
            hessian_product(kl, rows, params, v)
        else:
            sum(flat(x) for x in kl.fisher(rows.batch, like(v, params)))
    return held.most


@pytest.mark.parametrize("fisher", ["head", "kl"])
def test_a_fisher_product_holds_the_graph_of_one_micro_batch(fisher):
    one, whole = most_held(fisher, 1, None), most_held(fisher, 16, None)
    assert most_held(fisher, 16, 16) <= 1.25 * one and whole > 8 * one
