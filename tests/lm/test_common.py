"""What rows have in common is read once: the same answers and the same gradient as row by row."""

import pytest
import torch
from lm.families import family
from lm.little import little, prompts_of
from lm.test_tokens import drawn, gradient

from logpi.batch import Batch, Rows
from logpi.lm.generate import Completions, generate
from logpi.now import Now
from logpi.policy import common
from logpi.policy.tokens import Tokens
from logpi.rollout.language import rows_of


def together(policy, b):
    return common.hidden(policy, b)


def alone(policy, b):
    return b.ours(policy.hidden(b.obs))


def asked(policy, monkeypatch) -> list[int]:
    """How many tokens policy.hidden is given, each time."""
    plain, counted = policy.hidden, []
    monkeypatch.setattr(policy, "hidden", lambda ids, **more: counted.append(ids.numel()) or plain(ids, **more))
    return counted


def alike(policy) -> Batch:
    """Rows of one short prompt, many of which say the same."""
    prompts = prompts_of(policy, "abc=", "h=")
    said = generate(policy, prompts, torch.arange(64), 2, policy.ends, copies=32)
    return rows_of([p for p in prompts for _ in range(32)], said, torch.zeros(64, dtype=torch.float64), 0)


@pytest.mark.parametrize("batch", [drawn, alike])
@pytest.mark.parametrize("eager", [False, True])
def test_what_is_said_and_its_gradient_are_those_of_rows_of_their_own(eager, batch, monkeypatch):
    policy = little(eager=eager)
    b = batch(policy).with_(start=None)
    counted = asked(policy, monkeypatch)
    shared = together(policy, b)
    assert len(counted) == 1 and sum(counted) < 0.75 * b.obs.numel()
    torch.testing.assert_close(shared, alone(policy, b), rtol=0, atol=1e-12)
    weights = torch.randn(shared.shape, generator=torch.Generator().manual_seed(0), dtype=shared.dtype)
    grads = [
        torch.cat([g.flatten() for g in torch.autograd.grad((x * weights).sum(), [*policy.body.parameters()])])
        for x in (shared, alone(policy, b))
    ]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-11 * float(grads[1].abs().max()))


def test_equal_rows_are_read_once(monkeypatch):
    policy = little()
    b = alike(policy).with_(start=None)
    kinds = {(*row[: int(m.nonzero()[-1]) + 1].tolist(),) for row, m in zip(b.obs, b.mask, strict=True)}
    first, of = common.distinct(b)
    assert len(first) == len(kinds) < 32 and torch.equal(b.obs[first][of][b.mask], b.obs[b.mask])


def test_text_of_others_in_the_middle_of_a_row_is_read_too():
    policy = little()
    b = drawn(policy)
    holes = b.mask & (torch.arange(b.mask.shape[1]) % 3 != 1)
    b = b.with_(mask=torch.where(holes.any(1, keepdim=True), holes, b.mask))
    torch.testing.assert_close(together(policy, b), alone(policy, b), rtol=0, atol=1e-12)


def test_a_row_without_a_word_of_ours_does_no_harm():
    policy = little()
    b = drawn(policy)
    mask = b.mask.clone()
    mask[5] = False
    b = b.with_(mask=mask)
    torch.testing.assert_close(together(policy, b), alone(policy, b), rtol=0, atol=1e-12)
    torch.testing.assert_close(Now(policy, None, b).log_pi[5], torch.zeros_like(b.log_pi[5]))


def long_prompts(policy) -> Batch:
    """Short answers of unlike length to four long prompts, the rows of each prompt apart from each other."""
    prompts = prompts_of(policy, *(letter + "abcdefgh" * 4 for letter in "abcd"))
    said = generate(policy, [prompts[k % 4] for k in range(24)], torch.arange(24), 6, policy.ends)
    b = rows_of([prompts[k % 4] for k in range(24)], said, torch.zeros(24, dtype=torch.float64), 0)
    psi = torch.randn(b.mask.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return b.with_(psi=torch.where(b.mask, psi, 0.0))


def test_rows_of_long_prompts_go_together_and_each_prompt_is_read_once(monkeypatch):
    policy = little()
    b = long_prompts(policy).with_(start=None)
    whole = gradient(policy, b)
    counted = asked(policy, monkeypatch)
    split = gradient(policy, b, micro=40)
    torch.testing.assert_close(split, whole, rtol=0, atol=1e-12 * float(whole.abs().max()))
    assert len(counted) == 4 and max(counted) <= 40 + 33  # the answers beside their prompt, four times
    assert sum(counted) < b.obs.numel() / 3


def two_kinds(policy, prompts: list[list[int]], lengths: tuple[int, int]) -> Batch:
    """Eight rows of each of two prompts, whose answers are so long."""
    length = torch.tensor(lengths).repeat_interleave(8)
    said = torch.randint(1, 9, (16, max(lengths)), generator=torch.Generator().manual_seed(0))
    said = torch.where(torch.arange(max(lengths)) < length[:, None], said, 0)
    none = torch.zeros(said.shape, dtype=torch.float64)
    told = Completions(said, none, length, torch.ones(16, dtype=torch.bool))
    return rows_of([p for p in prompts for _ in range(8)], told, torch.zeros(16), 0).with_(start=None)


def test_long_answers_to_short_prompts_beside_the_reverse_stay_within_the_context():
    policy = Tokens(*family("opt")).place("cpu", torch.float64)  # its positions have a table
    b = two_kinds(policy, [[1] * 10, [2] * 30], (54, 34))
    assert b.obs.shape[1] == policy.context == 64
    torch.testing.assert_close(together(policy, b), alone(policy, b), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
def test_no_part_is_larger_than_asked_for_where_layers_forget_and_prompts_are_read_by_row(name, monkeypatch):
    policy = Tokens(*family(name)).place("cpu", torch.float32)
    b = two_kinds(policy, [[1] * 50, [2] * 50], (6, 6))
    counted = asked(policy, monkeypatch)
    rows = Rows(b, torch.Generator(), micro=120, pack=policy.pack(b.obs))
    for part, _ in rows.parts(rows.batch, rows.batch.mask):
        common.hidden(policy, part)
    assert max(counted) <= 120 and (sum(counted) < b.obs.numel() / 2) is (name == "llama")
