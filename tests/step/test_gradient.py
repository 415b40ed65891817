"""First-order ascent, and gradients that do not depend on how the rows are split."""

import pytest
import torch
from made import PAGES, case, parts_for, rows_for
from torch import Tensor, nn

from logpi import critic as critics
from logpi.batch import Batch
from logpi.loop import credited
from logpi.methods import PPO, Reinforce
from logpi.now import Divergence, Surrogate
from logpi.step.gradient import ascend, total
from logpi.step.natural import flat, gradient, hessian_product, like

STATE = {"progress": 0.3}


class Bowl:
    """-|theta - peak|^2 / 2 for every minibatch; remembers what it was given."""

    def __init__(self, theta: Tensor, peak: float = 3.0) -> None:
        self.theta, self.peak, self.seen = theta, peak, []

    def __call__(self, mini: Batch):
        self.seen.append(mini)
        yield -(self.theta - self.peak).square().sum() / 2


def bowl(lr: float = 0.1):
    theta = nn.Parameter(torch.tensor([0.0, 1.0], dtype=torch.float64))
    rows = rows_for(PPO(), case(PPO())[2])
    return theta, Bowl(theta), rows, torch.optim.SGD([theta], lr=lr)


def test_one_ascent_is_theta_plus_lr_times_the_gradient():
    theta, surrogate, rows, optimizer = bowl()
    info = ascend(surrogate, rows, optimizer)
    assert torch.allclose(theta.detach(), torch.tensor([0.3, 1.2], dtype=torch.float64), rtol=0, atol=1e-15)
    assert float(info["surrogate"]) == -6.5 and abs(float(info["grad_norm"]) - 13**0.5) < 1e-14


def test_every_epoch_takes_a_step_on_each_minibatch_and_sees_every_row_once():
    theta, surrogate, rows, optimizer = bowl()
    ascend(surrogate, rows, optimizer, epochs=3, minibatches=4)
    assert len(surrogate.seen) == 12
    for epoch in (surrogate.seen[:4], surrogate.seen[4:8], surrogate.seen[8:]):
        seen = torch.cat([mini.reward for mini in epoch])
        assert torch.equal(seen.sort().values, rows.batch.reward.sort().values)
    assert not torch.equal(surrogate.seen[0].reward, surrogate.seen[4].reward)
    assert torch.allclose(theta.detach(), 3 - torch.tensor([3.0, 2.0], dtype=torch.float64) * 0.9**12)


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_the_gradient_norm_is_held_under_the_limit_and_reported_raw(limit):
    theta, surrogate, rows, optimizer = bowl(lr=1.0)
    before = theta.detach().clone()
    info = ascend(surrogate, rows, optimizer, max_grad_norm=limit)
    assert abs(float((theta.detach() - before).norm()) - min(limit, 13**0.5)) < 1e-5
    assert abs(float(info["grad_norm"]) - 13**0.5) < 1e-12


@pytest.mark.parametrize(("target", "epochs"), [(0.0, 1), (0.25, 3), (100.0, 6), (None, 6)])
def test_the_epochs_stop_once_the_kl_is_over_the_target(target, epochs):
    _, surrogate, rows, optimizer = bowl()

    def kl(mini):  # 0.1 after each epoch more
        yield torch.tensor(0.1 * len(surrogate.seen) / 2)

    ascend(surrogate, rows, optimizer, 6, 2, None, kl, target)
    assert len(surrogate.seen) == 2 * epochs


def test_the_kl_that_stops_is_of_all_rows_and_of_the_policy_now():
    policy, critic, b = case(PPO())
    parts = parts_for(PPO(lr=0.05, target_kl=0.02, epochs=20, minibatches=2), policy, critic)
    rows = rows_for(PPO(), credited(parts.method, b, {}))
    kl = Divergence(parts.policy, rows)
    surrogate = Surrogate(parts.method, parts.policy, parts.critic, rows, STATE)
    assert abs(total(kl(rows.batch))) < 1e-15
    asked = []

    def heard(mini):
        asked.append(len(mini))
        yield from kl(mini)

    parts.method.step(surrogate, heard, rows, parts.optimizer)
    assert total(kl(rows.batch)) > 0.02
    assert asked and set(asked) == {len(rows)}


