"""One Atari game, seen as ALE's vector environment shows many: for a loop, for wrappers around it, and to be watched."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from logpi.errors import LogpiError, nearest

ATARI = "ale_py.env:AtariEnv"
OF_THE_GAME = (
    "repeat_action_probability",
    "full_action_space",
    "continuous",
    "continuous_action_threshold",
    "mode",
    "difficulty",
)
AROUND_IT = {
    "max_num_frames_per_episode": 108_000,
    "img_height": 84,
    "img_width": 84,
    "grayscale": True,
    "stack_num": 4,
    "frameskip": 4,
    "noop_max": 30,
    "use_fire_reset": True,
}
OF_THE_VECTOR = ("num_threads", "thread_affinity_offset")  # how many are stepped, which changes no number
ALWAYS = {"maxpool": True, "episodic_life": False, "reward_clipping": False}  # the vector environment may do otherwise


def is_atari(spec: EnvSpec, options: Mapping[str, Any]) -> bool:
    """Is it played in the literature's pictures? obs_type asks for ALE's own single environment, as it is."""
    named = spec.id.startswith("ALE/") or "NoFrameskip-v4" in spec.id
    return spec.entry_point == ATARI and named and "obs_type" not in spec.kwargs and "obs_type" not in options


def ends_with_a_life(spec: EnvSpec) -> bool:
    return not spec.id.startswith("ALE/")


@dataclass(frozen=True)
class Game:
    """Of Gymnasium's registry; options are those of `ale_py.vector_env.AtariVectorEnv`."""

    spec: EnvSpec

    def __call__(self, render_mode: str | None = None, **options: Any) -> gymnasium.Env:
        from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

        if options.pop("life_loss_info", ends_with_a_life(self.spec)):
            raise LogpiError(
                f"Only ALE's vector environment ends an episode of {self.spec.id} with a life: for a loop, groups or wrappers"
                " pass --env-options life_loss_info=false."
            )
        must_be_of_one(self.spec.id, options)
        own = {name: value for name, value in options.items() if name in OF_THE_GAME}
        seen = AROUND_IT | options
        alone = {"frameskip": 1, "max_num_frames_per_episode": 0}  # both are counted around it
        env = gymnasium.make(self.spec, disable_env_checker=True, render_mode=render_mode, **alone, **own)
        pictures = AtariPreprocessing(
            Start(env, seen["noop_max"], seen["use_fire_reset"], seen["max_num_frames_per_episode"]),
            noop_max=0,
            frame_skip=seen["frameskip"],
            screen_size=(seen["img_width"], seen["img_height"]),
            grayscale_obs=seen["grayscale"],
        )
        return FrameStackObservation(pictures, seen["stack_num"], padding_type="zero")


class Start(gymnasium.Wrapper):
    """A reset presses FIRE where the game has it, then idles: fewer than `idle` frames in all. `limit` frames follow."""

    def __init__(self, env: gymnasium.Env, idle: int, fire: bool, limit: int) -> None:
        super().__init__(env)
        self.limit, self.frames = limit, 0
        self.idle, self.fire = max(1, idle), fire and "FIRE" in env.unwrapped.get_action_meanings()  # type: ignore[attr-defined]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        from ale_py import Action

        obs, info = self.env.reset(seed=seed, options=options)
        ale: Any = self.env.unwrapped.ale  # type: ignore[attr-defined]
        if self.fire:
            ale.act(Action.FIRE)
        for _ in range(int(self.env.unwrapped.np_random.integers(self.idle)) - self.fire):
            ale.act(Action.NOOP)
            if ale.game_over():
                ale.reset_game()
        self.frames = 0
        return obs, info

    def step(self, action: Any) -> Any:
        obs, reward, terminated, _, info = self.env.step(action)
        self.frames += 1
        return obs, reward, terminated, not terminated and self.frames >= self.limit, info


def must_be_of_one(name: str, options: dict[str, Any]) -> None:
    """Refuse options that a single game does not have."""
    known = {*OF_THE_GAME, *AROUND_IT, *OF_THE_VECTOR}
    for option, value in options.items():
        if option not in known and ALWAYS.get(option, ...) != value:
            raise LogpiError(
                f"A single game of {name} has no option {option}={value}, which --backend vector may have.{nearest(option, known)}"
            )
