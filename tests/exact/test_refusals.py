"""What cannot be judged is refused in one sentence, never passed: NaN, chance, losses that fail, problems that do not fit."""

from functools import partial

import pytest
import torch
from torch import nn

from logpi.envs.tabular import Table
from logpi.errors import LogpiError
from logpi.exact import Choice, check, find, from_table
from logpi.exact.problems import changed, five_states, linear, softmax

F64 = torch.float64


def score(log_pi, reward, mask):
    return -torch.where(mask, log_pi * reward.sum(-1, keepdim=True), 0.0).sum(-1).mean()


def over_their_std(log_pi, reward, mask):
    ret = reward.sum(-1)
    return -torch.where(mask, log_pi * ((ret - ret.mean()) / ret.std())[:, None], 0.0).sum(-1).mean()


def no_number(log_pi, mask):
    return torch.where(mask, log_pi, 0.0).sum() * float("nan")


@pytest.mark.parametrize("loss", [over_their_std, no_number], ids=lambda f: f.__name__)
@pytest.mark.parametrize("samples", [0, 100])
def test_a_gradient_that_is_not_finite_never_passes(loss, samples):
    problem = find("sequences") if not samples else changed(find("chain"), gamma=1.0, limit=30)
    with pytest.raises(LogpiError, match="not finite on some batches: look for a division by 0"):
        check(loss, problem, samples=samples)


def test_a_loss_that_draws_is_refused_and_one_that_fails_tells_how():
    with pytest.raises(LogpiError, match="draws random numbers"):
        check(lambda log_pi, mask: (torch.randn(log_pi.shape) * log_pi).sum(), rows=2)
    with pytest.raises(LogpiError, match=r"raised KeyError: 'x' \(--debug shows where\)"):
        check(lambda log_pi: {}["x"], rows=2)

    def steps_itself(log_pi, mask):
        loss = torch.where(mask, log_pi, 0.0).sum()
        loss.backward()
        return loss

    with pytest.raises(LogpiError, match="return the loss, do not call backward"):
        check(steps_itself, rows=2)


class Scaled:
    def __call__(self, log_pi, reward, mask):
        return score(log_pi, reward, mask)


def everything(**given):
    return score(given["log_pi"], given["reward"], given["mask"])


def with_a_factor(log_pi, reward, mask, factor):
    return factor * score(log_pi, reward, mask)


def changing_what_it_is_given(log_pi, reward, mask):
    reward *= 0.5
    log_pi.detach().sum().item()  # which vmap cannot do: the loss runs a second time
    return 2 * score(log_pi, reward, mask)


@pytest.mark.parametrize("loss", [Scaled(), everything, partial(with_a_factor, factor=1.0), changing_what_it_is_given])
def test_a_right_loss_passes_in_whatever_form(loss):
    check(loss, rows=2)


def test_what_is_no_loss_is_refused():
    with pytest.raises(LogpiError, match="Scaled is a class: pass an instance"):
        check(Scaled)
    with pytest.raises(LogpiError, match="takes log_pi by position only"):
        check(lambda log_pi, /: log_pi.sum())
    with pytest.raises(AssertionError, match="with_a_factor does not have the gradient"):
        check(partial(with_a_factor, factor=2.0), rows=2)


def test_options_that_nobody_asks_for_are_refused():
    with pytest.raises(LogpiError, match="was given tolerence, for which it does not ask"):
        check(score, tolerence=1.0)
    with pytest.raises(LogpiError, match="Nobody asks for tolerence"):
        check(Choice(), tolerence=1.0)
    with pytest.raises(LogpiError, match="samples is 3: draw 40 batches or more"):
        check(score, samples=3)


def test_a_wrong_critic_shows_only_where_it_is_asked_for():
    td = Choice(psi="td", gamma=0.9)
    check(td, "five-states")
    with pytest.raises(AssertionError, match="relative bias 0.0"):
        check(td, "five-states", critic_error=0.5)
    check(Choice(gamma=0.9), "five-states", critic_error=0.5, hidden=(4,))


def test_a_true_critic_is_true_where_the_limit_cuts_too():
    for psi in ("td", "q", "advantage", "gae"):
        check(Choice(psi=psi, gamma=0.9), changed(find("chain"), limit=5), rows=1)


def test_float32_is_called_rounding():
    with pytest.raises(AssertionError, match="That much is rounding"):
        check(lambda log_pi, reward, mask: score(log_pi.float(), reward.float(), mask), rows=3)


def test_a_table_that_cannot_be_is_refused():
    table = five_states()
    with pytest.raises(LogpiError, match="R of the table holds NaN or infinity"):
        Table(table.P, table.R * float("nan"), table.start, table.terminal)
    with pytest.raises(LogpiError, match="limit of the table is 0"):
        Table(table.P, table.R, table.start, table.terminal, 0)


def test_a_policy_on_features_is_judged_and_a_reference_that_does_not_fit_them_is_refused():
    features = torch.randn(6, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    policy = softmax(nn.Linear(3, 2, dtype=F64), 2)
    problem = from_table(five_states(), policy=policy, obs=features)
    assert problem.jacobian.shape == (6, 2, 8) and problem.reference is None
    for psi in ("total", "to_go", "td"):
        check(Choice(psi=psi, gamma=0.9), problem, rows=1)
    with pytest.raises(
        LogpiError, match=r"The reference of your table must give float64 logits \[6, 2\] from obs \[6, 3\]"
    ):
        from_table(five_states(), policy=policy, obs=features, reference=linear(torch.zeros(6, 2, dtype=F64)))
    with pytest.raises(LogpiError, match=r"The policy of your table must give float64 logits"):
        from_table(five_states(), obs=features)
