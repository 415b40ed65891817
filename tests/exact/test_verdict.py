"""`check`: a right loss passes however it is written; each planted wrong one is refused in the words that say why."""

import inspect

import numpy as np
import pytest
import torch

from logpi import psi
from logpi.envs.tabular import bandit
from logpi.errors import LogpiError
from logpi.exact import Choice, check, find, from_table
from logpi.exact.losses import GIVEN
from logpi.exact.problems import changed, five_states
from logpi.methods import A2C, GRPO, PPO, RLOO, Reinforce


def wrong(words, *given, **more):
    with pytest.raises(AssertionError, match=words) as refused:
        check(*given, **{"rows": 2} | more)
    return str(refused.value)


def impossible(words, *given, **more):
    with pytest.raises(LogpiError, match=words):
        check(*given, **{"rows": 2} | more)


def others(reward):
    """Each return less the mean of the other rows'."""
    return psi.leave_one_out(reward.sum(-1))


def score_of(log_pi, mask):
    return torch.where(mask, log_pi, 0.0).sum(-1)


def right(log_pi, reward, mask):
    return -(score_of(log_pi, mask) * others(reward)).mean()


def discounted(log_pi, reward, mask, gamma):
    """Right for gamma < 1 too: gamma^t times what follows."""
    t = torch.arange(mask.shape[-1], dtype=torch.float64)
    late = (reward * gamma**t).flip(-1).cumsum(-1).flip(-1)
    return -torch.where(mask, log_pi * late, 0.0).sum(-1).mean()


# the same loss as vmap cannot run it: values become numbers, masks become indices, loops and ifs
def with_item(log_pi, reward, mask):
    return -(score_of(log_pi, mask) * torch.tensor([x.item() for x in others(reward)]).double()).mean()


def with_boolean_index(log_pi, reward, mask):
    return -(log_pi[mask] * others(reward)[mask.nonzero()[:, 0]]).sum() / len(mask)


def with_ifs(log_pi, reward, mask):
    total, credit = torch.zeros((), dtype=torch.float64), others(reward)
    for i in range(len(mask)):
        for t in range(mask.shape[1]):
            if mask[i, t]:
                total = total - log_pi[i, t] * credit[i]
    return total / len(mask)


def with_lengths(log_pi, reward, mask):
    credit = others(reward)
    return -sum(log_pi[i, :n].sum() * credit[i] for i, n in enumerate(mask.sum(-1).tolist())) / len(mask)


def in_place(log_pi, reward, mask):
    out = torch.zeros(len(mask), dtype=torch.float64)
    for i in range(len(mask)):
        out[i] = score_of(log_pi, mask)[i]
    return -(out * others(reward)).mean()


def with_numpy(log_pi, reward, mask):
    ret = np.asarray(reward.sum(-1))
    credit = (ret - ret.mean()) * len(ret) / (len(ret) - 1)
    return -(score_of(log_pi, mask) * torch.as_tensor(credit)).mean()


RIGHT = (right, with_item, with_boolean_index, with_ifs, with_lengths, in_place, with_numpy)


@pytest.mark.parametrize("loss", RIGHT, ids=lambda x: x.__name__)
def test_a_right_loss_passes_however_it_is_written(loss):
    found = check(loss, rows=2)
    assert found.batches == 225 and not found.measured and found.variance > 0.1
    truth = find("sequences").directions()[0].gradient
    assert float((found.mean - truth).abs().max()) < 1e-15


@pytest.mark.parametrize("name", ["five-states", "bandit", "prompts"])
def test_a_right_loss_passes_on_every_small_problem_and_policy(name):
    problem = find(name)
    for p in (problem, changed(problem, gamma=0.7), changed(problem, hidden=(4,))):
        check(discounted, p, rows=2)
    assert check(right, changed(problem, gamma=1.0), rows=2, grouped=True).batches < 200
    single = lambda log_pi, reward, mask: right(log_pi.float(), reward.float(), mask)
    check(single, changed(problem, gamma=1.0), tolerance=1e-5, rows=2)


def test_a_module_is_a_loss_and_a_default_is_kept():
    class Loss(torch.nn.Module):
        def forward(self, log_pi, reward, mask, log_ref=None, weight: float = 1.0):
            assert log_ref is None
            return weight * right(log_pi, reward, mask)

    alone = from_table(bandit(), reference=None, gamma=1.0)
    check(Loss(), alone, rows=2)
    wrong("Loss does not have the gradient of J .*Only its length is wrong", Loss(), alone, rows=2, weight=3.0)


def test_every_name_that_a_loss_may_ask_for_is_filled():
    seen = {}

    def loss(*_, **given):
        seen.update({k: tuple(v.shape) if isinstance(v, torch.Tensor) else v for k, v in given.items()})
        return right(given["log_pi"], given["reward"], given["mask"])

    kinds = [inspect.Parameter(x, inspect.Parameter.KEYWORD_ONLY) for x in (*GIVEN, "gamma", "mine")]
    loss.__signature__ = inspect.Signature(kinds)
    check(loss, rows=2, mine="yes")
    wide = {"logits", "logits_ref"}
    assert {seen.pop(x) for x in wide} == {(2, 3, 3)}
    assert seen.pop("gamma") == 1.0 and seen.pop("mine") == "yes"
    assert set(seen) == set(GIVEN) - wide and set(seen.values()) == {(2, 3)}


