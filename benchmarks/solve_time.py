"""From the shell prompt to a solved CartPole-v1: python benchmarks/solve_time.py"""

import side_by_side
from side_by_side import Case, Runner, Table

A = {
    "env": "CartPole-v1",
    "envs": 4,
    "length": 128,
    "epochs": 4,
    "minibatches": 4,
    "lr": 2.5e-4,
    "entropy": 0.01,
    "until": 475,
    "steps": 500_000,
}
TRAIN = "train ppo --env CartPole-v1 --until 475 --steps 200000"
BARE = f"{TRAIN} --evaluate 0 --no-plot"
LIKE_PEERS = " --envs 4 --lr 2.5e-4 --no-normalise-reward --steps 500000"

TABLE = Table(
    "solve_time",
    "Seconds of the whole command, process start, imports and compilation included, until the last 100 episodes of"
    " CartPole-v1 average 475. Each with its own defaults; peers: setting a, 500,000 steps at most. PureJaxRL is one"
    " compiled program and cannot stop: its first row is what a user waits for, the second what it would be if it could.",
    (
        Case(
            "to 475",
            A,
            (
                Runner("logpi", "solve_logpi", {"command": BARE}),
                Runner("logpi, first time (no compiled code on disk)", "solve_logpi", {"command": BARE, "first": True}),
                Runner("logpi, with its evaluation and picture", "solve_logpi", {"command": TRAIN}),
                Runner("logpi, plain (fast off)", "solve_logpi", {"command": BARE, "fast": "off"}),
                Runner("logpi, with setting a of the peers", "solve_logpi", {"command": BARE + LIKE_PEERS}),
                Runner("PureJaxRL, all 500,000 steps", "train_purejaxrl", {"report": "wall"}, "PureJaxRL"),
                Runner("PureJaxRL, if it could stop", "train_purejaxrl", {"report": "solved"}, "PureJaxRL"),
                Runner("CleanRL", "train_cleanrl", {}, "CleanRL"),
            ),
            cores=2,
        ),
    ),
    "s",
    picture="Seconds to solve CartPole-v1",
)

if __name__ == "__main__":
    side_by_side.main(TABLE)
