"""What a native environment draws after a seeded start has nothing to do with that start."""

import torch

from logpi.envs.cartpole import CartPole
from logpi.envs.tabular import Table, Tabular


def test_the_first_transition_does_not_reuse_the_random_number_of_the_start():
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    table = Table(
        third.expand(3, 1, 3).clone(), torch.zeros(3, 1, dtype=torch.float64), third, torch.zeros(3, dtype=torch.bool)
    )
    same = 0
    for seed in range(300):
        env = Tabular(1, table)
        first = env.reset([seed])
        same += int(torch.equal(env.step(torch.zeros(1, dtype=torch.long)).final, first))
    assert 70 < same < 130  # a third of 300; the same stream would give 300


def test_a_fresh_start_is_not_a_seeded_one_again():
    env = CartPole(2)
    seeded = env.reset([1, 2]).clone()
    assert not torch.isclose(env.reset(None)[:, None], seeded[None]).all(-1).any()
