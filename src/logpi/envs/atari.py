"""Atari games by ALE's own vector environment, with what the literature puts around them (Mnih et al. 2015; Machado et al. 2018).

84 x 84 grey, four frames of the last four, the maximum of two, up to 30 idle steps and FIRE at a start. Rewards come as they are:
`--clip-reward` learns from their signs. `ALE/<Game>-v5` repeats an action with probability 0.25 and ends with the game,
`<Game>NoFrameskip-v4` never repeats, and a life that is lost ends an episode, though not the game that is counted.
A single one shows the same: `workers/game.py`.
"""

from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from logpi.envs.gym import Gymnasium
from logpi.workers.game import ends_with_a_life
from logpi.workers.work import cores


def atari(spec: EnvSpec, n: int, options: dict[str, Any]) -> Gymnasium:
    """options: of `ale_py.vector_env.AtariVectorEnv`, over the ones above."""
    from ale_py.vector_env import AtariVectorEnv  # an extra

    asked = spec.kwargs | {
        "frameskip": 4,
        "reward_clipping": False,
        "life_loss_info": ends_with_a_life(spec),
        "num_threads": min(n, cores()),
        "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP,
    }
    given = asked | options
    return Gymnasium(AtariVectorEnv(num_envs=n, **given), lives=given["life_loss_info"])
