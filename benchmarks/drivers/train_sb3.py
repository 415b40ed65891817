"""stable-baselines3 and what shares its interface (sb3-contrib, sbx): PPO, A2C or TRPO."""

from functools import partial
from importlib import import_module
from statistics import mean

import torch
from clock import Clock, asked, tell
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

torch.set_num_threads(asked["threads"])
clock = Clock(asked["steps"])


curve = []


class Ticks(BaseCallback):
    def _on_step(self) -> bool:
        return not clock.over

    def _on_rollout_start(self) -> None:  # the update before it is done
        clock.tick(self.num_timesteps)
        if self.model.ep_info_buffer and "seconds" in asked:
            curve.append((self.num_timesteps, mean(info["r"] for info in self.model.ep_info_buffer)))


def games():
    """What its documentation has for Atari games; frames are skipped by its wrapper, not by the environment."""
    import ale_py  # registers the games
    import gymnasium
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    sticky = asked["env"].startswith("ALE/")
    of_env = {"frameskip": 1, "repeat_action_probability": 0.25} if sticky else {}
    around = {"terminal_on_life_loss": not sticky}
    made = make_atari_env(asked["env"], asked["envs"], asked["seed"], env_kwargs=of_env, wrapper_kwargs=around)
    return VecFrameStack(made, 4)


def environments():
    if asked.get("atari"):
        return games()
    env, kind = asked["env"], SubprocVecEnv if asked.get("processes") else DummyVecEnv
    if ":" in env:  # module:class
        module, name = env.split(":")
        env = partial(getattr(import_module(module), name), **asked.get("env_settings", {}))
    made = make_vec_env(env, asked["envs"], seed=asked["seed"], vec_env_cls=kind)
    return VecNormalize(made) if asked.get("normalise") else made


def model():
    batch = asked["envs"] * asked["length"]
    rate = asked["lr"]
    common = {"n_steps": asked["length"], "device": "cpu", "seed": asked["seed"], "gamma": 0.99}
    falling = {"learning_rate": rate if asked.get("constant") else lambda left: rate * left}
    if asked["method"] == "ppo":
        common |= falling | {
            "batch_size": batch // asked["minibatches"],
            "n_epochs": asked["epochs"],
            "ent_coef": asked["entropy"],
            "vf_coef": 0.5,
            "max_grad_norm": 0.5,
            "gae_lambda": 0.95,
            "clip_range": asked.get("clip", 0.2),
        }
    elif asked["method"] == "a2c":
        common |= falling | {"gae_lambda": 1.0, "ent_coef": 0.01, "vf_coef": 0.5, "use_rms_prop": False}
    else:
        common |= {"batch_size": batch // 4, "n_critic_updates": 10, "cg_max_steps": 10, "cg_damping": 0.1}
        common |= {"line_search_max_iter": 10, "target_kl": 0.01, "gae_lambda": 0.97, "learning_rate": 3e-3}
    kind = getattr(import_module(asked.get("module", "stable_baselines3")), asked["method"].upper())
    return kind("CnnPolicy" if asked.get("atari") else "MlpPolicy", environments(), **common)


if __name__ == "__main__":
    learner = model()
    learner.learn(asked["steps"], callback=Ticks())
    clock.tick(learner.num_timesteps)
    learner.env.close()
    score = [info["r"] for info in learner.ep_info_buffer or ()]
    told = {"curve": curve} if curve else {}
    tell(
        clock.rate(),
        "stable-baselines3 sb3-contrib sbx-rl jax torch numpy gymnasium mujoco ale-py",
        score=sum(score) / max(len(score), 1),
        steps=learner.num_timesteps,
        **told,
    )
