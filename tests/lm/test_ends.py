"""The end token is an action and what follows is none; a completion that was cut off has not ended."""

import pytest
import torch
from lm.little import little, prompts_of

import logpi
from logpi.lm.generate import generate
from logpi.lm.tasks import find
from logpi.now import Now
from logpi.rollout.language import rows_of


def spoken(limit: int = 5):
    policy = little()
    assert policy.tokenizer.pad_token_id == policy.tokenizer.eos_token_id == policy.ends[0] == 0, (
        "padding is the end token"
    )
    prompts = [p for p in prompts_of(policy, "abc=", "h=", "ggfedcba=") for _ in range(8)]
    said = generate(policy, prompts, torch.arange(24), limit, policy.ends)
    return policy, said, rows_of(prompts, said, torch.ones(24, dtype=torch.float64), 0)


def slope(policy, b, credit) -> torch.Tensor:
    log_pi = Now(policy, None, b).log_pi
    grads = torch.autograd.grad((credit * log_pi).sum(), [*policy.parameters()])
    return torch.cat([g.flatten() for g in grads])


def test_the_end_is_trained_and_padding_of_the_same_id_is_not():
    policy, said, b = spoken()
    ends = b.mask & (b.action == policy.ends[0])
    assert torch.equal(ends.sum(-1), said.ended.long()) and 0 < int(said.ended.sum()) < 24
    padding = ~b.mask & (b.action == policy.ends[0])
    assert int(padding.sum()) > 24, "the same id stands behind, not masked by what it is"
    assert float(slope(policy, b, ends.double()).norm()) > 0.01
    assert float(slope(policy, b, padding.double()).norm()) == 0


def test_credit_raises_the_probability_of_ending():
    policy, _, b = spoken()
    ends = (b.mask & (b.action == policy.ends[0])).double()
    before = (ends * Now(policy, None, b).log_pi).sum()
    with torch.no_grad():
        for p, g in zip(policy.parameters(), torch.autograd.grad(before, [*policy.parameters()]), strict=True):
            p.add_(1e-3 * g)
        assert float((ends * Now(policy, None, b).log_pi).sum()) > float(before)


def test_what_was_cut_off_is_truncated_and_what_ended_is_terminated():
    _, said, b = spoken()
    cut = ~said.ended
    assert torch.equal(b.truncated.any(-1), cut) and torch.equal(b.terminated.any(-1), said.ended)
    assert bool(cut.any()) and bool(said.ended.any())


@pytest.mark.parametrize("method", ["grpo", "dapo", "rloo"])
def test_a_batch_that_was_cut_off_whole_and_has_no_signal_moves_nothing(method):
    class Flat(type(find("copy"))):
        def reward(self, prompts, completions, answer, **_):
            return [0.0] * len(completions)

    refill = {"refill": False} if method == "dapo" else {}
    records = logpi.learn(method, task="copy", level=8, max_tokens=1, starts=3, group=2, seed=1, steps=6, **refill)
    parts = records.gi_frame.f_locals["parts"]
    parts.collect.rewards.task = Flat(8)
    before = [p.clone() for p in parts.policy.parameters()]
    record = next(records)
    assert record["truncated"] == 1.0 and record["groups_without_signal"] == 1.0
    assert record["surrogate"] == 0.0 and all(x == x for x in record.metrics.values())
    assert all(torch.equal(a, b) for a, b in zip(before, parts.policy.parameters(), strict=True))
