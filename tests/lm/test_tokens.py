"""A language model as a policy: its answers are those of transformers' own logits, however they are computed."""

import copy

import pytest
import torch
from lm.little import little, prompts_of

import logpi
from logpi import average, kl, objective
from logpi.batch import Batch, Rows
from logpi.lm import pretrained
from logpi.lm.generate import generate
from logpi.methods import CISPO, GRPO, GSPO, RLOO
from logpi.now import Divergence, Now, Surrogate
from logpi.policy import common, tokens
from logpi.policy.tokens import Tokens
from logpi.rollout.language import rows_of
from logpi.step.natural import hessian_product


def drawn(policy, seed: int = 5, limit: int = 7) -> Batch:
    prompts = prompts_of(policy, "abc=", "h=", "ggfedcba=")
    said = generate(policy, prompts, torch.arange(seed, seed + 12), limit, policy.ends, copies=4)
    reward = torch.arange(12, dtype=torch.float64) % 3
    batch = rows_of([p for p in prompts for _ in range(4)], said, reward, 0)
    return batch.with_(psi=torch.where(batch.mask, reward[:, None] - 1, 0.0), start=None)


def full_log_p(policy, b: Batch):
    """[B, T, V], from transformers' own forward pass."""
    return (policy.model(input_ids=b.obs).logits / policy.head.temperature).log_softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_pi_is_that_of_the_tokens_drawn_and_the_first_ratio_is_one(temperature):
    policy = little(temperature=temperature)
    b = drawn(policy)
    now, said = Now(policy, None, b), full_log_p(policy, b)
    at = said.gather(-1, b.action[..., None])[..., 0]
    torch.testing.assert_close(now.log_pi, torch.where(b.mask, at, 0.0), rtol=0, atol=1e-12)
    torch.testing.assert_close(now.log_pi, b.log_pi, rtol=0, atol=1e-12)
    entropy = -(said.exp() * said).sum(-1)
    torch.testing.assert_close(now.entropy, torch.where(b.mask, entropy, 0.0), rtol=0, atol=1e-12)


def test_a_row_is_its_tokens_and_the_end_token_is_an_action():
    policy = little()
    b = drawn(policy)
    for row in range(12):
        ours = b.mask[row].nonzero()[:, 0]
        assert torch.equal(ours, torch.arange(int(ours[0]), int(ours[-1]) + 1))
        torch.testing.assert_close(b.action[row, :-1], b.obs[row, 1:])
        last = int(ours[-1])
        ended = int(b.action[row, last]) == policy.ends[0]
        assert bool(b.terminated[row, last]) == ended and bool(b.truncated[row, last]) != ended
        assert int(b.ended[row].sum()) == 1
        assert policy.ends[0] not in b.action[row, ours[:-1]].tolist()


def gradient(policy, b: Batch, **how) -> torch.Tensor:
    rows = Rows(b, torch.Generator(), pack="prompts", **how)
    total = torch.zeros(())
    for part, weight in rows.parts(rows.batch, average.weights("per_sequence", rows.batch.mask)):
        now = Now(policy, None, part)
        gain = objective.clip(now.log_pi, part.log_pi, part.psi, 0.2, 0.2) + 0.01 * now.entropy
        total = total + average.total(gain, weight, part.mask)
    grads = torch.autograd.grad(total, [*policy.parameters()])
    return torch.cat([g.flatten() for g in grads])


@pytest.mark.parametrize("micro", [1, 20, 40, 100])
def test_the_gradient_is_the_same_for_every_split(micro):
    policy = little()
    b = drawn(policy)
    whole = gradient(policy, b)
    torch.testing.assert_close(gradient(policy, b, micro=micro), whole, rtol=0, atol=1e-12 * float(whole.abs().max()))


def test_what_stands_behind_a_row_changes_nothing():
    policy = little()
    b = drawn(policy)
    behind = (b.obs.cumsum(-1) > -1) & (b.mask.flip(-1).cumsum(-1).flip(-1) == 0)
    behind[:, :1] = False
    bad = {name: torch.where(b.mask, getattr(b, name), torch.nan) for name in ("log_pi", "psi")}
    other = b.with_(**bad, obs=torch.where(behind, 3, b.obs)).map(
        lambda x: torch.nn.functional.pad(x, (0, 5), value=1 if x.dtype == torch.long else 0)
    )
    filled = other.with_(**{k: torch.where(other.mask, getattr(other, k), 0.0) for k in bad})  # as the loop fills them
    torch.testing.assert_close(gradient(policy, filled), gradient(policy, b), rtol=1e-12, atol=1e-14)


def test_chunks_of_positions_give_the_same_numbers_and_gradients(monkeypatch):
    policy = little()
    b = drawn(policy)
    whole, at_once = gradient(policy, b), Now(policy, None, b).log_pi
    monkeypatch.setattr(tokens, "CHUNK", 3 * len(policy.tokenizer))
    torch.testing.assert_close(Now(policy, None, b).log_pi, at_once, rtol=0, atol=1e-13)
    torch.testing.assert_close(gradient(policy, b), whole, rtol=1e-12, atol=1e-14)


def test_kl_to_the_policy_that_drew_is_exact_in_both_directions_and_zero_at_first():
    policy = little()
    policy.remember()
    b = drawn(policy)
    old = full_log_p(policy, b).detach()
    assert float(Now(policy, None, b).kl_old.detach().abs().max()) < 1e-15
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(0.05 * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(1)))
    new, now = full_log_p(policy, b), Now(policy, None, b)
    for found, p, q in ((now.kl_old, old, new), (now.kl_new, new, old)):
        torch.testing.assert_close(found, torch.where(b.mask, kl.categorical(p, q), 0.0), rtol=0, atol=1e-12)
    assert float(now.kl_old.detach().sum()) > 0.01


