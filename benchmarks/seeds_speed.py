"""Sixteen seeds of one command against one: python benchmarks/seeds_speed.py"""

import side_by_side
from side_by_side import Case, Runner, Table

TABLE = Table(
    "seeds_speed",
    "logpi train ppo on CartPole-v1 with its defaults, two cores: steps of all seeds together over the seconds that they"
    " take, without process start (what the same command takes for a single iteration of each).",
    (
        Case(
            "ppo",
            {},
            (
                Runner("--seeds 16", "seeds_logpi", {"seeds": 16, "steps": 300_000}),
                Runner("one run", "seeds_logpi", {"seeds": 1, "steps": 3_000_000}),
                Runner("--seeds 16, plain (fast off)", "seeds_logpi", {"seeds": 16, "steps": 30_000, "fast": "off"}),
                Runner("one run, plain (fast off)", "seeds_logpi", {"seeds": 1, "steps": 100_000, "fast": "off"}),
            ),
            cores=2,
        ),
    ),
)

if __name__ == "__main__":
    side_by_side.main(TABLE)
