"""Details of section 3 of the field's map that no other page shows: docs/checklist.md says which."""

import itertools

import pytest
import torch
from lm.little import little
from lm.test_tokens import drawn
from torch import nn

import logpi
from logpi import LogpiError, average, psi
from logpi.lm.sft import rows_from
from logpi.loop import ROUNDING, check_first_ratio
from logpi.now import Now


def test_a_model_that_always_says_the_next_letter_is_certain_of_it_and_of_no_other_place():
    """One-hot: behind letter k comes letter k + 1, with logits of 50 and 0. A shift by one either way would be certain of others."""
    policy = little()
    size = len(policy.tokenizer)
    policy.hidden = lambda ids, **_: nn.functional.one_hot((ids + 1) % size, size).double()
    policy.head.project = nn.Linear(size, size, bias=False, dtype=torch.float64)
    with torch.no_grad():
        policy.head.project.weight.copy_(50 * torch.eye(size))
    right, early, late = (
        Now(policy, None, rows_from(policy, ["ab"], [x])).log_pi.detach()[0, 1:].exp() for x in ("cde", "bcd", "dea")
    )
    assert torch.allclose(right[:3], torch.ones(3, dtype=torch.float64), atol=1e-15)
    assert float(early[0]) < 1e-20 and float(late[0]) < 1e-20


@pytest.mark.parametrize("kind", ["per_action", "per_sequence", "per_episode"])
def test_two_ranks_with_unequal_rows_have_the_gradient_of_one_when_the_global_count_divides(kind):
    """Each sums with the weights of the whole batch, and the sums are added: an average over ranks is undone by their number."""
    policy = little()
    b = drawn(policy)
    params = [*policy.parameters()]

    def gradient(rows, weight) -> torch.Tensor:
        gain = average.total(Now(policy, None, b[rows]).log_pi * b[rows].psi, weight, b[rows].mask)
        return torch.cat([g.flatten() for g in torch.autograd.grad(gain, params)])

    every, ranks = torch.arange(12), (torch.arange(3), torch.arange(3, 12))
    weight = average.weights(kind, b.mask)
    whole = gradient(every, weight)
    mean = sum(len(ranks) * gradient(rows, weight[rows]) for rows in ranks) / len(ranks)  # as DDP's average leaves it
    torch.testing.assert_close(mean, whole, rtol=0, atol=1e-12)
    own = sum(gradient(rows, average.weights(kind, b.mask[rows])) for rows in ranks) / len(ranks)
    assert float((own - whole).abs().max()) > 1e-3, "a count of each rank's own is another gradient"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_std_of_nearly_equal_rewards_is_computed_centred(dtype):
    """0.35 seven times and 0: by hand sqrt(7) over it; far from 0, where E[x^2] - E[x]^2 has lost every digit, the same."""
    for shift in (0.0, 3000.0):
        found = psi.group_standardise(torch.tensor([0.35] * 7 + [0.0], dtype=dtype) + shift, eps=0.0)
        expected = torch.tensor([7**-0.5] * 7 + [-(7**0.5)], dtype=dtype)
        assert torch.allclose(found, expected, rtol=1e-2 if shift and dtype == torch.float32 else 1e-6)
    assert not psi.group_standardise(torch.full((8,), 0.35, dtype=dtype)).any()


def test_groups_without_a_signal_count_in_the_divisor():
    mask = torch.ones(4, 3, dtype=torch.bool)
    for kind in ("per_sequence", "per_action", "per_episode"):
        weight = average.weights(kind, mask)
        assert torch.equal(weight[:2], weight[2:]), "rows whose Psi is 0 weigh as much as any"


def test_dapo_puts_other_groups_in_the_place_of_those_without_a_signal():
    record = next(logpi.learn("dapo", task="addition", level=1, starts=6, group=2, warmup=60))
    ret = torch.where(record.batch.mask, record.batch.reward, 0.0).sum(-1)
    assert record["groups_without_signal"] > 0 and record.parts.collect.drawn > 6
    assert bool((ret != ret[:, :1]).any(1).all()) and len(ret) <= 6


def test_in_bfloat16_ratios_lie_around_one_and_log_pi_is_float32():
    policy = little(dtype=torch.float32)
    policy.bf16 = True
    b = drawn(policy)
    assert b.log_pi.dtype == torch.float32 and policy.head.logits(policy.hidden(b.obs)).dtype == torch.float32
    error = (Now(policy, None, b).log_pi.detach() - b.log_pi).expm1()[b.mask].abs()
    check_first_ratio(float(error.max()), b, bf16=True)
    policy.bf16 = False
    coarse = (Now(policy, None, b).log_pi.detach() - b.log_pi).expm1()[b.mask].abs()
    assert float(error.max()) < 0.05 and 0 < float(coarse.max()) < 0.05 and float(coarse.median()) < 0.01


def test_dropout_that_is_on_in_training_alone_is_found_by_the_first_ratio():
    policy = little()
    for module in policy.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    b = drawn(policy)
    error = (Now(policy, None, b).log_pi.detach() - b.log_pi).expm1()[b.mask].abs().max()
    assert float(error) < 1e-12, "as it is made, dropout is off"
    policy.model.train()
    error = (Now(policy, None, b).log_pi.detach() - b.log_pi).expm1()[b.mask].abs().max()
    with pytest.raises(LogpiError, match="sampler and trainer disagree about log pi; has the network a random"):
        check_first_ratio(float(error), b)


def test_what_float32_rounds_of_a_sure_model_is_no_disagreement_and_in_float64_there_is_none():
    errors = {torch.float32: 0.0, torch.float64: 0.0}
    for dtype, seed in itertools.product(errors, range(6)):
        policy = little(dtype=dtype, seed=seed)
        with torch.no_grad():
            policy.head.project.weight.mul_(40.0)
        b = drawn(policy)
        error = float((Now(policy, None, b).log_pi.detach() - b.log_pi).expm1()[b.mask].abs().max())
        check_first_ratio(error, b)
        errors[dtype] = max(error, errors[dtype])
    assert errors[torch.float32] > ROUNDING[torch.float32] and errors[torch.float64] < 1e-11, errors
