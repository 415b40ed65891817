"""Prompts that rows share are read once: the same answers and the same gradient as row by row."""

import pytest
import torch
from lm.little import little
from lm.test_tokens import drawn

from logpi.now import Now
from logpi.policy import prompts


def alone(policy, b):
    return b.ours(policy.hidden(b.obs))


def read(policy, counted):
    """policy.hidden, which notes how many tokens it was given."""
    plain = policy.hidden

    def hidden(ids, **more):
        counted.append(ids.numel())
        return plain(ids, **more)

    return hidden


@pytest.mark.parametrize("eager", [False, True])
def test_what_is_said_and_its_gradient_are_those_of_rows_of_their_own(eager, monkeypatch):
    policy = little(eager=eager)
    b, counted = drawn(policy), []
    monkeypatch.setattr(policy, "hidden", read(policy, counted))
    shared = prompts.features(policy, b)
    assert len(counted) == 2 and sum(counted) < 0.75 * b.obs.numel()
    torch.testing.assert_close(shared, alone(policy, b), rtol=0, atol=1e-12)
    weights = torch.randn(shared.shape, generator=torch.Generator().manual_seed(0), dtype=shared.dtype)
    grads = [
        torch.cat([g.flatten() for g in torch.autograd.grad((x * weights).sum(), [*policy.body.parameters()])])
        for x in (shared, alone(policy, b))
    ]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-11 * float(grads[1].abs().max()))


def test_text_of_others_in_the_middle_of_a_row_is_read_too():
    policy = little()
    b = drawn(policy)
    holes = b.mask & (torch.arange(b.mask.shape[1]) % 3 != 1)
    holes[:, 0] = b.mask[:, 0]
    b = b.with_(mask=torch.where((holes.sum(1, keepdim=True) > 0), holes, b.mask))
    shared = prompts.features(policy, b)
    assert shared is not None
    torch.testing.assert_close(shared, alone(policy, b), rtol=0, atol=1e-12)


def test_where_nothing_is_shared_nothing_is_changed():
    policy = little()
    b = drawn(policy)
    assert prompts.features(policy, b[::4]) is None and prompts.features(policy, b[:1]) is None


def test_a_row_without_a_word_of_ours_does_no_harm():
    policy = little()
    b = drawn(policy)
    mask = b.mask.clone()
    mask[5] = False
    b = b.with_(mask=mask)
    torch.testing.assert_close(prompts.features(policy, b), alone(policy, b), rtol=0, atol=1e-12)
    torch.testing.assert_close(Now(policy, None, b).log_pi[5], torch.zeros_like(b.log_pi[5]))
