"""The engine against a naive generator: one row at a time, the whole text anew for every token."""

import pytest
import torch
from lm.little import little, prompts_of
from torch import Tensor

from logpi import LogpiError
from logpi.lm.draws import uniform
from logpi.lm.generate import Sampling, generate

SEEDS = torch.arange(100, 112)


def naive(policy, prompt: list[int], seed: Tensor, limit: int, greedy: bool = False) -> tuple[list[int], list[float]]:
    """What one row says, with transformers' own forward pass."""
    said, log_pi = [], []
    for t in range(limit):
        with torch.no_grad():
            logits = policy.model(input_ids=torch.tensor([prompt + said])).logits[0, -1] / policy.head.temperature
        log_p = logits.log_softmax(-1)
        below = log_p.exp().cumsum(-1)
        token = int(log_p.argmax()) if greedy else int((below <= uniform(seed[None], t) * below[-1]).sum())
        said.append(token)
        log_pi.append(float(log_p[token]))
        if token == policy.tokenizer.eos_token_id:
            break
    return said, log_pi


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_says_what_the_naive_generator_says(temperature):
    policy = little(temperature=temperature)
    prompts = prompts_of(policy, "abc=", "h=", "ggfedcba=")
    found = generate(policy, prompts, SEEDS, 9, policy.ends, copies=4)
    for row, seed in enumerate(SEEDS):
        said, log_pi = naive(policy, prompts[row // 4], seed, 9)
        n = len(said)
        assert found.tokens[row, :n].tolist() == said and int(found.length[row]) == n
        assert bool(found.ended[row]) == (said[-1] == policy.ends[0])
        torch.testing.assert_close(found.log_pi[row, :n].tolist(), log_pi, rtol=0, atol=1e-12)
        assert not found.tokens[row, n:].any() and not found.log_pi[row, n:].any()
    assert 0 < int(found.ended.sum()) < 12, "some rows end, some do not, or the test shows little"


def test_a_row_says_the_same_in_any_company():
    policy = little(1)
    prompts = prompts_of(policy, "abc=", "bcdefgh=", "a=")
    together = generate(policy, prompts, SEEDS[:3], 8, policy.ends)
    for k in range(3):
        alone = generate(policy, prompts[k : k + 1], SEEDS[k : k + 1], 8, policy.ends)
        n = int(alone.length[0])
        assert torch.equal(alone.tokens[0, :n], together.tokens[k, :n])
        torch.testing.assert_close(alone.log_pi[0, :n], together.log_pi[k, :n], rtol=0, atol=1e-12)


def test_copies_of_a_prompt_draw_their_first_token_independently():
    policy = little()
    found = generate(policy, prompts_of(policy, "abc="), torch.arange(400), 1, policy.ends, copies=400)
    assert len(found.tokens[:, 0].unique()) == len(policy.tokenizer)


def test_drawn_tokens_have_the_probabilities_of_the_model():
    policy, n = little(2), 20_000
    found = generate(policy, prompts_of(policy, "cab="), torch.arange(n) * 7919, 1, policy.ends, copies=n)
    with torch.no_grad():
        p = policy.model(input_ids=torch.tensor(prompts_of(policy, "cab="))).logits[0, -1].softmax(-1)
    counts = torch.bincount(found.tokens[:, 0], minlength=len(p))
    assert float(((counts - n * p) ** 2 / (n * p)).sum()) < 30, "chi-square, 9 degrees of freedom"


def test_greedy_takes_the_likeliest_and_cut_offs_never_draw_outside():
    policy = little(3)
    prompts = prompts_of(policy, "abc=", "hg=")
    found = generate(policy, prompts, SEEDS[:2], 6, policy.ends, how=Sampling(greedy=True))
    for row in range(2):
        said, _ = naive(policy, prompts[row], SEEDS[row], 6, greedy=True)
        assert found.tokens[row, : len(said)].tolist() == said
    logits = torch.tensor([[2.0, 1.0, 0.5, -1.0, -2.0]])
    assert (Sampling(top_k=2).log_p(logits).exp() > 0).tolist() == [[True, True, False, False, False]]
    p = logits.softmax(-1)[0]
    kept = Sampling(top_p=float(p[0] + p[1] / 2)).log_p(logits).exp()[0]
    torch.testing.assert_close(kept, torch.cat([p[:2] / p[:2].sum(), torch.zeros(3)]))
    assert int((Sampling(top_p=0.01).log_p(logits).exp() > 0).sum()) == 1, "one is always left"


def test_what_does_not_fit_the_context_is_refused():
    policy = little()
    with pytest.raises(LogpiError, match="longer than the model's context of 512"):
        generate(policy, [[1] * 500], SEEDS[:1], 100, policy.ends)
    with pytest.raises(LogpiError, match="A prompt is empty"):
        generate(policy, [[1], []], SEEDS[:2], 4, policy.ends)


def test_a_model_whose_memory_cannot_be_shared_reads_each_copy_by_itself(monkeypatch):
    policy = little()
    prompts = prompts_of(policy, "abc=", "h=")
    shared = generate(policy, prompts, SEEDS, 9, policy.ends, copies=6)
    monkeypatch.setattr("logpi.lm.generate.rows_may_change", lambda cache: False)
    monkeypatch.setattr("logpi.lm.generate.select", lambda *_: pytest.fail("its rows cannot be chosen"))
    alone = generate(policy, prompts, SEEDS, 9, policy.ends, copies=6)
    assert torch.equal(alone.tokens, shared.tokens) and torch.equal(alone.ended, shared.ended)
    torch.testing.assert_close(alone.log_pi, shared.log_pi, rtol=0, atol=1e-12)