def test_nothing_of_an_earlier_gradient_is_left():
    theta, surrogate, rows, optimizer = bowl()
    theta.grad = torch.full_like(theta, 100.0)
    ascend(surrogate, rows, optimizer)
    assert torch.allclose(theta.detach(), torch.tensor([0.3, 1.2], dtype=torch.float64))


def test_an_ascent_raises_what_the_page_says_is_to_be_maximised():
    policy, critic, b = case(Reinforce())
    parts = parts_for(Reinforce(lr=1e-3), policy, critic)
    rows = rows_for(Reinforce(), credited(parts.method, b, {}))
    surrogate = Surrogate(parts.method, parts.policy, None, rows, STATE)
    before = total(surrogate(rows.batch))
    parts.method.step(surrogate, None, rows, parts.optimizer)
    assert total(surrogate(rows.batch)) > before + 1e-6


def gradient_of(name: str, head: str, micro: int | None, part: slice) -> Tensor:
    method = PAGES[name]
    policy, critic, b = case(method, head)
    rows = rows_for(method, credited(method, b, {}), micro)
    surrogate = Surrogate(method, policy, critic, rows, STATE)
    params = [*policy.parameters(), *(critic.parameters() if critic is not None else [])]
    return gradient(surrogate(rows.batch[part]), params)


@pytest.mark.parametrize("name", PAGES)
def test_gradients_of_every_page_are_the_same_for_every_split_into_micro_batches(name):
    for head in ("categorical", "squashed"):
        for part in (slice(None), slice(1, 5)):
            whole = gradient_of(name, head, None, part)
            assert whole.abs().max() > 1e-4
            for micro in (1, 2, 3, 100):
                assert (gradient_of(name, head, micro, part) - whole).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["npg", "reinforce", "grpo"])
@pytest.mark.parametrize("head", ["categorical", "gaussian", "beta"])
def test_fisher_products_and_divergences_are_the_same_for_every_split(name, head):
    method = PAGES[name]
    policy, _, b = case(method, head)
    params, found = list(policy.parameters()), []
    g = torch.Generator().manual_seed(4)
    v = torch.randn(flat(params).shape, dtype=torch.float64, generator=g)
    moved = b.with_(params=b.params + 0.1 * torch.rand(b.params.shape, dtype=torch.float64, generator=g))
    for micro in (None, 1, 2, 3, 100):
        rows, off = rows_for(method, b, micro), rows_for(method, moved, micro)
        kl = Divergence(policy, rows)
        by_head = sum(flat(x) for x in kl.fisher(rows.batch, like(v, params)))
        values = torch.stack([total(Divergence(policy, off)(off.batch, side)) for side in ("old_new", "new_old")])
        found.append((by_head, hessian_product(kl, rows, params, v), values))
    for one in found:
        assert all((x - y).abs().max() < 1e-12 < y.abs().max() for x, y in zip(one, found[0], strict=True))
        assert (one[0] - one[1]).abs().max() < 1e-10


@pytest.mark.parametrize("name", ["ppo", "grpo", "rloo-kl"])
def test_a_whole_update_is_the_same_for_every_split(name):
    method, after = PAGES[name], []
    policy, critic, b = case(method)
    for micro in (None, 2):
        parts = parts_for(method, policy, critic, micro)
        rows = rows_for(method, credited(method, b, {}), micro)
        method.step(
            Surrogate(method, parts.policy, parts.critic, rows, STATE),
            Divergence(parts.policy, rows),
            rows,
            parts.optimizer,
        )
        after.append(flat(parts.policy.parameters()))
    assert (after[0] - after[1]).abs().max() < 1e-12
    assert (after[0] - flat(policy.parameters())).abs().max() > 1e-4


def test_the_fit_of_a_separate_critic_is_the_same_for_every_split():
    method, after = PAGES["npg"], []
    policy, critic, b = case(method)
    for micro in (None, 2):
        parts = parts_for(method, policy, critic, micro)
        rows = rows_for(method, credited(method, b, {}), micro)
        critics.fit(parts.critic, parts.policy, rows, parts.critic_optimizer, critics.plan(method))
        after.append(flat(parts.critic.parameters()))
    assert (after[0] - after[1]).abs().max() < 1e-12
