"""Supervised steps raise log pi of the answers, and of nothing else."""

import itertools
from functools import partial

import pytest
import torch
from lm.little import little, prompts_of

from logpi import LogpiError
from logpi.lm import sft
from logpi.lm.fitting import ascend
from logpi.lm.generate import generate

PROMPTS, ANSWERS = ["abc=", "h=", "gfedcba="], ["cba", "", "abc"]


@torch.no_grad()
def test_the_loss_is_minus_the_mean_log_pi_of_answers_and_their_ends():
    policy = little()
    total, count = 0.0, 0
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        before, told = policy.encode(prompt), [*policy.encode(answer), policy.ends[0]]
        log_p = policy.model(input_ids=torch.tensor([before + told])).logits[0].log_softmax(-1)
        total += sum(float(log_p[len(before) - 1 + k, token]) for k, token in enumerate(told))
        count += len(told)
    rows = sft.rows_from(policy, PROMPTS, ANSWERS)
    found = [float(sum(sft.loss(policy, rows, micro))) for micro in (1, 20, 10_000)]
    assert found == pytest.approx([total / count] * 3, rel=1e-12), "climbed, so not negated"


def test_the_gradient_is_the_same_for_every_split():
    policy = little()
    rows = sft.rows_from(policy, PROMPTS, ANSWERS)
    grads = [torch.autograd.grad(sum(sft.loss(policy, rows, m)), [*policy.parameters()]) for m in (1, 10_000)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


class Few:
    """'a=' -> 'a'."""

    letters, limit = "abcdefgh=", 2

    def example(self, chance):
        said = chance.choice("abcdefgh")
        return {"prompt": f"{chance.choice('abcdefgh')}{said}=", "answer": said}


def test_steps_raise_log_pi_of_a_tasks_answers_and_the_order_is_the_seeds():
    first, again, other = (list(sft.fit(little(), Few(), seed, 30, 16, 1e-2)) for seed in (0, 0, 1))
    assert first == again != other
    assert first[0] > 2 and sum(first[-5:]) / 5 < 1
    assert sft.warm_up(little(), Few(), 0, 30, 16, 1e-2) == 30


def test_what_cannot_be_learnt_from_is_refused():
    policy = little()
    assert sft.answer_of({"prompt": "p", "completion": "a", "answer": "b"}) == "a"
    assert sft.answer_of({"prompt": "p", "answer": 42}) == "42"
    for bad, said in (
        ({}, "'p' has no completion and no answer"),
        ({"completion": [{}]}, "a completion that is a list"),
    ):
        with pytest.raises(LogpiError, match=said):
            sft.answer_of({"prompt": "p"} | bad)
    with pytest.raises(LogpiError, match="have 521 tokens, the model's context 512"):
        sft.rows_from(policy, ["a" * 500], ["b" * 20])
    with pytest.raises(LogpiError, match="has no tokens for 'xyz'"):
        sft.rows_from(policy, ["xyz"], ["a"])


def test_a_loss_that_is_not_finite_stops_at_once():
    policy = little()
    batches = itertools.repeat(sft.rows_from(policy, PROMPTS, ANSWERS))
    with pytest.raises(LogpiError, match=r"The loss is nan after \d+ steps: use a smaller learning rate"):
        list(ascend(policy, partial(sft.loss, policy), batches, 1e300, 5))


def test_a_warm_up_ends_once_a_right_answer_is_probable_enough():
    policy = little()
    steps = sft.warm_up(policy, Few(), 0, 500, 64, 1e-2, until=0.6)
    fresh = next(sft.examples(policy, Few(), "fresh", 256))
    assert 0 < steps < 500 and not steps % sft.LOOK and sft.probability(policy, fresh) > 0.4
    said = generate(policy, prompts_of(policy, "ba="), torch.arange(2000), 2, policy.ends, copies=2000)
    right = (said.tokens == torch.tensor([*policy.encode("a"), policy.ends[0]])).all(1)
    exact = sft.probability(policy, sft.rows_from(policy, ["ba="], ["a"]))
    assert float(right.double().mean()) == pytest.approx(exact, abs=0.04)
