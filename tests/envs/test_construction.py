"""Environments with options, in wrappers, with a mask in their info; in tensors of the user's own; of envpool."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import logpi
from logpi import LogpiError, envs
from logpi.envs.pool import Pool
from logpi.envs.tensors import Tensors
from logpi.loop import loop
from logpi.methods import A2C, PPO
from logpi.run.setup import Settings, assemble

WRAP = """
import gymnasium
import numpy as np

class Doubled(gymnasium.ObservationWrapper):
    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, env.observation_space.shape)
    def observation(self, obs):
        return np.float32(2) * obs

class Shifted(Doubled):
    def observation(self, obs):
        return obs + np.float32(1)
"""


@pytest.fixture
def wrappers(tmp_path: Path) -> Path:
    (tmp_path / "wrap.py").write_text(WRAP)
    return tmp_path / "wrap.py"


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_wrappers_stand_around_an_environment_the_first_innermost(backend: Any, wrappers: Path) -> None:
    asked = envs.construction("CartPole-v1", wrap=[f"{wrappers}:Doubled", f"{wrappers}:Shifted"])
    made, bare = envs.make(asked, 2, backend), envs.make("CartPole-v1", 2, "sync")
    np.testing.assert_allclose(made.reset([3, 4]).numpy(), 2 * bare.reset([3, 4]).numpy() + 1)
    made.close()
    assert envs.make(asked, 2).backend == "sync", "a native or a vector environment has no wrappers"


def test_a_gymnasium_wrapper_is_named_by_its_module() -> None:
    asked = envs.construction("CartPole-v1", wrap=["gymnasium.wrappers:FlattenObservation"])
    assert envs.make(asked, 1).reset([1]).shape == (1, 4)


def test_options_are_the_constructors_keywords() -> None:
    slippery, firm = (envs.make(envs.construction("FrozenLake-v1", [f"is_slippery={x}"]), 1) for x in ("true", "false"))
    ends = []
    for made in (slippery, firm):
        rows = []
        for seed in range(20):
            made.reset([seed])
            rows.append([int(made.step(torch.tensor([a])).obs.argmax()) for a in (1, 1, 2)])
        ends.append({tuple(row) for row in rows})
    assert len(ends[0]) > 3 and ends[1] == {(4, 8, 9)}
    with pytest.raises(LogpiError, match="could not be made"):
        envs.make(envs.construction("FrozenLake-v1", ["nonsense=1"]), 1)
    for text, value in (("a=1", 1), ("a=x y", "x y"), ("a=[1, 2]", [1, 2]), ("a=1e-3", 1e-3)):
        assert envs.construction("FrozenLake-v1", [text]).options == (("a", value),)


class Told(gym.Env):
    """Tells in its info which of four actions are allowed, and fails on any other."""

    observation_space, action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(4)
    silent = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._now()

    def _now(self) -> tuple[Any, dict]:
        self.allowed = np.zeros(4, np.int8)
        self.allowed[self.np_random.integers(4)] = 1
        return np.zeros(2, np.float32), {} if self.silent else {"action_mask": self.allowed}

    def step(self, action: Any) -> Any:
        assert self.allowed[action], "not allowed"
        self.t += 1
        obs, info = self._now()
        return obs, 1.0, self.t == 5, False, info


class Silent(Told):
    silent = True


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_a_mask_in_the_info_rules_actions_out(backend: Any) -> None:
    settings = Settings(env="custom", masks="info", backend=backend, workers=1 if backend == "async" else None)
    parts = assemble(PPO(envs=4, length=30, epochs=1), settings, Told)
    for _, record in zip(range(3), loop(parts), strict=False):
        assert (
            bool(record.batch.mask.all()) and record["entropy"] == 0.0 and float(record.batch.log_pi.abs().max()) == 0.0
        )
    parts.collect.envs.close()


def test_masks_that_are_not_told_or_allow_nothing_are_named() -> None:
    with pytest.raises(LogpiError, match="its info has no action_mask, which --masks info reads"):
        assemble(PPO(envs=2), Settings(env="custom", masks="info"), Silent)
    with pytest.raises(LogpiError, match="has none"):
        assemble(PPO(envs=2), Settings(env="Pendulum-v1", masks="info"))

    class Nothing(Told):
        def _now(self) -> tuple[Any, dict]:
            return np.zeros(2, np.float32), {"action_mask": np.zeros(4)}

    with pytest.raises(LogpiError, match="an action_mask that allows nothing from reset: expected is one action"):
        assemble(PPO(envs=2), Settings(env="custom", masks="info"), Nothing)


class Sim:
    """n points in tensors: go to 0."""

    tensors = True
    observation_space, action_space = spaces.Box(-9, 9, (2,), np.float32), spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, n: int, device: str, dtype: torch.dtype, gain: float = 0.5) -> None:
        self.n, self.device, self.dtype, self.gain = n, device, dtype, gain
        self.draw = torch.Generator(device)

    def reset(self, seeds: Any = None) -> torch.Tensor:
        self.draw.manual_seed(0 if seeds is None else seeds[0])
        self.s, self.t = self._fresh(), torch.zeros(self.n, dtype=torch.long)
        return self.s

    def _fresh(self) -> torch.Tensor:
        return torch.rand(self.n, 2, generator=self.draw, dtype=self.dtype) * 2 - 1

    def step(self, action: torch.Tensor) -> Any:
        final, self.t = self.s + self.gain * action, self.t + 1
        truncated = self.t >= 8
        self.s = torch.where(truncated[:, None], self._fresh(), final)
        self.t = torch.where(truncated, 0, self.t)
        return self.s, final, -final.abs().sum(1), torch.zeros_like(truncated), truncated

    def state(self) -> dict[str, Any]:
        return {"s": self.s, "t": self.t, "draw": self.draw.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.s, self.t = state["s"], state["t"]
        self.draw.set_state(state["draw"])


def test_a_simulator_in_tensors_trains_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    how = {"env": "custom", "steps": 4000, "normalise_reward": False, "seed": 2}
    page = A2C(envs=16, length=10, lr=0.01, anneal=False)
    whole = assemble(page, Settings(**how), Sim)
    assert isinstance(whole.collect.envs, Tensors) and whole.collect.envs.backend == "tensors"
    rows = [record["return"] for record in loop(whole)]
    assert rows[-1] > rows[2] + 2
    first = assemble(page, Settings(**how), Sim)
    *_, record = (x for _, x in zip(range(7), loop(first), strict=False))
    folder = record.save(tmp_path)
    rest = [record["return"] for record in logpi.resume(folder, method=page, env=Sim)]
    assert rest == rows[7:]


def test_its_options_and_its_mistakes_are_told() -> None:
    made = envs.make(envs.construction(Sim, ["gain=0.25"]), 3)  # type: ignore[arg-type]
    assert made.made.gain == 0.25

    class Half(Sim):
        def step(self, action: torch.Tensor) -> Any:
            return super().step(action)[:4]

    class Float(Sim):
        def step(self, action: torch.Tensor) -> Any:
            return *super().step(action)[:4], torch.zeros(self.n)

    class Short(Sim):
        def reset(self, seeds: Any = None) -> torch.Tensor:
            return super().reset(seeds)[:1]

    class Away(Sim):
        def reset(self, seeds: Any = None) -> torch.Tensor:
            return super().reset(seeds).to("meta")

    class Bare:
        tensors, observation_space = True, Sim.observation_space

        def __init__(self, n: int, device: str, dtype: torch.dtype) -> None: ...

    action = torch.zeros(3, 2)
    for kind, words in (
        (Half, r"Half.step gave 4 values: expected is \(obs, final, reward, terminated, truncated\)"),
        (Float, r"Float gave truncated as torch.float32 \(3,\): expected is a tensor torch.bool \(3,\)"),
        (Short, r"Short gave obs of reset as torch.float32 \(1, 2\)"),
        (Away, "Away gave obs of reset on meta: the run is on --device cpu"),
        (Bare, "Bare has no action_space: environments in tensors need"),
    ):
        with pytest.raises(LogpiError, match=words):
            wrong = envs.make(kind, 3)  # type: ignore[arg-type]
            wrong.reset([1, 2, 3])
            wrong.step(action)


def test_envpool_where_it_is_absent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(LogpiError, match="--backend envpool needs envpool: pip install"):
        envs.make("CartPole-v1", 2, "envpool")


def test_envpool_gives_true_final_observations_and_masks_its_dummy_steps() -> None:
    pytest.importorskip("envpool")
    made = envs.make("Pendulum-v1", 3, "envpool")
    obs = made.reset([5, 6, 7])
    assert isinstance(made.env, Pool) and torch.equal(envs.make("Pendulum-v1", 3, "envpool").reset([5, 6, 7]), obs)
    seen = []
    for _ in range(205):
        step = made.step(torch.zeros(3, 1))
        seen.append(step)
    last, dummy = seen[199], seen[200]
    assert bool(last.truncated.all()) and not last.terminated.any() and last.mask is None
    assert torch.equal(last.final, last.obs) and dummy.mask is not None and not dummy.mask.any()
    assert not torch.allclose(dummy.obs, last.final, atol=1e-2) and seen[201].mask is None


def test_envpool_learns_and_names_what_it_lacks() -> None:
    pytest.importorskip("envpool")
    parts = assemble(PPO(envs=8, length=64), Settings(env="CartPole-v1", backend="envpool", steps=30_000, seed=1))
    *_, last = loop(parts)
    assert last["return"] > 100 and not last.batch.mask.all(), "dummy steps are masked"
    with pytest.raises(LogpiError, match=r"envpool has no environment 'CartPole-v9'.*Did you mean CartPole-v"):
        envs.make("CartPole-v9", 2, "envpool")
    with pytest.raises(LogpiError, match="without wrappers"):
        envs.make(envs.construction("CartPole-v1", wrap=["gymnasium.wrappers:FlattenObservation"]), 2, "envpool")
