"""PPO on CartPole-v1 beside its peers, in three sizes: python benchmarks/cartpole_speed.py"""

import side_by_side
from side_by_side import Case, Runner, Table

PPO = {
    "method": "ppo",
    "env": "CartPole-v1",
    "epochs": 4,
    "minibatches": 4,
    "lr": 2.5e-4,
    "entropy": 0.01,
}
SIZES = {
    "a": {"envs": 4, "length": 128},
    "b64": {"envs": 64, "length": 128},
    "b1024": {"envs": 1024, "length": 32},
}


def runners(size: str, cores: int) -> tuple[Runner, ...]:
    """Each with as many steps as take it a few seconds; torch's peers do not gain by a second thread in small batches."""
    wide = 1 if size == "a" else 4
    own = {"threads": cores}
    found = [
        Runner("logpi", "train_logpi", own | {"steps": 600_000 * min(wide, 2)}),
        Runner("logpi, plain (fast off)", "train_logpi", own | {"steps": 60_000 * wide, "fast": "off"}),
        Runner("PureJaxRL", "train_purejaxrl", own | {"steps": 300_000 * min(wide, 2)}, "PureJaxRL"),
    ]
    if size != "b1024":  # they step 1024 environments in a loop of Python
        found += [
            Runner("stable-baselines3", "train_sb3", own | {"steps": 25_000 * wide}, "stable-baselines3"),
            Runner("CleanRL", "train_cleanrl", own | {"steps": 20_000 * wide}, "CleanRL"),
        ]
    if size == "a":
        found.append(Runner("sbx", "train_sb3", own | {"steps": 25_000, "module": "sbx"}, "sbx"))
    return tuple(found)


TABLE = Table(
    "cartpole_speed",
    "PPO on CartPole-v1: a is 4 environments x 128 steps, b64 is 64 x 128, b1024 is 1024 x 32; 4 epochs x 4 minibatches,"
    " two 64x64 tanh networks, lr 2.5e-4 falling to 0, normalisers off; the whole training loop after its first tenth.",
    tuple(
        Case(size if cores == 1 else f"{size} on two cores", PPO | what, runners(size, cores), cores)
        for size, what in SIZES.items()
        for cores in ((1,) if size == "a" else (1, 2))
    ),
    picture="Steps per second of each runner in each case",
)

if __name__ == "__main__":
    side_by_side.main(TABLE)
