"""One page per method. Start with `logpi methods`."""

from logpi.methods.a2c import A2C
from logpi.methods.actor_critic import ActorCritic
from logpi.methods.baseline import Baseline
from logpi.methods.cispo import CISPO
from logpi.methods.dapo import DAPO
from logpi.methods.dr_grpo import DrGRPO
from logpi.methods.grpo import GRPO
from logpi.methods.gspo import GSPO
from logpi.methods.mdpo import MDPO
from logpi.methods.npg import NPG
from logpi.methods.ppo import PPO
from logpi.methods.ppo_kl import PPOKL
from logpi.methods.reinforce import Reinforce
from logpi.methods.reinforce_pp import ReinforcePP
from logpi.methods.rloo import RLOO
from logpi.methods.trpo import TRPO

METHODS = {
    "reinforce": Reinforce,
    "baseline": Baseline,
    "actor_critic": ActorCritic,
    "a2c": A2C,
    "npg": NPG,
    "trpo": TRPO,
    "ppo": PPO,
    "ppo_kl": PPOKL,
    "mdpo": MDPO,
    "grpo": GRPO,
    "dr_grpo": DrGRPO,
    "dapo": DAPO,
    "gspo": GSPO,
    "cispo": CISPO,
    "rloo": RLOO,
    "reinforce_pp": ReinforcePP,
}
