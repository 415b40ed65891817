"""Before an update, too: answers, the reference's log pi and values come in parts where memory is short, and are the same."""

import pytest
import torch
from lm.little import little, prompts_of
from lm.test_short_of_memory import Short, made
from test_memory import WRONGS

from logpi import LogpiError
from logpi.lm.generate import generate, rooms
from logpi.loop import update
from logpi.now import reference_log_prob

SEEDS = torch.arange(100, 112)


@pytest.mark.parametrize(("held", "size"), [(27, None), (26, 6), (9, 6), (3, 3), (1, 1)])
@pytest.mark.parametrize("wrong", WRONGS, ids=lambda x: type(x).__name__)
def test_answers_in_parts_are_the_same_answers(held, size, wrong):
    policy, texts = little(), ("abc=", "h=", "ggfedcba=") if held >= 9 else ("a", "b", "c")
    prompts = prompts_of(policy, *texts)
    whole = generate(policy, prompts, SEEDS, 9, policy.ends, copies=4)
    room = rooms()
    short = Short(policy, held, wrong=wrong)
    found = generate(policy, prompts, SEEDS, 9, policy.ends, copies=4, room=room)
    assert room.size == size and short.asked[-1] <= held
    for name in ("tokens", "length", "ended"):
        assert torch.equal(getattr(found, name), getattr(whole, name))
    torch.testing.assert_close(found.log_pi, whole.log_pi, rtol=0, atol=1e-12)
    assert len(whole.length.unique()) > 1, "rows of one length show little"


def test_memory_that_gives_out_late_begins_the_answers_anew():
    policy = little()
    prompts, real, calls = prompts_of(policy, "abc=", "h="), policy.hidden, []
    whole = generate(policy, prompts, SEEDS[:8], 9, policy.ends, copies=4)

    def once(ids, **more):
        calls.append(len(ids))
        if len(calls) == 6:
            raise WRONGS[0]
        return real(ids, **more)

    policy.hidden = once
    assert torch.equal(generate(policy, prompts, SEEDS[:8], 9, policy.ends, copies=4).tokens, whole.tokens)
    assert calls[0] == 2 and calls[6] == 1, "then one prompt at a time"


def test_an_answer_that_does_not_fit_is_one_sentence():
    policy = little()
    Short(policy, 0)
    with pytest.raises(
        LogpiError, match=r"^The memory does not hold 1 answer at once: use a smaller --max-tokens, or a"
    ):
        generate(policy, prompts_of(policy, "abc=", "h="), SEEDS[:2], 9, policy.ends)
    policy.hidden = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        generate(policy, prompts_of(policy, "abc="), SEEDS[:1], 9, policy.ends)


def test_a_run_keeps_the_size_that_fitted():
    (plenty, b), (little, _) = made("grpo"), made("grpo")
    b = plenty.collect(plenty.policy, None)
    Short(little.policy, 0, times=1)
    same = little.collect(little.policy, None)
    assert torch.equal(b.action, same.action) and torch.equal(b.reward, same.reward)
    torch.testing.assert_close(b.log_pi, same.log_pi, rtol=0, atol=1e-12)
    state = little.collect.state()
    assert state["room"] == 6 and plenty.collect.state()["room"] is None
    plenty.collect.load_state(state)
    assert plenty.collect.room.size == 6


def test_values_in_parts_are_the_same_values():
    (plenty, b), (little, _) = made("ppo"), made("ppo")
    with torch.no_grad():
        plenty.critic.network.weight.add_(1.0), little.critic.network.weight.add_(1.0)
    short = Short(little.policy, 2 * b.obs.shape[1])
    found = [x.collect._judged(x.policy, x.critic, b) for x in (plenty, little)]
    assert short.asked[-1] <= short.room < short.asked[0]
    torch.testing.assert_close(found[0].value, found[1].value, rtol=0, atol=1e-12)
    short.room = 0
    with pytest.raises(LogpiError, match=r"^The memory does not hold \d+ tokens at once: use a smaller --micro, or"):
        little.collect._judged(little.policy, little.critic, b)


def test_a_reference_in_parts_says_the_same_and_moves_nothing_when_it_cannot():
    parts, b = made("grpo", {"kl": 0.1})
    whole = reference_log_prob(parts.reference, parts.policy, b)
    short = Short(parts.reference, 2 * b.obs.shape[-1])
    torch.testing.assert_close(reference_log_prob(parts.reference, parts.policy, b), whole, rtol=0, atol=1e-12)
    assert short.asked[-1] <= short.room < max(short.asked)
    short.room, before = 0, [p.clone() for p in parts.policy.parameters()]
    with pytest.raises(LogpiError, match=r"^The memory does not hold \d+ tokens at once: use a smaller --micro, or"):
        update(parts, b)
    assert all(torch.equal(p, q) for p, q in zip(before, parts.policy.parameters(), strict=True))
