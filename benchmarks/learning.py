"""Does it learn? python benchmarks/learning.py [TASK ...] [--jobs 2]"""

import study
from study import Study, Task

CARTPOLE, PENDULUM = "--env CartPole-v1", "--env Pendulum-v1 --steps 100000"  # tuned by recipes/Pendulum-v1/*.toml
RPS = "--env RockPaperScissors --no-normalise-reward --steps 400000 --network benchmarks/biased.py:build --evaluate 0"
MIXTURE = {"seeds": 5, "threshold": 0.02, "rule": "mixture"}

STUDY = Study(
    "learning",
    "Does it learn?",
    "Made by `python benchmarks/learning.py`. Final policy, 100 fresh episodes of each seed, deterministic actions; sampled ones, and the"
    " last tenth of training, beside them. Mean over seeds (of ten, the mean of the middle half) and its 95 % bootstrap interval."
    " Rock-paper-scissors: the largest distance of a probability from 1/3, from a first policy of (0.84, 0.11, 0.04).",
    (
        *(
            Task(f"CartPole-v1 100k {m}", f"{m} {CARTPOLE} --steps 100000", 10, 475, rule="nine")
            for m in ("ppo", "trpo", "npg", "mdpo", "ppo_kl")
        ),
        Task(
            "CartPole-v1 200k reinforce with a mean baseline",
            f"baseline --baseline mean {CARTPOLE} --steps 200000",
            5,
            450,
        ),
        Task("CartPole-v1 200k a2c", f"a2c {CARTPOLE} --steps 200000", 5, 475),
        Task("CartPole-v1 200k actor_critic", f"actor_critic {CARTPOLE} --steps 200000", 5, 475),
        Task("CartPole-v1 300k grpo", f"grpo {CARTPOLE} --steps 300000", 5, 450),
        Task("CartPole-v1 300k rloo", f"rloo {CARTPOLE} --steps 300000", 5, 450),
        Task("Pendulum-v1 100k ppo", f"ppo {PENDULUM}", 5, -200),
        Task("Pendulum-v1 100k trpo", f"trpo {PENDULUM}", 5, -200),
        Task("rock-paper-scissors reinforce", f"reinforce {RPS} --episodes 256 --lr 0.02", **MIXTURE),
        Task("rock-paper-scissors npg", f"npg {RPS} --envs 256 --length 1 --delta 2e-5 --damping 1e-3", **MIXTURE),
        Task(
            "rock-paper-scissors mdpo",
            f"mdpo {RPS} --envs 256 --length 1 --eta 0.1 --eta-floor 0.01 --lr 3e-3",
            **MIXTURE,
        ),
    ),
)

if __name__ == "__main__":
    study.main(STUDY)
