"""An adapter alone is trained: the first policy is the base, every step moves it alone, with it off there is the reference."""

import copy

import pytest
import torch
from lm.little import little
from lm.test_tokens import drawn

from logpi import LogpiError
from logpi.batch import Rows
from logpi.lm import lora
from logpi.methods import GRPO
from logpi.now import Divergence, Now, Surrogate, reference_log_prob, row_scores
from logpi.policy import movable
from logpi.run.optimizers import optimizers
from logpi.step.natural import conjugate_gradient, flat, gradient, hessian_product, like, trust_region_step


def adapted(rank: int = 3, moved: bool = False, eager: bool = False):
    policy = little(eager=eager)
    lora.add(policy, rank, 2.0 * rank, 7, None)
    if moved:
        shake(policy)
    return policy


@torch.no_grad()
def shake(policy, size: float = 0.2) -> None:
    chance = torch.Generator().manual_seed(4)
    for p in movable(policy).values():
        p.add_(size * torch.randn(p.shape, dtype=p.dtype, generator=chance))


def test_at_first_it_says_what_its_base_says_and_the_kl_to_it_is_exactly_zero():
    plain, policy = little(), adapted()
    ids = torch.tensor([[1, 2, 3, 9]])
    assert torch.equal(plain.model(input_ids=ids).logits, policy.model(input_ids=ids).logits)
    b = drawn(policy)
    now, ref = (reference_log_prob(x, policy, b) for x in (policy, lora.Without(policy)))
    assert torch.equal(now, ref)
    shake(policy)
    after = reference_log_prob(lora.Without(policy), policy, b)
    assert torch.equal(after, ref), "the reference stays"
    assert float((Now(policy, None, b).log_pi - ref).detach().abs().max()) > 0.01
    assert not [*lora.Without(policy).parameters()] and not lora.Without(policy).state_dict()


def test_the_adapter_alone_moves_and_alone_is_remembered():
    policy = adapted()
    named = movable(policy)
    assert named and all(".lora_" in name for name in named)
    assert not any("lm_head" in name for name in named)
    policy.remember()
    assert {*policy.before} == {*named}
    main, _ = optimizers(GRPO(), "Adam", policy, None)
    assert {id(p) for p in main.param_groups[0]["params"]} == {id(p) for p in named.values()}
    before = {name: p.clone() for name, p in policy.named_parameters()}
    with lora.off(policy.model):
        assert not movable(policy) or not any(x.disable_adapters is False for x in lora.layers(policy.model))
    assert {*movable(policy)} == {*named}
    policy.requires_grad_(False)
    with lora.off(policy.model):
        pass
    assert not movable(policy), "and what was frozen stays so"
    assert all(torch.equal(before[name], p) for name, p in policy.named_parameters())


def test_the_engine_speaks_through_it():
    policy = adapted(moved=True)
    b = drawn(policy)
    torch.testing.assert_close(Now(policy, None, b).log_pi.detach(), b.log_pi, rtol=0, atol=1e-12)
    with lora.off(policy.model):
        assert float((Now(policy, None, b).log_pi.detach() - b.log_pi).abs().max()) > 0.01


def test_the_kl_to_the_policy_that_drew_is_that_of_the_whole_distributions():
    policy = adapted(moved=True)
    policy.remember()
    b = drawn(policy)
    old = policy.model(input_ids=b.obs).logits.log_softmax(-1).detach()
    assert float(Now(policy, None, b).kl_old.detach().abs().max()) < 1e-15
    shake(policy, 0.1)
    new = policy.model(input_ids=b.obs).logits.log_softmax(-1)
    exact = torch.where(b.mask, (old.exp() * (old - new)).sum(-1), 0.0)
    torch.testing.assert_close(Now(policy, None, b).kl_old, exact, rtol=0, atol=1e-12)


def test_a_natural_direction_is_the_dense_solution_over_the_adapter_alone():
    policy = adapted(rank=1, moved=True, eager=True)
    policy.remember()
    rows = Rows(drawn(policy), torch.Generator(), micro=40, pack="prompts")
    divergence, params = Divergence(policy, rows), [*movable(policy).values()]
    g = gradient(Surrogate(GRPO(), policy, None, rows, {})(rows.batch), params)

    def product(v):
        return sum(flat(x) for x in divergence.fisher(rows.batch, like(v, params)))

    v = torch.randn(len(g), dtype=g.dtype, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(product(v), hessian_product(divergence, rows, params, v), rtol=1e-8, atol=1e-10)
    x = conjugate_gradient(lambda v: product(v) + 0.1 * v, g, 500, 1e-12)
    torch.testing.assert_close(product(x) + 0.1 * x, g, rtol=1e-8, atol=1e-10)


def test_a_trust_region_step_rises_within_its_kl_and_leaves_the_base_alone():
    policy = adapted(eager=True)
    policy.remember()
    rows = Rows(drawn(policy), torch.Generator(), pack="prompts")
    frozen = {k: p.clone() for k, p in policy.named_parameters() if not p.requires_grad}
    main = torch.optim.SGD([*movable(policy).values()], lr=0.0)
    info = trust_region_step(Surrogate(GRPO(), policy, None, rows, {}), Divergence(policy, rows), rows, main, 0.01)
    assert float(info["accepted"]) == 1 and float(info["gain"]) > 0
    kl = Now(policy, None, rows.batch).kl_old.detach()[rows.batch.mask].mean()
    assert 0.002 < float(kl) <= 0.01
    assert all(torch.equal(p, frozen[k]) for k, p in policy.named_parameters() if k in frozen)


def test_scores_of_rows_are_of_the_adapter_alone():
    policy = adapted(moved=True)
    b = drawn(policy)[torch.arange(3)].with_(psi=None)
    found = row_scores(copy.deepcopy(policy), b, torch.ones_like(b.log_pi))
    total = Now(policy, None, b).log_pi.sum()
    whole = flat(torch.autograd.grad(total, [*movable(policy).values()], materialize_grads=True))
    torch.testing.assert_close(found.sum(0), whole, rtol=1e-10, atol=1e-12)


def test_no_peft_is_told(monkeypatch):
    monkeypatch.setattr(lora, "find_spec", lambda _: None)
    with pytest.raises(LogpiError, match=r'--lora needs peft: pip install "logpi\[lm\]"'):
        adapted()
