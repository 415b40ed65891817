"""The identities between methods."""

import pytest
import torch
from enumerate_mdp import episodes, layered, tabular_policy, trajectories
from made import batch_for, case, parts_for, policy_for, rows_for
from torch import Tensor, nn

from logpi import average, objective, psi
from logpi.batch import Batch
from logpi.loop import credited, update
from logpi.methods import GRPO, MDPO, NPG, RLOO, TRPO, Reinforce
from logpi.now import Divergence, Surrogate
from logpi.page import Several, page
from logpi.policy import Policy
from logpi.policy.categorical import Categorical
from logpi.policy.gaussian import Gaussian
from logpi.step.gradient import ascend
from logpi.step.natural import flat, gradient, natural_step

COUNTS = torch.tensor(
    [[1, 2, 3], [4, 1, 1], [2, 2, 2]]
)  # pi_old(a|s) = counts / 6: each state six rows, an exact expectation


def table_rows() -> tuple[Policy, Batch, Tensor, Tensor]:
    """A tabular softmax at pi_old, a batch in which each action stands as often as pi_old takes it, A and pi_old [S, A]."""
    policy = Policy(nn.Identity(), nn.Linear(3, 3, bias=False, dtype=torch.float64), Categorical(3))
    old = COUNTS.double() / 6
    with torch.no_grad():
        policy.network.weight.copy_(old.log().T)
    pair = torch.repeat_interleave(torch.arange(9), COUNTS.flatten())
    state, action = pair // 3, pair % 3
    A = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    obs, none = torch.eye(3, dtype=torch.float64)[state], torch.zeros(1, 18, dtype=torch.bool)
    with torch.no_grad():
        params = policy(obs)
    log_pi = old[state, action].log()
    zero = torch.zeros(1, 18, dtype=torch.float64)
    b = Batch(obs[None], action[None], log_pi[None], params[None], zero, none, none, ~none, none.long(), None)
    return policy, b.with_(psi=A[state, action][None]), A, old


