"""The native CartPole is Gymnasium's: its dynamics, its ends, its time limit and its starts."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from logpi import envs
from logpi.envs.cartpole import CartPole

THETA = 12 * np.pi / 180


def twins(n: int) -> list[gym.Env]:
    made = [gym.make("CartPole-v1").unwrapped for _ in range(n)]
    for env in made:
        env.reset(seed=0)
    return made


def balance(obs: Tensor) -> Tensor:
    """A controller that never falls."""
    return (obs @ torch.tensor([0.05, 0.2, 1.0, 0.5], dtype=obs.dtype) > 0).long()


def test_the_dynamics_are_gymnasiums_step_for_step_in_float64() -> None:
    n, generator = 8, torch.Generator().manual_seed(1)
    ours, theirs = CartPole(n, dtype=torch.float64), twins(n)
    obs, terminations = ours.reset(list(range(n))), 0
    for row, env in enumerate(theirs):
        env.state = tuple(obs[row].tolist())
    for _ in range(1000):
        action = torch.randint(2, (n,), generator=generator)
        step = ours.step(action)
        terminations += int(step.terminated.sum())
        for row, env in enumerate(theirs):
            _, reward, terminated, _, _ = env.step(int(action[row]))
            np.testing.assert_allclose(step.final[row].numpy(), np.asarray(env.state, np.float64), rtol=0, atol=1e-12)
            assert (float(step.reward[row]), bool(step.terminated[row])) == (reward, terminated)
            if terminated:
                env.reset()
                env.state = tuple(step.obs[row].tolist())
    assert terminations > 200


@pytest.mark.parametrize(
    ("state", "action", "falls"),
    [
        ((2.39, 1.0, 0.0, 0.0), 1, True),
        ((-2.39, -1.0, 0.0, 0.0), 0, True),
        ((2.39, -1.0, 0.0, 0.0), 1, False),
        ((0.0, 0.0, THETA - 1e-3, 1.0), 0, True),
        ((0.0, 0.0, 1e-3 - THETA, -1.0), 1, True),
        ((0.0, 0.0, THETA - 1e-3, -1.0), 0, False),
    ],
)
def test_it_ends_where_gymnasium_does(state: tuple[float, ...], action: int, falls: bool) -> None:
    ours, (theirs,) = CartPole(1, dtype=torch.float64), twins(1)
    ours.s, theirs.state = torch.tensor(state, dtype=torch.float64)[:, None], state
    terminated = bool(ours.step(torch.tensor([action])).terminated)
    assert terminated == theirs.step(action)[2] == falls


def test_the_500th_step_truncates_and_is_no_termination() -> None:
    made = CartPole(3)
    obs = made.reset([1, 2, 3])
    for t in range(1, 1001):
        step = made.step(balance(obs))
        assert step.truncated.tolist() == [t % 500 == 0] * 3 and not step.terminated.any()
        if t % 500 == 0:
            assert (step.obs.abs() <= 0.05).all() and not torch.equal(step.obs, step.final)
        else:
            assert torch.equal(step.obs, step.final)
        obs = step.obs


def test_a_row_that_falls_starts_its_500_steps_again() -> None:
    made = CartPole(2)
    obs = made.reset([1, 2])
    falls = next(t for t in range(1, 200) if made.step(torch.tensor([1, int(balance(made.s.T)[1])])).terminated[0])
    del obs
    ends = {}
    for t in range(falls + 1, falls + 501):
        for row in made.step(balance(made.s.T)).truncated.nonzero()[:, 0].tolist():
            ends[row] = t
    assert ends == {0: falls + 500, 1: 500}


def fresh_starts(made: CartPole) -> Tensor:
    """The starts after an automatic reset."""
    made.reset()
    made.age = torch.full_like(made.age, 499)
    return made.step(torch.zeros(made.n, dtype=torch.long)).obs


@pytest.mark.parametrize("how", ["reset", "seeds", "automatic"])
def test_starts_are_uniform_within_a_twentieth(how: str) -> None:
    n = 20_000 if how != "seeds" else 2_000
    made = CartPole(n, dtype=torch.float64)
    starts = {
        "reset": lambda: made.reset(),
        "seeds": lambda: made.reset(list(range(n))),
        "automatic": lambda: fresh_starts(made),
    }
    x = starts[how]()
    assert x.shape == (n, 4) and x.abs().max() <= 0.05
    for column in x.T:  # Kolmogorov-Smirnov at 1 in 10^6
        u = column.sort().values * 10 + 0.5
        assert (u - torch.linspace(0, 1, n, dtype=torch.float64)).abs().max() < 2.7 / n**0.5
    assert x.T.corrcoef().fill_diagonal_(0).abs().max() < 5 / n**0.5


def test_spaces_are_gymnasiums() -> None:
    theirs = gym.make("CartPole-v1")
    ours = CartPole(1)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space


@pytest.mark.parametrize("backend", ["native", "sync", "vector"])
def test_equal_seeds_give_equal_starts(backend: str) -> None:
    one, two = (envs.make("CartPole-v1", 3, backend) for _ in range(2))
    assert one.backend == backend
    first = one.reset([5, 6, 7])
    one.step(torch.ones(3, dtype=torch.long))
    assert torch.equal(one.reset([5, 6, 7]), first) and torch.equal(two.reset([5, 6, 7]), first)
    assert not torch.equal(two.reset([8, 9, 10]), first) and len(first.unique(dim=0)) == 3
    if backend != "vector":
        same = one.reset([5, 5, 6])
        assert torch.equal(same[0], same[1]) and torch.equal(same[0], first[0]) and torch.equal(same[2], first[1])


def test_vector_environments_refuse_equal_seeds_in_a_sentence() -> None:
    made = envs.make("CartPole-v1", 2, "vector")
    with pytest.raises(
        envs.LogpiError, match="cannot start two environments from one seed: use --backend sync"
    ) as said:
        made.reset([3, 3])
    assert "\n" not in str(said.value)
    assert envs.make("CartPole-v1", 2).backend == "native"


def test_a_state_put_back_goes_on_bit_for_bit() -> None:
    made, other = CartPole(4), CartPole(4)
    made.reset([1, 2, 3, 4])
    actions = torch.randint(2, (80, 4), generator=torch.Generator().manual_seed(0))
    for action in actions[:30]:
        made.step(action)
    other.load_state({k: v.clone() for k, v in made.state().items()})
    ends = 0
    for action in actions[30:]:
        one, two = made.step(action), other.step(action)
        assert all(torch.equal(x, y) for x, y in zip(one[:5], two[:5], strict=True))
        ends += int(one.terminated.sum())
    assert ends > 4
