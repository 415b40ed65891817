"""Rows in a line of tokens, beside rows side by side: the same hidden states and gradients, and nothing read twice."""

import pytest
import torch
from lm.families import exact_norms, family
from lm.little import little

from logpi.fast import attention, line
from logpi.policy.tokens import Tokens

EXACT = ["llama", "opt", "phi", "qwen2", "qwen3", "gpt2", "gpt2, plain"]
ROUNDED = ["cohere", "granite"]  # their norms are in float32
PROMPTS = [[1, 2, 3], [4], [5, 1, 2, 2, 3]]


def rows(lengths=(4, 1, 6, 0, 3, 9, 2, 6), kinds=(0, 0, 1, 1, 2, 0, 0, 1)):
    """Answers of so many tokens after the first, to the prompts of those kinds."""
    chance = torch.Generator().manual_seed(0)
    wide = max(len(PROMPTS[k]) + n for k, n in zip(kinds, lengths, strict=True)) + 2
    obs, mask = torch.zeros(len(kinds), wide, dtype=torch.long), torch.zeros(len(kinds), wide, dtype=torch.bool)
    for row, (kind, n) in enumerate(zip(kinds, lengths, strict=True)):
        asked = len(PROMPTS[kind])
        obs[row, :asked] = torch.tensor(PROMPTS[kind])
        obs[row, asked : asked + n] = torch.randint(1, 9, (n,), generator=chance)
        mask[row, asked - 1 : asked + n] = True
    return obs, mask


def heard(policy, said):
    """Values, and the gradient of a sum of them."""
    weights = torch.randn(said.shape, generator=torch.Generator().manual_seed(1), dtype=said.dtype)
    grads = torch.autograd.grad((said * weights).sum(), [*policy.body.parameters()], allow_unused=True)
    return said.detach(), torch.cat([g.flatten() for g in grads if g is not None])


@pytest.mark.parametrize("few", [1, line.FEW])
@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_a_line_says_what_rows_side_by_side_say(name, few, monkeypatch):
    monkeypatch.setattr(line, "FEW", few)  # groups of texts of one length, and groups of unlike ones
    exact_norms(monkeypatch)
    policy = little(eager="plain" in name) if "gpt2" in name else Tokens(*family(name)).place("cpu", torch.float64)
    obs, mask = rows()
    assert policy.pack(obs) == "prompts"
    found, wanted = heard(policy, line.hidden(policy, obs, mask)), heard(policy, policy.hidden(obs)[mask])
    loose = 1e-6 if name in ROUNDED else 1e-11
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=loose * float(other.abs().max()))


def test_keys_that_heads_share_and_texts_beyond_the_products(monkeypatch):
    monkeypatch.setattr(attention, "LONG", 4)
    policy = Tokens(*family("qwen3"), bf16=True).place("cpu", torch.float32)
    obs, mask = rows()
    with torch.no_grad():
        found, wanted = line.hidden(policy, obs, mask), policy.hidden(obs)[mask]
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05 * float(wanted.abs().max()))


def test_every_token_that_is_seen_stands_in_the_line_once():
    obs, mask = rows()
    found = line.line_of(obs, mask)
    assert len(found.token) == len(PROMPTS[0]) + len(PROMPTS[1]) + (4 + 1 + 9 + 2) + (6 + 0 + 6) + (len(PROMPTS[2]) + 3)
    assert torch.equal(found.token[found.ours], obs[mask])
    assert torch.equal(found.position[found.ours], mask.nonzero()[:, 1])


def test_texts_of_one_length_have_no_padding_among_them():
    assert line.line_of(*rows((4,) * 8)).back is not None  # the prompts' lengths differ
    found = line.line_of(*rows((4,) * 4, (0, 0, 1, 1)))
    assert found.back is not None and [x.begin is None for x in found.groups] == [True, False]
    found = line.line_of(*rows((4,) * 4, (0,) * 4))
    assert found.back is None and [x.own.shape for x in found.groups] == [(1, 3), (4, 4)]


def test_a_row_without_a_word_of_ours_and_prompts_alone():
    policy = little()
    obs, mask = rows((0, 0, 0, 0), (0, 0, 1, 2))
    mask[3] = False
    torch.testing.assert_close(line.hidden(policy, obs, mask), policy.hidden(obs)[mask], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["bloom", "gemma2", "gpt_oss", "gpt_neo", "mpt"])
def test_models_whose_attention_is_more_than_a_mask_read_rows_side_by_side(name):
    policy = Tokens(*family(name)).place("cpu", torch.float32)
    assert policy.pack(torch.zeros(1, 1)) == "rows"


@pytest.mark.parametrize("name", ["gemma3_text", "mistral"])
def test_layers_that_forget_read_texts_in_a_line_that_are_no_longer_than_their_window(name):
    policy = Tokens(*family(name, sliding_window=8)).place("cpu", torch.float32)
    for lengths, way in (((2, 1, 3, 0), "prompts"), ((2, 1, 9, 0), "rows")):
        obs, mask = rows(lengths, (0, 0, 1, 1))
        with torch.no_grad():
            apart = float((line.hidden(policy, obs, mask) - policy.hidden(obs)[mask]).abs().max())
        assert policy.pack(obs) == way and (apart < 1e-4) is (way == "prompts")
    assert [policy.pack(torch.zeros(1, n)) for n in (8, 9)] == ["prompts", "rows"]


def test_attention_that_products_would_change_stays_as_it_is(monkeypatch):
    policy = Tokens(*family("qwen3"))
    monkeypatch.setattr(attention, "attend", lambda module, query, *_, **__: (2 * query.transpose(1, 2), None))
    assert policy.place("cpu", torch.float32).lined == 0
    assert policy.model.config._attn_implementation == "sdpa"


def test_a_model_that_does_not_pass_on_where_the_tokens_stand_reads_rows_side_by_side(monkeypatch):
    attend = attention.attend
    monkeypatch.setattr(attention, "attend", lambda *given, line=None, **more: attend(*given, **more))
    policy = Tokens(*family("qwen3")).place("cpu", torch.float32)
    assert not policy.lined and policy.model.config._attn_implementation == attention.NAME


def test_a_mixture_of_experts_is_covered_too():
    policy = Tokens(*family("qwen3_moe")).place("cpu", torch.float32)
    obs, mask = rows()
    assert policy.pack(obs) == "prompts"
    torch.testing.assert_close(line.hidden(policy, obs, mask), policy.hidden(obs)[mask], rtol=0, atol=1e-4)


def test_a_long_prompt_makes_no_others_as_wide():
    obs = torch.zeros(64, 420, dtype=torch.long)
    mask = torch.zeros(64, 420, dtype=torch.bool)
    for row in range(64):
        asked = 400 if row < 8 else 10 + row // 8
        obs[row, :asked] = row // 8
        mask[row, asked - 1 : asked + 15] = True
    found = line.line_of(obs, mask)
    heard = sum(
        x.own.shape[0] * (x.own.shape[1] + (0 if x.before is None else x.before.shape[1])) for x in found.groups
    )
    assert heard < 1.5 * (8 * 415 + 56 * 30 + 400 + 7 * 14)
    torch.testing.assert_close(found.token[found.ours], obs[mask])