def test_pages_and_choices_are_estimators_too():
    check(Reinforce, rows=2)
    check(Reinforce(gamma=0.9, from_start=True), "five-states", rows=2)
    check(RLOO, rows=2)
    check(RLOO(kl=0.2), kl=0.2, rows=2)
    check(Choice(gamma=0.9, baseline="value"), "five-states", rows=2)
    check(Reinforce, "five-states", rows=2, from_start=False)
    wrong("^Reinforce does not have the gradient of J on five-states.*no gamma", Reinforce, "five-states")
    for page in (PPO, A2C, GRPO):
        wrong(f"{page.__name__} does not have the gradient", page, "five-states")


def loo_over(divisor):
    """The right loss but for what each row's score is divided by."""
    return lambda log_pi, reward, mask: -(score_of(log_pi, mask) / divisor(mask) * others(reward)).mean()


def own_mean(log_pi, reward, mask):
    return -(score_of(log_pi, mask) * psi.group_mean(reward.sum(-1))).mean()


PLANTED = {  # name: (loss, rows, words)
    "end token masked": (lambda log_pi, reward, mask, action: right(log_pi, reward, mask & (action != 0)), 3, "No gradient comes of the end token: is it masked"),
    "by the padded length": (loo_over(lambda mask: mask.shape[-1]), 2, "Only its length is wrong: .*a division by the longest length"),
    "by its own length": (loo_over(lambda mask: mask.sum(-1)), 3, r"cosine 0.9\d+, scale 0.4\d+ .* It is what .*average per_sequence expects"),
    "by the batch's length": (loo_over(lambda mask: mask.sum() / len(mask)), 3, r"cosine 0.99\d+, scale 0.4\d+ .* It is what .*average per_action expects"),
    "wrong sign": (loo_over(lambda mask: -1), 2, "cosine -1.0000, scale -1.0000.*The sign is wrong: a loss is minimised"),
    "own mean": (own_mean, 3, "scale 0.6667.*Only its length is wrong: a mean that holds the row itself"),
    "a sum": (loo_over(lambda mask: 1 / len(mask)), 3, "scale 3.0000.*Only its length is wrong: a sum over rows, not a mean"),
    "divided twice": (loo_over(len), 2, "scale 0.5000.*Only its length is wrong: .*one division by the rows too many"),
    "detached": (lambda log_pi, reward, mask: right(log_pi.detach(), reward, mask), 2, "Its expected gradient is zero: is something detached, under no_grad"),
    "no mask": (lambda log_pi, reward: -(log_pi.sum(-1) * others(reward)).mean(), 2, "relative bias 0"),
    "shifted by one": (lambda log_pi, reward, mask: right(log_pi.roll(1, -1), reward, mask), 2, "relative bias"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_refused_in_the_right_words(name):
    loss, rows, words = PLANTED[name]
    said = wrong(words, loss, rows=rows)
    assert said.startswith(f"{loss.__name__} does not have the gradient of J on sequences: relative bias ")
    assert "Furthest off, on the logits: after [" in said and "\n" not in said
    assert ("is it masked" in said) is (name == "end token masked")


def test_at_two_rows_a_half_may_be_either_and_both_are_named():
    for loss in (own_mean, PLANTED["divided twice"][0]):
        wrong("a mean that holds the row itself, or one division by the rows too many", loss)
    twice = lambda log_pi, reward, mask: -2 * (score_of(log_pi, mask) * reward.sum(-1)).mean()
    assert "masked" not in wrong("scale 2.0000.*Only its length is wrong", twice, "bandit")  # an arm that pays 0


def test_no_gamma_to_the_t_is_named_and_accepted_where_it_is_meant():
    def to_go(log_pi, reward, mask, gamma):
        return -torch.where(mask, log_pi * psi.reward_to_go(reward, ~mask, gamma), 0.0).sum(-1).mean()

    assert "state 3, action 0" in wrong("It is the gradient of J, no gamma", to_go, "five-states")
    check(to_go, "five-states", rows=2, from_start=False)
    check(to_go, "five-states", rows=2, gamma=1.0)  # there is no other
    wrong("gradient of J at gamma 1", lambda log_pi, reward, mask: to_go(log_pi, reward, mask, 1.0), "five-states")
    wrong(
        "discounted does not have the gradient of J, no gamma.*It is the gradient of J[.]",
        discounted,
        "five-states",
        rows=2,
        from_start=False,
    )


def kl_no_grad(log_pi, log_ref, reward, mask):
    with torch.no_grad():
        penalty = torch.where(mask, log_pi - log_ref, 0.0).sum(-1).mean() / 10
    return right(log_pi, reward, mask) + penalty


def kl_k1(log_pi, log_ref, reward, mask, each=lambda x: x):
    return right(log_pi, reward, mask) + 0.1 * torch.where(mask, each(log_pi - log_ref), 0.0).sum(-1).mean()


def kl_k2(log_pi, log_ref, reward, mask):
    return kl_k1(log_pi, log_ref, reward, mask, lambda x: x**2 / 2)


def kl_in_the_reward(log_pi, log_pi_old, log_ref, reward, mask):
    return right(log_pi, torch.where(mask, reward - 0.1 * (log_pi_old - log_ref), 0.0), mask)


def test_a_kl_under_no_grad_and_one_in_the_wrong_place_are_told_from_a_right_one():
    check(kl_in_the_reward, kl=0.1, rows=2)
    for loss in (kl_no_grad, kl_k1):
        wrong(r"the gradient of J alone: the KL adds nothing \(no_grad, or k1", loss, kl=0.1)
        check(loss, rows=2)  # of J without a KL it has the gradient
    wrong("It is the gradient of J - KL per action", kl_k2, kl=0.1)
    check(kl_k2, kl=0.1, rows=2, per_action=True)
    wrong("It is the gradient of J - KL of episodes", kl_in_the_reward, kl=0.1, rows=2, per_action=True)
    wrong("kl_in_the_reward does not have the gradient of J - KL of episodes", kl_in_the_reward, kl=0.2)


def test_another_policys_actions_need_the_ratio_of_whole_episodes():
    drifted = changed(find("sequences"), drift=0.5)

    def weighted(log_pi, log_pi_old, reward, mask):
        return -(score_of(log_pi - log_pi_old, mask).exp() * others(reward)).mean()

    def by_token(log_pi, log_pi_old, reward, mask):
        return -(torch.where(mask, (log_pi - log_pi_old).exp(), 0.0).sum(-1) * others(reward)).mean()

    wrong("right does not have the gradient", right, drifted)
    check(weighted, drifted, rows=2)
    wrong("by_token does not have", by_token, changed(find("prompts"), drift=0.5))  # which chose its state, too
    check(by_token, "prompts", rows=2)


def test_what_is_too_large_is_refused_or_measured_with_its_interval():
    impossible("gridworld has about 10.* are too many to enumerate", discounted, "gridworld")
    small = changed(find("gridworld"), limit=12)
    found = check(discounted, small, rows=8, samples=4000)
    assert found.measured and found.batches == 4000
    impossible("40 batches tell the bias of discounted to .* only: draw more", discounted, small, rows=2, samples=40)
    turned = lambda log_pi, reward, mask, gamma: -discounted(log_pi, reward, mask, gamma)
    wrong("gradient of J on gridworld.*4,000 drawn batches of 8", turned, small, rows=8, samples=4000)


def test_a_loss_that_returns_no_number_is_refused():
    impossible(r"returned \[2\]: a loss is one number", lambda log_pi: log_pi.sum(-1))
    impossible("returned float: a loss is one number", lambda log_pi: 0.0)
    impossible(r"returned \[\]: a loss is one number, a float tensor", lambda action: action.sum())


def test_a_name_that_nothing_has_is_refused_and_the_nearest_named():
    impossible("asks for 'logpi', which no batch has. Did you mean log_pi", lambda logpi, reward: logpi.sum())
    impossible("right was given betta, for which it does not ask", right, betta=0.1)
    impossible("int is not a function; an estimator is a loss", 3)
    impossible(
        "kl_k1 asks for log_ref: this problem has no reference policy, use sequences",
        kl_k1,
        from_table(bandit(), reference=None),
    )
    impossible("rows is 0: a batch has 1 episode or more", right, rows=0)


def test_a_page_of_another_discount_or_without_its_reference_is_refused():
    impossible("gamma of Reinforce is 0.99, that of five-states is 0.9: give both the same", Reinforce(), "five-states")
    impossible(
        "RLOO has a KL to a reference policy, which your table has not",
        RLOO(kl=0.1),
        from_table(five_states(), gamma=1.0, reference=None),
    )


def test_where_the_truth_is_zero_the_gap_itself_is_judged():
    """Equal rewards: nothing is to be learnt, and a loss that learns nothing is right."""
    flat = from_table(bandit((1.0, 1.0, 1.0)), gamma=1.0)
    check(right, flat, rows=2)
    check(lambda log_pi, reward, mask: -(score_of(log_pi, mask) * reward.sum(-1)).mean(), flat, rows=14, samples=400)
    for more in ({}, {"rows": 14, "samples": 400}):
        wrong("relative bias nan", lambda logits: logits[..., 0].mean(), flat, **more)


def test_a_loss_that_fails_says_how_itself():
    impossible("RuntimeError: The size of tensor a", lambda log_pi, reward: (log_pi[:, :2] * reward).sum())
    impossible("leave_one_out", lambda log_pi: Choice(baseline="group_leave_one_out"))
