"""PPO on HalfCheetah with both normalisers on: python benchmarks/halfcheetah_speed.py"""

import side_by_side
from side_by_side import Case, Runner, Table

PPO = {
    "method": "ppo",
    "env": "HalfCheetah-v5",
    "length": 2048,
    "epochs": 10,
    "minibatches": 32,
    "lr": 3e-4,
    "entropy": 0.0,
    "normalise": True,
}
OWN = {"continuous": True, "env": "HalfCheetah-v4"}  # CleanRL's version of Gymnasium has no v5; the physics is the same


def runners(envs: int, workers: int = 0) -> tuple[Runner, ...]:
    """Three or more iterations each; the first is not counted."""
    apart = {"logpi": {"backend": "async", "workers": workers}} if workers else {}
    return (
        Runner(
            f"logpi{f', --backend async --workers {workers}' * bool(workers)}",
            "train_logpi",
            {"steps": 2048 * (envs * 2 + 8)} | apart,
        ),
        Runner("logpi, plain (fast off)", "train_logpi", {"steps": 2048 * (envs * 2 + 3), "fast": "off"}),
        Runner("stable-baselines3", "train_sb3", {"steps": 2048 * (envs * 2 + 3)}, "stable-baselines3"),
        Runner("CleanRL, HalfCheetah-v4", "train_cleanrl", OWN | {"steps": 2048 * (envs * 2 + 3)}, "CleanRL"),
        *([Runner("the environment alone", "env_alone", {"steps": 40_000})] if envs == 1 else ()),
    )


TABLE = Table(
    "halfcheetah_speed",
    "PPO on HalfCheetah-v5: 2048 steps of each environment, 10 epochs x 32 minibatches, two 64x64 tanh networks, lr 3e-4,"
    " observations and rewards normalised; one core but where it says two; the whole training loop without its first iteration.",
    (
        Case("1 environment", PPO | {"envs": 1}, runners(1)),
        Case("8 environments", PPO | {"envs": 8}, runners(8)),
        Case("8 environments on two cores", PPO | {"envs": 8, "threads": 1}, runners(8, workers=2), cores=2),
    ),
)

if __name__ == "__main__":
    side_by_side.main(TABLE)
