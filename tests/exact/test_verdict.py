"""`check`: a right loss passes however it is written; each planted wrong one is refused in the words that say why."""

import inspect

import numpy as np
import pytest
import torch

from logpi import psi
from logpi.envs.tabular import Table, bandit
from logpi.errors import LogpiError
from logpi.exact import Choice, check, find, from_table
from logpi.exact.losses import GIVEN
from logpi.exact.problems import changed, five_states
from logpi.methods import A2C, GRPO, PPO, RLOO, Reinforce


def others(reward):
    """Each return less the mean of the other rows'."""
    return psi.leave_one_out(reward.sum(-1))


def score_of(log_pi, mask):
    return torch.where(mask, log_pi, 0.0).sum(-1)


def right(log_pi, reward, mask):
    return -(score_of(log_pi, mask) * others(reward)).mean()


def discounted(log_pi, reward, mask, gamma):
    """Right for gamma < 1 too: gamma^t times what follows."""
    t = torch.arange(mask.shape[-1])
    late = (reward * gamma**t).flip(-1).cumsum(-1).flip(-1)
    return -torch.where(mask, log_pi * late, 0.0).sum(-1).mean()


# the same loss as vmap cannot run it: values become numbers, masks become indices, loops and ifs
def with_item(log_pi, reward, mask):
    credit = [x.item() for x in others(reward)]
    return -(score_of(log_pi, mask) * torch.tensor(credit, dtype=torch.float64)).mean()


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


def in_single_precision(log_pi, reward, mask):
    return right(log_pi.float(), reward.float(), mask)


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
    check(in_single_precision, changed(problem, gamma=1.0), tolerance=1e-5, rows=2)


def test_a_module_is_a_loss_and_a_default_is_kept():
    class Loss(torch.nn.Module):
        def forward(self, log_pi, reward, mask, log_ref=None, weight: float = 1.0):
            assert log_ref is None
            return weight * right(log_pi, reward, mask)

    alone = from_table(bandit(), reference=None, gamma=1.0)
    check(Loss(), alone, rows=2)
    with pytest.raises(AssertionError, match="Loss has not the gradient of J .*Only its length is wrong"):
        check(Loss(), alone, rows=2, weight=3.0)


def test_every_name_that_a_loss_may_ask_for_is_filled():
    seen = {}

    def asks(**_):
        raise AssertionError

    def loss(*_, **given):
        seen.update({k: tuple(v.shape) for k, v in given.items() if isinstance(v, torch.Tensor)})
        seen.update({k: v for k, v in given.items() if not isinstance(v, torch.Tensor)})
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
    with pytest.raises(AssertionError, match="^Reinforce has not the gradient of J on five-states.*no gamma"):
        check(Reinforce, "five-states", rows=2)
    with pytest.raises(AssertionError, match="GRPO has not the gradient of J"):
        check(GRPO, "prompts", rows=2)
    for page in (PPO, A2C):
        with pytest.raises(AssertionError, match=f"{page.__name__} has not the gradient"):
            check(page, "five-states", rows=2)


def end_masked(log_pi, reward, mask, action):
    return right(log_pi, reward, mask & (action != 0))


def by_the_padded_length(log_pi, reward, mask):
    return right(log_pi, reward, mask) / mask.shape[-1]


def by_its_own_length(log_pi, reward, mask):
    return -(score_of(log_pi, mask) / mask.sum(-1) * others(reward)).mean()


def by_the_batchs_length(log_pi, reward, mask):
    return -(score_of(log_pi, mask) * others(reward)).sum() / mask.sum()


def wrong_sign(log_pi, reward, mask):
    return -right(log_pi, reward, mask)


def own_mean(log_pi, reward, mask):
    return -(score_of(log_pi, mask) * psi.group_mean(reward.sum(-1))).mean()


def a_sum(log_pi, reward, mask):
    return right(log_pi, reward, mask) * len(mask)


def divided_twice(log_pi, reward, mask):
    return right(log_pi, reward, mask) / len(mask)


def detached(log_pi, reward, mask):
    return right(log_pi.detach(), reward, mask)


def no_mask(log_pi, reward):
    return -(log_pi.sum(-1) * others(reward)).mean()


def shifted(log_pi, reward, mask):
    return right(log_pi.roll(1, -1), reward, mask)


