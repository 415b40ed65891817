"""What an environment cannot be made with is told in one sentence: options, wrappers, backends, of each kind of environment."""

from typing import Any

import pytest
import torch
from gymnasium import spaces

from logpi import LogpiError, envs
from logpi.methods import GRPO
from logpi.run.setup import Settings, assemble

FLAT = "gymnasium.wrappers:FlattenObservation"


def refusal(env: Any, backend: Any = "auto", options: Any = (), wrap: Any = (), masks: str = "obs") -> str:
    with pytest.raises(LogpiError) as said:
        envs.make(envs.construction(env, options, wrap, masks), 2, backend)
    return str(said.value)


def test_a_native_environment_that_is_asked_for_is_named() -> None:
    assert refusal("LunarLander-v3", "native").startswith("There is no native LunarLander-v3: use --backend auto.")
    said = refusal("CartPole-v1", "native", wrap=[FLAT])
    assert said == "A native CartPole-v1 has no --wrap, --env-options or --masks info: use --backend auto."
    assert refusal("CartPole-v1", "natif") == "There is no backend 'natif'. Did you mean native?"


@pytest.mark.parametrize(
    "how", [{"wrap": [FLAT]}, {"backend": "sync"}, {"options": ["n=5"]}, {"masks": "info"}], ids=str
)
@pytest.mark.parametrize("env", ["CartPoleNoVel-v1", "Chain"])
def test_what_is_there_in_tensors_alone_says_so(env: str, how: dict[str, Any]) -> None:
    around = "--wrap, --env-options, --masks info and other backends"
    assert refusal(env, **how) == f"{env} is there in tensors alone, --backend native: leave away {around}."


def test_whatever_a_constructor_raises_is_told() -> None:
    said = refusal("FrozenLake-v1", options=["map_name=9x9"])
    assert said == "The environment could not be made: KeyError: '9x9'."


class Sim:
    """Shows zeros, in tensors."""

    tensors = True
    observation_space: spaces.Space = spaces.Box(-9, 9, (2,))
    action_space: spaces.Space = spaces.Discrete(2)

    def __init__(self, n: int, device: str, dtype: torch.dtype) -> None:
        self.n = n

    def reset(self, seeds: Any = None) -> torch.Tensor:
        return torch.zeros(self.n, 2)

    def step(self, action: torch.Tensor) -> Any:
        self.taken, no = action, torch.zeros(self.n, dtype=torch.bool)
        return self.reset(), self.reset(), torch.zeros(self.n), no, ~no


@pytest.mark.parametrize("how", [{"wrap": [FLAT]}, {"masks": "info"}, {"backend": "async"}], ids=str)
def test_environments_in_tensors_have_nothing_around_them(how: dict[str, Any]) -> None:
    said = refusal(Sim, **how)
    assert said == "Sim steps in tensors by itself: leave away --wrap, --masks info and --backend."


def test_environments_in_tensors_show_vectors_or_pictures() -> None:
    for space in (spaces.Discrete(5), spaces.Box(-1, 1, (4, 4)), spaces.Dict({"x": spaces.Box(-1, 1, (2,))})):
        kind = type("Shown", (Sim,), {"observation_space": space})
        assert refusal(kind).endswith("environments in tensors show a Box of one axis, or a picture.")
    assert refusal(Sim, options=["gain=2"]).startswith("The environment could not be made: TypeError: ")


def test_an_action_of_several_parts_comes_to_tensors_as_one_vector() -> None:
    parts = spaces.Dict({"kind": spaces.Discrete(3), "force": spaces.Box(-1, 1, (2,))})
    kind = type("Hybrid", (Sim,), {"action_space": parts})
    made = assemble(GRPO(starts=2, group=2), Settings(env="custom"), kind)
    made.collect(made.policy, None)
    assert made.collect.envs.made.taken.shape == (4, 3)


def test_envpool_tells_its_own_limits() -> None:
    pytest.importorskip("envpool")
    said = refusal("CartPole-v1", "envpool", ["nonsense=1"])
    assert said.startswith("The environment could not be made: ") and "nonsense" in said
    with pytest.raises(LogpiError, match="envpool cannot start two environments from one seed: use a method without"):
        assemble(GRPO(starts=2, group=2), Settings(env="CartPole-v1", backend="envpool"))
    assert envs.make("CartPole-v1", 2, "envpool").backend == "envpool"
