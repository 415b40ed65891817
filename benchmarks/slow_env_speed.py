"""PPO on an environment of a millisecond a step, 16 of them on two cores: python benchmarks/slow_env_speed.py"""

import homes
import side_by_side
from side_by_side import Case, Runner, Table

PPO = {
    "method": "ppo",
    "envs": 16,
    "length": 128,
    "epochs": 4,
    "minibatches": 4,
    "lr": 2.5e-4,
    "entropy": 0.01,
    "processes": True,
}
FILE = homes.HERE / "drivers" / "slow_env.py"


def runners(kind: str, steps: int, workers: int) -> tuple[Runner, ...]:
    own = {"env": f"{FILE}:{kind}", "logpi": {"backend": "async", "workers": workers}}
    other = {"env": f"slow_env:{kind}", "steps": steps}
    return (
        Runner(f"logpi, --backend async --workers {workers}", "train_logpi", own | {"steps": steps}),
        Runner("stable-baselines3, SubprocVecEnv", "train_sb3", other, "stable-baselines3"),
        Runner("Gymnasium AsyncVectorEnv, environment only", "env_alone", other, "stable-baselines3"),
        Runner("the bound: each by itself, no policy", "bound", other | {"sides": workers}),
    )


TABLE = Table(
    "slow_env_speed",
    "PPO on a pure-Python environment of 1 ms a step: 16 environments x 128 steps, 4 epochs x 4 minibatches, two cores,"
    " the whole training loop after its first tenth. On paper two cores allow 2,000 steps/s of the one that computes, and 16"
    " sleepers 16,000; the last row is what this machine allows processes that do nothing else.",
    (
        Case("computing", PPO, runners("Computing", 12_288, 2), 2),
        Case("sleeping", PPO, runners("Sleeping", 40_960, 16), 2),
    ),
)

if __name__ == "__main__":
    side_by_side.main(TABLE)