@pytest.mark.parametrize("progress", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("kl", ["exact", "estimate"])
def test_on_a_table_the_optimum_of_mirror_descent_is_the_exponentiated_gradient(kl, progress):
    """argmax E[rho A] - KL(pi || pi_old) / eta is pi_old exp(eta A) / Z, eta annealed to its floor."""
    policy, b, A, old = table_rows()
    method = MDPO(kl=kl, eta=0.8, eta_floor=0.2)
    eta = max(0.8 * (1 - progress), 0.2)
    rows = rows_for(method, b)
    surrogate = Surrogate(method, policy, None, rows, {"progress": progress})
    expected = (old.log() + eta * A).softmax(-1)
    theta = policy.network.weight
    search = torch.optim.LBFGS(
        [theta], 1.0, 500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def loss():
        search.zero_grad()
        value = -sum(surrogate(rows.batch))
        value.backward()
        return value

    search.step(loss)
    assert (theta.detach().T.softmax(-1) - expected).abs().max() < 1e-8 < (expected - old).abs().max()
    with torch.no_grad():
        theta.copy_((old.log() + eta * A).T)
    assert gradient(surrogate(rows.batch), [theta]).abs().max() < 1e-14  # exactly stationary


class Reparametrised(nn.Module):
    """A linear map whose weights are those of f(phi)."""

    def __init__(self, phi: Tensor, f, shape: tuple[int, int]) -> None:
        super().__init__()
        self.phi, self.f, self.shape = nn.Parameter(phi), f, shape

    def forward(self, obs: Tensor) -> Tensor:
        return obs @ self.f(self.phi).view(self.shape).T


def gaussian_policy(phi: Tensor, f) -> Policy:
    """A Gaussian of fixed std whose mean is linear in the observation."""
    box = torch.ones(2, dtype=torch.float64)
    head = Gaussian(-box, box)
    del head.log_std
    head.register_buffer("log_std", torch.zeros(2, dtype=torch.float64))
    return Policy(nn.Identity(), Reparametrised(phi, f, (2, 3)), head)


def stepped(phi: Tensor, f, delta: float, natural: bool) -> Tensor:
    """The change of the six weights after one step on the same batch."""
    policy = gaussian_policy(phi.clone(), f)
    b = batch_for(NPG(), policy, mask=torch.ones(2, 10, dtype=torch.bool))
    rows = rows_for(NPG(), b.with_(psi=b.reward))
    surrogate, before = Surrogate(NPG(), policy, None, rows, {}), f(phi)
    optimizer = torch.optim.SGD([policy.network.phi], lr=delta)
    if natural:
        natural_step(surrogate, Divergence(policy, rows), rows, optimizer, delta, 0.0, 30)
    else:
        ascend(surrogate, rows, optimizer)
    return (f(policy.network.phi) - before).detach()


def test_the_natural_step_does_not_depend_on_the_parametrisation_and_the_plain_step_does():
    g = torch.Generator().manual_seed(1)
    theta = torch.randn(6, dtype=torch.float64, generator=g)
    M = torch.randn(6, 6, dtype=torch.float64, generator=g)
    for natural in (True, False):
        plain = stepped(theta, lambda x: x, 0.05, natural)
        linear = stepped(torch.linalg.solve(M, theta), lambda x: M @ x, 0.05, natural)
        apart = float((plain - linear).norm() / plain.norm())
        assert apart < 1e-9 if natural else apart > 0.1
    errors = []
    for delta in (1e-4, 1e-6):  # a bent parametrisation: the same to first order, so the gap falls with the step
        plain, bent = stepped(theta, lambda x: x, delta, True), stepped(theta.asinh(), torch.sinh, delta, True)
        errors.append(float((plain - bent).norm() / plain.norm()))
    assert errors[0] < 0.05 and errors[1] < 0.2 * errors[0]


@pytest.mark.parametrize("head", ["categorical", "gaussian"])
def test_npg_is_trpo_when_the_full_step_is_accepted_and_not_when_it_is_shortened(head):
    policy, critic, b = case(NPG(), head)
    for delta, damping, same in ((1e-5, 0.5, True), (3.0, 1e-3, False)):
        plain = parts_for(NPG(delta=delta, damping=damping), policy, critic)
        region = parts_for(TRPO(delta=delta, damping=damping, backtracks=60), policy, critic)
        update(plain, b)
        info = update(region, b)[1]
        assert info["accepted"] == 1.0 and (info["backtracks"] == 0) is same
        pairs = zip(plain.policy.parameters(), region.policy.parameters(), strict=True)
        assert all(torch.equal(p, q) for p, q in pairs) is same


@page
class NoStd:
    """GRPO without the std: the group's mean, per episode, GRPO's clip."""

    group: Several = 3
    rows, critic = "groups", None

    def psi(self, b, state):
        return psi.group_mean(b.reward.sum(-1))[..., None].expand_as(b.reward), None

    def objective(self, now, b, state):
        return objective.clip(now.log_pi, b.log_pi, b.psi, 0.2, 0.2)

    def average(self, mask: Tensor) -> Tensor:
        return average.weights("per_episode", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer)


def page_gradient(method, policy, b) -> Tensor:
    rows = rows_for(method, b)
    return gradient(Surrogate(method, policy, None, rows, {"progress": 0.0})(rows.batch), list(policy.parameters()))


@pytest.mark.parametrize("head", ["categorical", "beta"])
def test_grpo_in_one_epoch_without_the_std_is_centred_reinforce(head):
    policy, _, b = case(GRPO(), head)
    grpo = page_gradient(NoStd(), policy, credited(NoStd(), b, {}))
    centred = credited(Reinforce(credit="total", gamma=1.0), b, {})
    ours = centred.mask
    returns = centred.psi[..., 0]  # the first action's is the episode's
    centred = centred.with_(psi=torch.where(ours, centred.psi - returns.mean(-1)[..., None, None], 0))
    assert torch.allclose(grpo, page_gradient(Reinforce(), policy, centred), rtol=1e-10, atol=1e-13)
    assert grpo.abs().max() > 1e-2
    rloo = page_gradient(RLOO(), policy, credited(RLOO(), b, {}))  # and leave-one-out is G / (G - 1) of it
    assert torch.allclose(rloo, 1.5 * grpo, rtol=1e-10, atol=1e-13)


def test_grpo_itself_is_that_gradient_over_the_std_where_episodes_are_equally_long():
    policy = policy_for()
    b = batch_for(GRPO(), policy, mask=torch.ones(1, 3, 8, dtype=torch.bool))
    full, bare = (page_gradient(m, policy, credited(m, b, {})) for m in (GRPO(), NoStd()))
    std = b.reward.sum(-1).std(correction=0)
    assert torch.allclose(full * (std + 1e-6) * 8, bare, rtol=1e-9, atol=1e-13)


def record():
    g = torch.Generator().manual_seed(3)
    r, v, after = (torch.randn(4, 9, dtype=torch.float64, generator=g) for _ in range(3))
    terminated = torch.rand(4, 9, generator=g) < 0.15
    truncated = (torch.rand(4, 9, generator=g) < 0.15) & ~terminated
    follow = torch.nn.functional.pad(v[:, 1:], (0, 1))
    goes_on = ~(terminated | truncated)
    goes_on[:, -1] = False
    return r, v, torch.where(goes_on, follow, after), terminated, truncated


def ahead(x: Tensor, ended: Tensor, k: int) -> Tensor:
    """x_{t+k} where t + k is in the same episode, else 0."""
    T, out = x.shape[-1], torch.zeros_like(x)
    for t in range(T - k):
        out[..., t] = torch.where(ended[..., t : t + k].any(-1), 0, x[..., t + k])
    return out


def test_every_credit_is_a_linear_sum_of_td_errors_or_rewards():
    r, v, after, terminated, truncated = record()
    ended, gamma, lam, T = terminated | truncated, 0.9, 0.7, 9
    delta = psi.td(r, v, after, terminated, gamma)
    ends = terminated, truncated

    def close(x, y):
        return torch.allclose(x, y, rtol=1e-12, atol=1e-12)

    def sum_of(x, decay, n=T):
        return sum(decay**k * ahead(x, ended, k) for k in range(n))

    assert close(psi.reward_to_go(r, ended, gamma), sum_of(r, gamma))
    for n in (1, 2, 3, 20):
        assert close(psi.n_step(r, v, after, *ends, gamma, n), sum_of(delta, gamma, min(n, T)))
    assert close(psi.gae(r, v, after, *ends, gamma, lam), sum_of(delta, gamma * lam))
    steps = [psi.n_step(r, v, after, *ends, gamma, n) for n in range(1, T + 1)]
    mixture = (1 - lam) * sum(lam ** (n - 1) * steps[n - 1] for n in range(1, T)) + lam ** (T - 1) * steps[-1]
    assert close(psi.gae(r, v, after, *ends, gamma, lam), mixture)
    assert close(psi.gae(r, v, after, *ends, gamma, 0.0), delta)
    bootstrapped = r + gamma * torch.where(truncated, after, 0)
    bootstrapped[:, -1] = (r + gamma * torch.where(terminated, 0, after))[:, -1]
    assert close(psi.gae(r, v, after, *ends, gamma, 1.0), sum_of(bootstrapped, gamma) - v)
    start = torch.cat([torch.zeros(4, 1, dtype=torch.bool), ended[:, :-1]], 1)
    start[:, 0] = True
    to_go, whole = psi.reward_to_go(r, ended, gamma), psi.total_return(r, ended, gamma)
    assert torch.equal(whole[start], to_go[start])
    assert torch.equal(whole[:, 1:][~start[:, 1:]], whole[:, :-1][~start[:, 1:]])


def test_the_four_objectives_have_one_gradient_on_policy():
    policy, _, b = case(Reinforce())
    log_pi = policy.log_prob(b.obs, b.action)
    old, credit = log_pi.detach(), b.reward
    forms = [
        objective.score(log_pi, credit),
        objective.ratio(log_pi, old, credit),
        objective.clip(log_pi, old, credit, 0.2, 0.2),
        objective.mirror(log_pi, old, credit, 0.5),
    ]
    params = list(policy.parameters())
    found = [flat(torch.autograd.grad(x.sum(), params, retain_graph=True)) for x in forms]
    assert all(torch.allclose(x, found[0], rtol=1e-12, atol=1e-13) for x in found)
    assert found[0].abs().max() > 1e-2


def test_rloo_in_groups_of_three_is_unbiased_on_a_table():
    """E over groups of (R_i - mean of the others) sum grad log pi is E[R sum grad log pi]; the mean of all is 2/3 of it."""
    table = layered()
    policy = tabular_policy(table)
    rows = [x for x in trajectories(table) if x.states[0] == 4]  # three trajectories from one start
    b = episodes(table, policy, rows)
    log_pi = torch.where(b.mask, policy.log_prob(b.obs, b.action), 0).sum(-1)
    score = torch.stack([flat(torch.autograd.grad(x, list(policy.parameters()), retain_graph=True)) for x in log_pi])
    p, ret, n = log_pi.detach().exp(), b.reward.sum(-1), len(rows)
    assert abs(float(p.sum()) - 1) < 1e-14 and n == 3
    index = torch.cartesian_prod(*[torch.arange(n)] * 3)
    chance = torch.stack([p[i] for i in index.T]).prod(0)
    for credit, factor in ((psi.leave_one_out(ret[index]), 1.0), (psi.group_mean(ret[index]), 2 / 3)):
        mean = ((chance[:, None] * credit)[..., None] * score[index]).sum((0, 1)) / 3
        assert torch.allclose(mean, factor * (p[:, None] * ret[:, None] * score).sum(0), rtol=1e-12, atol=1e-14)