def test_the_heads_fisher_product_is_the_kl_differentiated_twice():
    policy = little(eager=True)
    policy.remember()
    b = drawn(policy)
    rows = Rows(b, torch.Generator(), micro=40, pack="prompts")
    divergence, params = Divergence(policy, rows), [*policy.parameters()]
    size = sum(p.numel() for p in params)
    v = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    at, pieces = 0, []
    for p in params:
        pieces.append(v[at : at + p.numel()].view_as(p))
        at += p.numel()
    head = sum(torch.cat([g.flatten() for g in part]) for part in divergence.fisher(rows.batch, pieces))
    twice = hessian_product(divergence, rows, params, v)
    torch.testing.assert_close(head, twice, rtol=1e-8, atol=1e-10)


def test_the_surrogate_says_that_the_first_ratio_is_one():
    policy = little()
    rows = Rows(drawn(policy), torch.Generator(), pack="prompts")

    class Page:
        def objective(self, now, b, state):
            return objective.ratio(now.log_pi, b.log_pi, b.psi)

        def average(self, mask):
            return average.weights("per_sequence", mask)

    surrogate = Surrogate(Page(), policy, None, rows, {})
    assert len([*surrogate(rows.batch)]) == 1
    assert float(surrogate.first_ratio) < 1e-12


def test_rows_without_a_signal_are_left_out_where_nothing_else_moves_the_policy(monkeypatch):
    policy = little()
    b = drawn(policy)
    quiet = b.with_(psi=torch.where((torch.arange(12) % 3 == 1)[:, None], 0.0, b.psi))
    asked = []
    real = policy.hidden
    monkeypatch.setattr(policy, "hidden", lambda ids, **more: asked.append(len(ids)) or real(ids, **more))
    monkeypatch.setattr(common, "LESS", 0.0)  # nothing is shared: rows can be counted
    policy.lined = 0
    for page, rows_asked in (
        (GRPO(), 8),
        (GRPO(entropy=0.01), 12),
        (GRPO(kl=0.1), 12),
        (CISPO(), 8),
        (GSPO(), 8),
        (RLOO(), 8),
    ):
        asked.clear()
        rows = Rows(quiet.with_(log_ref=b.log_pi - 0.1), torch.Generator(), pack=policy.pack(b.obs))
        surrogate = Surrogate(page, policy, None, rows, {})
        grads = torch.autograd.grad(sum(surrogate(rows.batch)), [*policy.parameters()])
        assert asked[-1] == rows_asked, page
        surrogate.skip = False
        whole = torch.autograd.grad(sum(surrogate(rows.batch)), [*policy.parameters()])
        for one, other in zip(grads, whole, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


def test_a_batch_without_any_signal_still_has_a_surrogate():
    policy = little()
    b = drawn(policy)
    rows = Rows(b.with_(psi=torch.zeros_like(b.psi)), torch.Generator(), pack="prompts")
    assert float(sum(Surrogate(GRPO(), policy, None, rows, {})(rows.batch)).detach()) == 0


def test_the_kl_to_the_policy_that_drew_knows_the_bias_of_a_head():
    policy = little()
    head = policy.model.lm_head
    biased = torch.nn.Linear(head.in_features, head.out_features, dtype=head.weight.dtype)
    policy.model.set_output_embeddings(biased)
    policy.head.project = biased
    b = drawn(policy)
    policy.remember()
    assert float(Now(policy, None, b).kl_old.detach().abs().max()) < 1e-12
    with torch.no_grad():
        biased.bias[3] += 2.0
    assert float(Now(policy, None, b).kl_old.detach().max()) > 1e-2


def test_an_answer_ends_at_every_token_that_the_model_is_said_to_end_at():
    policy = little()
    policy.model.generation_config.eos_token_id = [policy.tokenizer.eos_token_id, 5]
    assert policy.ends == [policy.tokenizer.eos_token_id, 5]
    policy.model.generation_config.eos_token_id = None
    assert policy.ends == [policy.tokenizer.eos_token_id]


def test_weights_of_a_file_lie_where_new_ones_would_so_that_a_resumed_run_rounds_alike(tmp_path):
    like = little()
    pretrained.save(like.model, like.tokenizer, tmp_path / "model")
    loaded = Tokens(*pretrained.load(str(tmp_path / "model"))).place("cpu", torch.float64)
    assert {p.data_ptr() % tokens.ALIGNED for p in loaded.parameters()} == {0}
    assert all(torch.equal(p, q) for p, q in zip(loaded.parameters(), like.parameters(), strict=True))


@pytest.mark.parametrize("rows", [4, 64])
def test_the_kl_that_is_told_is_that_over_the_vocabulary_not_an_estimate_from_what_was_fitted(rows):
    how = {"task": "copy", "level": 3, "dtype": "float64", "envs": rows, "lr": 1e-2, "steps": 1}
    record = next(iter(logpi.learn("ppo", **how)))
    b, now = record.batch, record.policy
    with torch.no_grad():
        old_p, log_p = full_log_p(functional(now), b), full_log_p(now, b)
        exact = float(average.per_action((old_p.exp() * (old_p - log_p)).sum(-1), b.mask))
        fitted = float(average.per_action(kl.k3(b.log_pi, Now(now, None, b).log_pi), b.mask))
    assert abs(record["kl"] - exact) <= (1e-12 if rows == 4 else 0.3 * exact)
    assert exact > 1e-4 and (rows == 64 or fitted > 1.2 * exact), "which is what an estimate would tell"


def functional(policy):
    """The policy that drew the batch."""
    old = copy.deepcopy(policy)
    old.load_state_dict(policy.before, strict=False)
    return old
