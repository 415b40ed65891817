"""tianshou: A2C, NPG, Reinforce or TRPO with its own trainer, buffer and vector of environments."""

import gymnasium as gym
import torch
from clock import Clock, asked, tell
from tianshou.algorithm import A2C, NPG, TRPO, Reinforce
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic

torch.set_num_threads(asked["threads"])
torch.manual_seed(asked["seed"])
clock = Clock(asked["steps"])
batch = asked["envs"] * asked["length"]
envs = DummyVectorEnv([lambda: gym.make(asked["env"]) for _ in range(asked["envs"])])
envs.seed(asked["seed"])
observations, actions = envs.observation_space[0], envs.action_space[0]


def trunk():
    return Net(state_shape=observations.shape, hidden_sizes=(64, 64), activation=torch.nn.Tanh)


actor = DiscreteActor(preprocess_net=trunk(), action_shape=actions.n, softmax_output=False)
policy = DiscreteActorPolicy(actor=actor, action_space=actions, observation_space=observations)
rest = {"critic": DiscreteCritic(preprocess_net=trunk()), "max_batchsize": batch}
fitted = {"optim": AdamOptimizerFactory(lr=3e-3), "optim_critic_iters": 10, "gae_lambda": 0.97}
slow = {"optim": AdamOptimizerFactory(lr=asked["lr"])}
algorithm = {
    "a2c": lambda: A2C(policy=policy, **rest, **slow, gae_lambda=1.0, max_grad_norm=0.5, ent_coef=0.01),
    "npg": lambda: NPG(policy=policy, **rest, **fitted, trust_region_size=0.01),
    "trpo": lambda: TRPO(policy=policy, **rest, **fitted, max_kl=0.01, max_backtracks=10),
    "reinforce": lambda: Reinforce(policy=policy, **slow),
}[asked["method"]]()
collector = Collector(algorithm, envs, VectorReplayBuffer(4 * batch, asked["envs"]))
unit = {"collection_step_num_env_steps": batch}
if asked["method"] == "reinforce":
    unit = {"collection_step_num_env_steps": None, "collection_step_num_episodes": asked["episodes"]}
params = OnPolicyTrainerParams(
    training_collector=collector,
    max_epochs=1,
    epoch_num_steps=asked["steps"],
    batch_size=None,
    update_step_num_repetitions=1,
    training_fn=lambda _, step: clock.tick(step),
    show_progress=False,
    verbose=False,
    **unit,
)
algorithm.run_training(params)
tell(clock.rate(), "tianshou torch numpy gymnasium", steps=clock.last)