PLANTED = {
    end_masked: ("No gradient ever reaches the end token: is it masked?", 3),
    by_the_padded_length: ("Only its length is wrong: .*a division by the longest length", 2),
    by_its_own_length: (
        r"cosine 0.9\d+, scale 0.\d+ \(all 3,375 batches of 3\)\. Furthest off, on the logits: after",
        3,
    ),
    by_the_batchs_length: (r"cosine 0.99\d+, scale 0.4\d+", 3),
    wrong_sign: ("cosine -1.0000, scale -1.0000.*The sign is wrong: a loss is minimised", 2),
    own_mean: ("scale 0.6667.*Only its length is wrong: a mean that holds the row itself", 3),
    a_sum: ("scale 3.0000.*Only its length is wrong: a sum over rows, not a mean", 3),
    divided_twice: ("scale 0.5000.*Only its length is wrong: .*one division by the rows too many", 2),
    detached: ("Its expected gradient is zero: is something detached, under no_grad, or k1 in the loss", 2),
    no_mask: ("no_mask has not the gradient of J on sequences: relative bias 0", 2),
    shifted: ("shifted has not the gradient of J on sequences: relative bias", 2),
}


@pytest.mark.parametrize("loss", PLANTED, ids=lambda x: x.__name__)
def test_a_planted_fault_is_refused_in_the_right_words(loss):
    words, rows = PLANTED[loss]
    with pytest.raises(AssertionError, match=words) as refused:
        check(loss, rows=rows)
    said = str(refused.value)
    assert said.startswith(f"{loss.__name__} has not the gradient of J on sequences: relative bias ")
    assert "Furthest off, on the logits: after [" in said and "\n" not in said
    assert ("is it masked" in said) is (loss is end_masked)


def test_at_two_rows_a_half_may_be_either_and_both_are_named():
    for loss in (own_mean, divided_twice):
        with pytest.raises(
            AssertionError, match="a mean that holds the row itself, or one division by the rows too many"
        ):
            check(loss, rows=2)


def test_no_gamma_to_the_t_is_named_and_accepted_where_it_is_meant():
    def to_go(log_pi, reward, mask, gamma):
        return -torch.where(mask, log_pi * psi.reward_to_go(reward, ~mask, gamma), 0.0).sum(-1).mean()

    with pytest.raises(AssertionError, match="It is the gradient of J, no gamma") as refused:
        check(to_go, "five-states", rows=2)
    assert "state 3, action 0" in str(refused.value)
    check(to_go, "five-states", rows=2, from_start=False)
    with pytest.raises(AssertionError, match="It is the gradient of J at gamma 1"):
        check(to_go, "five-states", rows=2, gamma=1.0)
    with pytest.raises(
        AssertionError, match="discounted has not the gradient of J, no gamma.*It is the gradient of J[.]"
    ):
        check(discounted, "five-states", rows=2, from_start=False)


def kl_no_grad(log_pi, log_ref, reward, mask):
    with torch.no_grad():
        penalty = torch.where(mask, log_pi - log_ref, 0.0).sum(-1).mean()
    return right(log_pi, reward, mask) + 0.1 * penalty


def kl_k1(log_pi, log_ref, reward, mask):
    return right(log_pi, reward, mask) + 0.1 * torch.where(mask, log_pi - log_ref, 0.0).sum(-1).mean()


def kl_k2(log_pi, log_ref, reward, mask):
    return right(log_pi, reward, mask) + 0.1 * torch.where(mask, (log_pi - log_ref) ** 2 / 2, 0.0).sum(-1).mean()


def kl_in_the_reward(log_pi, log_pi_old, log_ref, reward, mask):
    return right(log_pi, torch.where(mask, reward - 0.1 * (log_pi_old - log_ref), 0.0), mask)


def test_a_kl_under_no_grad_and_one_in_the_wrong_place_are_told_from_a_right_one():
    check(kl_in_the_reward, kl=0.1, rows=2)
    for loss in (kl_no_grad, kl_k1):
        with pytest.raises(AssertionError, match=r"the gradient of J alone: the KL adds nothing \(no_grad, or k1"):
            check(loss, kl=0.1, rows=2)
        check(loss, rows=2)  # of J without a KL it has the gradient
    with pytest.raises(AssertionError, match="It is the gradient of J - KL per action"):
        check(kl_k2, kl=0.1, rows=2)
    with pytest.raises(AssertionError, match="kl_in_the_reward has not the gradient of J - KL of episodes"):
        check(kl_in_the_reward, kl=0.2, rows=2)


