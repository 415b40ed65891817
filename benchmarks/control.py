"""Control for real: python benchmarks/control.py [TASK ...] [--jobs 2]"""

import study
from study import Study, Task

MUJOCO = {  # method: (steps, per task the least and the aim, of HalfCheetah, Hopper, Walker2d)
    "ppo": ("1000000", (2150, 2400, 3100), (5800, 2600, 3600)),
    "trpo": ("1000000", (1800, 2050, 2350), (4450, 3350, 4500)),
    "npg": ("1000000", (3000, 1700, 2000), (3500, 1900, 2500)),
}
HOPPER = {"a2c": ("1000000", 900, 1250), "mdpo": ("1000000", 2050, 2600), "reinforce": ("3000000", 350, 800)}

STUDY = Study(
    "control",
    "Control for real",
    "Made by `python benchmarks/control.py`; the settings are recipes (`recipes/`), which `logpi train` takes and says by itself."
    " Final policy, 100 fresh episodes of each seed with deterministic actions; sampled ones, and the last tenth of training, beside"
    " them. Mean over seeds and its 95 % bootstrap interval. Bars and aims are what the published tables of other libraries reach,"
    " mostly on older versions of these environments and each with a metric of its own. Two runs at a time, other programs beside them:"
    " seconds say little, speed has its own tables (docs/benchmarks.md).",
    (
        Task("Acrobot-v1 500k ppo", "ppo --env Acrobot-v1 --steps 500000", 5, -86, -75),
        Task("Acrobot-v1 500k a2c", "a2c --env Acrobot-v1 --steps 500000", 5, -86, -75),
        Task("Acrobot-v1 500k trpo", "trpo --env Acrobot-v1 --steps 500000", 5, -86, -75),
        Task("MountainCar-v0 1M ppo", "ppo --env MountainCar-v0 --steps 1000000", 5, -115, -107),
        Task("MountainCarContinuous-v0 100k ppo", "ppo --env MountainCarContinuous-v0 --steps 100000", 5, 90, 93),
        Task("MountainCarContinuous-v0 100k trpo", "trpo --env MountainCarContinuous-v0 --steps 100000", 5, 90, 93),
        Task("LunarLander-v3 300k ppo", "ppo --env LunarLander-v3 --steps 300000", 5, 183, 210),
        Task("LunarLander-v3 1M ppo", "ppo --env LunarLander-v3 --steps 1000000", 5, 240, 270),
        *(
            Task(
                f"{env}-v5 1M {method}",
                f"{method} --env {env}-v5 --steps {steps}",
                3,
                least[i],
                aims[i],
            )
            for method, (steps, least, aims) in MUJOCO.items()
            for i, env in enumerate(("HalfCheetah", "Hopper", "Walker2d"))
        ),
        *(
            Task(
                f"Hopper-v5 {int(steps) // 10**6}M {method}", f"{method} --env Hopper-v5 --steps {steps}", 3, least, aim
            )
            for method, (steps, least, aim) in HOPPER.items()
        ),
        Task(
            "CartPole without velocities 300k ppo",
            "ppo --env CartPoleNoVel-v1 --memory gru --steps 300000",
            5,
            450,
            500,
        ),
        Task("FrozenLake-v1 300k ppo", "ppo --env FrozenLake-v1 --steps 300000", 5, 0.7, 0.74),
        Task("Taxi-v4 1M ppo", "ppo --env Taxi-v4 --steps 1000000", 5, 7.5, 7.9),
        Task("CliffWalking-v1 300k ppo", "ppo --env CliffWalking-v1 --steps 300000", 10, -13, -13, "nine"),
    ),
)

if __name__ == "__main__":
    study.main(STUDY)
