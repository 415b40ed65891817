"""PPO on Breakout from pictures: python benchmarks/atari_speed.py"""

import side_by_side
from side_by_side import Case, Runner, Table

PPO = {
    "method": "ppo",
    "env": "BreakoutNoFrameskip-v4",
    "atari": True,
    "envs": 8,
    "length": 128,
    "epochs": 4,
    "minibatches": 4,
    "lr": 2.5e-4,
    "entropy": 0.01,
    "clip": 0.1,
    "steps": 1024 * 5,
}


def runners(threads: int) -> tuple[Runner, ...]:
    """Five iterations each; the first is not counted."""
    signs = {"clip_reward": True, "env_options": [f"num_threads={threads}"]}
    return (
        Runner("logpi", "train_logpi", {"logpi": signs}),
        Runner("logpi, --bf16", "train_logpi", {"logpi": signs | {"bf16": True}}),
        Runner("stable-baselines3", "train_sb3", {}, "stable-baselines3"),
        Runner("its network alone, no environment", "pictures_alone", {}),
        Runner("its environments alone", "atari_alone", {"steps": 4000}),
    )


TABLE = Table(
    "atari_speed",
    "PPO on BreakoutNoFrameskip-v4: 8 environments x 128 steps, 4 epochs x 4 minibatches, Nature CNN, clip 0.1, lr 2.5e-4; agent steps"
    " (four frames each), the whole training loop without its first iteration.",
    (
        Case("one core", PPO, runners(1)),
        Case("two cores", PPO | {"threads": 2}, runners(2), cores=2),
    ),
)

if __name__ == "__main__":
    side_by_side.main(TABLE)