def test_another_policys_actions_need_the_ratio_of_whole_episodes():
    drifted = changed(find("sequences"), drift=0.5)

    def weighted(log_pi, log_pi_old, reward, mask):
        return -(score_of(log_pi - log_pi_old, mask).exp() * others(reward)).mean()

    with pytest.raises(AssertionError, match="right has not the gradient"):
        check(right, drifted, rows=2)
    with pytest.raises(AssertionError, match="weighted has not the gradient"):
        check(weighted, drifted, rows=2)  # the other rows' mean is that of the other policy: times a ratio of mean 1...
    check(lambda log_pi, log_pi_old, reward, mask: -(score_of(log_pi - log_pi_old, mask).exp() * reward.sum(-1)).mean(), drifted, rows=2)  # fmt: skip


def test_what_is_too_large_is_refused_or_measured_with_its_interval():
    with pytest.raises(LogpiError, match="gridworld has about 10.* are too many to enumerate"):
        check(discounted, "gridworld")
    small = changed(find("gridworld"), limit=12)
    found = check(discounted, small, rows=8, samples=1000)
    assert found.measured and found.batches == 1000
    with pytest.raises(AssertionError, match="has not the gradient of J on gridworld.*1,000 drawn batches of 8"):
        check(lambda log_pi, reward, mask, gamma: -discounted(log_pi, reward, mask, gamma), small, rows=8, samples=1000)


def test_a_loss_that_returns_no_number_is_refused():
    for loss, said in (
        (lambda log_pi: log_pi.sum(-1), r"returned \[2\]: a loss is one number"),
        (lambda log_pi: 0.0, "returned float: a loss is one number"),
        (lambda action: action.sum(), r"returned \[\]: a loss is one number, a float tensor"),
    ):
        with pytest.raises(LogpiError, match=said):
            check(loss, rows=2)


def test_a_name_that_nothing_has_is_refused_and_the_nearest_named():
    with pytest.raises(LogpiError, match="wrong asks for 'logpi', which no batch has. Did you mean log_pi"):

        def wrong(logpi, reward):
            return logpi.sum()

        check(wrong)
    with pytest.raises(LogpiError, match="right was given betta, for which it does not ask"):
        check(right, betta=0.1)
    with pytest.raises(LogpiError, match="int is not a function: an estimator is a loss, or a method page"):
        check(3)
    with pytest.raises(LogpiError, match="kl_k1 asks for log_ref: this problem has no reference policy, use sequences"):
        check(kl_k1, from_table(bandit(), reference=None))
    with pytest.raises(LogpiError, match="rows is 0: a batch has 1 episode or more"):
        check(right, rows=0)


def test_a_page_of_another_discount_or_without_its_reference_is_refused():
    with pytest.raises(LogpiError, match="gamma of Reinforce is 0.99, that of five-states is 0.9: give both the same"):
        check(Reinforce(), "five-states")
    with pytest.raises(LogpiError, match="RLOO has a KL to a reference policy, which your table has not"):
        check(RLOO(kl=0.1), from_table(five_states(), gamma=1.0, reference=None))


def test_a_process_that_is_over_before_it_begins_or_sums_to_no_one_is_refused():
    table = bandit()
    with pytest.raises(LogpiError, match="over at every start"):
        check(right, Table(table.P, table.R, table.start.flip(0), table.terminal, 1), rows=2)
    with pytest.raises(LogpiError, match="sums to 0.5"):
        check(right, Table(table.P / 2, table.R, table.start, table.terminal, 1))


def test_where_the_truth_is_zero_the_gap_itself_is_judged():
    """Equal rewards: nothing is to be learnt, and a loss that learns nothing is right."""
    flat = from_table(bandit((1.0, 1.0, 1.0)), gamma=1.0)
    check(right, flat, rows=2)
    with pytest.raises(AssertionError, match="relative bias nan"):
        check(lambda logits: logits[..., 0].mean(), flat, rows=2)


def test_a_loss_that_fails_says_how_itself():
    with pytest.raises(RuntimeError, match="size of tensor"):
        check(lambda log_pi, reward: (log_pi[:, :2] * reward).sum(), rows=2)
    with pytest.raises(LogpiError, match="mine"):

        def refuses(log_pi):
            raise LogpiError("mine")

        check(refuses, rows=2)
