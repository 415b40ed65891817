"""Tabular environments step exactly the tables that the exact computations read."""

import pytest
import torch
from torch import Tensor

from logpi import envs
from logpi.envs.tabular import PAYOFF, RockPaperScissors, Table, Tabular, bandit, chain, gridworld
from logpi.errors import LogpiError

TABLES = {"bandit": bandit(), "chain": chain(5, 0.3), "gridworld": gridworld(3)}


def random_table() -> Table:
    g = torch.Generator().manual_seed(0)
    P = torch.rand(4, 3, 4, dtype=torch.float64, generator=g)
    start = torch.tensor([0.5, 0.2, 0.3, 0.0], dtype=torch.float64)
    reward = torch.randn(4, 3, dtype=torch.float64, generator=g)
    return Table(P / P.sum(-1, keepdim=True), reward, start, torch.tensor([False, False, False, True]), 6)


TABLES["random"] = random_table()


@pytest.mark.parametrize("name", TABLES)
def test_what_happens_is_what_the_table_says(name: str) -> None:
    table, n, g = TABLES[name], 4000, torch.Generator().manual_seed(3)
    made = Tabular(n, table, dtype=torch.float64)
    S, A = table.R.shape
    obs, counts, starts = made.reset(list(range(n))), torch.zeros(S, A, S, dtype=torch.float64), torch.zeros(S)
    age = torch.zeros(n, dtype=torch.long)
    for _ in range(60):
        action, s = torch.randint(A, (n,), generator=g), obs.argmax(-1)
        step = made.step(action)
        after, age = step.final.argmax(-1), age + 1
        counts.index_put_((s, action, after), torch.ones(n, dtype=torch.float64), accumulate=True)
        assert torch.equal(step.reward, table.R[s, action]) and torch.equal(step.terminated, table.terminal[after])
        assert torch.equal(step.truncated, (age == table.limit) & ~step.terminated)
        ended = step.terminated | step.truncated
        assert torch.equal(step.obs[~ended], step.final[~ended])
        starts += step.obs[ended].sum(0)
        obs, age = step.obs, torch.where(ended, 0, age)
    visits = counts.sum(-1, keepdim=True)
    sigma = (table.P * (1 - table.P) / visits.clamp(min=1)).sqrt()
    seen = (visits > 0).expand_as(counts)
    assert (visits[~table.terminal] > 500).all(), "every state that goes on must be visited"
    assert ((counts / visits.clamp(min=1) - table.P).abs() <= 5 * sigma + 1e-12)[seen].all()
    share = starts / starts.sum()
    assert ((share - table.start).abs() <= 5 * (table.start * (1 - table.start) / starts.sum()).sqrt() + 1e-12).all()


@pytest.mark.parametrize("seeds", [None, range(5000)])
def test_starts_are_the_tables(seeds: range | None) -> None:
    table = random_table()
    share = Tabular(5000, table).reset(None if seeds is None else list(seeds)).mean(0).double()
    assert ((share - table.start).abs() <= 5 * (table.start * (1 - table.start) / 5000).sqrt()).all()


def test_the_limit_truncates_an_episode_that_walks_into_a_wall() -> None:
    made = envs.make("Gridworld", 2)
    made.reset([0, 1])
    up = torch.zeros(2, dtype=torch.long)
    flags = [made.step(up)[3:5] for _ in range(100)]
    assert [bool(cut.all()) for _, cut in flags] == [t % 50 == 49 for t in range(100)]
    assert not any(bool(end.any()) for end, _ in flags)


def test_observations_are_one_hot_in_the_type_asked_for() -> None:
    obs = envs.make("Chain", 3, dtype=torch.float64).reset([1, 2, 3])
    assert obs.dtype == torch.float64 and obs.shape == (3, 7) and torch.equal(obs.argmax(-1), torch.full((3,), 3))
    assert torch.equal(obs.sum(-1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("what", ["P", "start"])
def test_a_table_without_probabilities_is_refused(what: str) -> None:
    table = random_table()
    fields = {"P": table.P, "R": table.R, "start": table.start, "terminal": table.terminal}
    with pytest.raises(LogpiError, match=f"{what}.* sums to 0.9: .* sums to 1"):
        Table(**fields | {what: fields[what] * 0.9})
    with pytest.raises(LogpiError, match=f"{what}.* has a probability of -"):
        Table(**fields | {what: 2 * fields[what] - fields[what].roll(1, -1)})


def test_a_table_of_shapes_that_do_not_fit_is_refused() -> None:
    table = random_table()
    with pytest.raises(LogpiError, match=r"R of the table is \(4, 2\): with P \(4, 3, 4\) it must be \(4, 3\)"):
        Table(table.P, table.R[:, :2], table.start, table.terminal)


def play(actions: Tensor) -> RockPaperScissors:
    made = RockPaperScissors(actions.shape[1])
    for action in actions:
        step = made.step(action)
        assert step.terminated.all() and not step.truncated.any()
    return made


@pytest.mark.parametrize("throw", [0, 1, 2])
def test_rock_paper_scissors_answers_a_biased_player(throw: int) -> None:
    always = torch.full((60, 50), throw)
    made = play(always)
    answer = int(PAYOFF[:, throw].argmax())  # what beats it
    assert int(made.opponent.argmax()) == answer and made.opponent[answer] > 0.9
    assert (made.step(always[0]).reward < -0.9).all(), "a player who can be read loses"
    counter = torch.full((50,), int(PAYOFF[:, answer].argmax()))
    assert (made.step(counter).reward > 0.8).all(), "and the opponent can be read, too, until he has watched"


def test_rock_paper_scissors_is_indifferent_to_the_uniform_player() -> None:
    made = play(torch.arange(3).repeat(60, 50))
    torch.testing.assert_close(made.opponent, torch.full((3,), 1 / 3, dtype=torch.float64))
    for throw in range(3):
        made.load_state(made.state() | {"ours": torch.full((3,), 1 / 3)})
        assert made.step(torch.full((150,), throw)).reward.abs().max() < 1e-6


def test_rock_paper_scissors_pays_by_what_came_before_not_by_this_throw() -> None:
    made = RockPaperScissors(4)
    assert made.step(torch.zeros(4, dtype=torch.long)).reward.abs().max() < 1e-6
    assert (made.step(torch.zeros(4, dtype=torch.long)).reward < 0).all()


def test_its_memory_is_part_of_its_state() -> None:
    made, other = play(torch.zeros(20, 4, dtype=torch.long)), RockPaperScissors(4)
    other.load_state(made.state())
    assert torch.equal(other.opponent, made.opponent)
