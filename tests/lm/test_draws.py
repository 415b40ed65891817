"""Chance that depends on a row's seed and a position alone."""

import torch

from logpi.lm.draws import seeds_for, uniform


def splitmix(seed: int, number: int) -> float:
    """SplitMix64 in Python's own integers."""
    whole = 2**64 - 1
    x = (seed + (number + 1) * 0x9E3779B97F4A7C15) & whole
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & whole
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & whole
    return ((x ^ (x >> 31)) >> 11) * 2.0**-53


def test_numbers_are_those_of_splitmix64():
    seeds = torch.tensor([0, 1, 12345, 2**62 - 1, 2**63 - 1])
    for number in (0, 1, 7, 1000):
        assert uniform(seeds, number).tolist() == [splitmix(s, number) for s in seeds.tolist()]


def test_seeds_that_follow_each_other_draw_evenly_and_independently():
    drawn = torch.stack([uniform(torch.arange(4096), t) for t in range(16)])
    counts = torch.histc(drawn, 64, 0, 1)
    chi = float(((counts - 1024) ** 2 / 1024).sum())
    assert chi < 110, f"63 degrees of freedom: {chi}"  # 1 in 4,000 at random
    both = torch.corrcoef(drawn).fill_diagonal_(0).abs().max()
    assert both < 5 / 4096**0.5


def test_a_row_draws_the_same_in_any_company():
    seeds = seeds_for(32, torch.Generator().manual_seed(3))
    alone = torch.stack([uniform(seeds[k : k + 1], 5)[0] for k in range(32)])
    assert torch.equal(alone, uniform(seeds, 5))
