"""Learning curves with the twins and without them: ten seeds of each are one distribution, by the energy distance."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

import logpi
from logpi.fast.arrays import Arrays
from logpi.run import setup

SEEDS, STEPS, SHUFFLES = 10, 20_000, 2000


def curves(**given: Any) -> np.ndarray:
    """[seeds, iterations]: mean returns of PPO on CartPole-v1, 0 before the first episode has ended."""
    runs = [logpi.learn("ppo", "CartPole-v1", steps=STEPS, seed=seed, **given) for seed in range(SEEDS)]
    return np.nan_to_num([[record["return"] for record in run] for run in runs])


def chance_of(one: np.ndarray, other: np.ndarray) -> float:
    """How often as large an energy distance comes of exchanging the two curves of some seeds (Szekely and Rizzo 2013)."""
    every = np.concatenate([one, other])
    apart = np.linalg.norm(every[:, None] - every, axis=-1)
    draw = np.random.default_rng(0)

    def energy(side: np.ndarray) -> float:
        sides = np.concatenate([side, -side])
        return -float(sides @ apart @ sides)

    found, own = energy(np.ones(len(one))), [energy(draw.choice([-1.0, 1.0], len(one))) for _ in range(SHUFFLES)]
    return float(np.mean([x >= found for x in own]))


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return curves(fast="off")


def test_fused_runs_learn_as_plain_ones(plain: np.ndarray) -> None:
    assert chance_of(curves(), plain) > 0.2


def test_numpys_twins_learn_as_plain_runs(plain: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "twins", lambda policy, critic, joint, _: Arrays(policy, critic, joint))
    assert chance_of(curves(), plain) > 0.2


@pytest.mark.parametrize("planted", [{"epochs": 3}, {"minibatches": 2}, {"clip": 0.02}], ids=str)
def test_another_setting_is_another_distribution(plain: np.ndarray, planted: dict[str, Any]) -> None:
    assert chance_of(curves(**planted), plain) < 0.02
