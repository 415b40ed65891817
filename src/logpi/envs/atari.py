"""Atari games by ALE's own vector environment, with what the literature puts around them (Mnih et al. 2015; Machado et al. 2018).

84 x 84 grey, four frames of the last four, the maximum of two, up to 30 idle steps and FIRE at a start. Rewards come as they are:
`--clip-reward` learns from their signs. `ALE/<Game>-v5` repeats an action with probability 0.25 and ends with the game,
`<Game>NoFrameskip-v4` never repeats, and a life that is lost ends an episode, though not the game that is counted.
"""

from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from logpi.envs.gym import Gymnasium
from logpi.workers.work import cores

ENTRY = "ale_py.env:AtariEnv"


def is_atari(spec: EnvSpec) -> bool:
    return spec.entry_point == ENTRY and (spec.id.startswith("ALE/") or "NoFrameskip-v4" in spec.id)


def atari(spec: EnvSpec, n: int, options: dict[str, Any]) -> Gymnasium:
    """options: of `ale_py.vector_env.AtariVectorEnv`, over the ones above."""
    from ale_py.vector_env import AtariVectorEnv  # an extra

    asked = spec.kwargs | {
        "frameskip": 4,
        "reward_clipping": False,
        "life_loss_info": not spec.id.startswith("ALE/"),
        "num_threads": min(n, cores()),
        "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP,
    }
    given = asked | options
    return Gymnasium(AtariVectorEnv(num_envs=n, **given), lives=given["life_loss_info"])


def one(spec: EnvSpec, options: dict[str, Any], mode: str) -> gymnasium.Env:
    """A single game that shows the same and can be watched."""
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    kept = {"repeat_action_probability", "full_action_space", "max_num_frames_per_episode"}
    given = {"frameskip": 1} | {k: v for k, v in options.items() if k in kept}
    env = gymnasium.make(spec, disable_env_checker=True, render_mode=mode, **given)
    return FrameStackObservation(AtariPreprocessing(env, noop_max=options.get("noop_max", 30)), 4)
