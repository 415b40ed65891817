"""Plain PPO beside stable-baselines3: same settings, one thread, in turn in one run; writes benchmarks/speed.md.

python benchmarks/speed.py [--rounds 5] [--steps 40000]   (needs the dev extra; an otherwise idle machine)
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
COMMON = (
    "4 envs x 128 steps, 4 epochs x 4 minibatches, two 64x64 tanh networks, lr 2.5e-4 falling to 0, normalisers off"
)

LOGPI = """
import sys, time, logpi
steps = int(sys.argv[1])
settings = dict(envs=4, length=128, lr=2.5e-4, normalise_reward=False, threads=1, backend=sys.argv[2], seed=int(sys.argv[3]))
began = None
for record in logpi.learn("ppo", "CartPole-v1", steps=steps, **settings):
    if began is None and record.steps >= steps // 10:
        began, first = time.perf_counter(), record.steps
print((record.steps - first) / (time.perf_counter() - began))
"""

SB3 = """
import sys, time, torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
torch.set_num_threads(1)
steps = int(sys.argv[1])
class Clock(BaseCallback):
    began = None
    def _on_step(self):
        return True
    def _on_rollout_start(self):
        if self.began is None and self.num_timesteps >= steps // 10:
            self.began, self.first = time.perf_counter(), self.num_timesteps
clock = Clock()
model = PPO("MlpPolicy", make_vec_env("CartPole-v1", 4, seed=int(sys.argv[3])), n_steps=128, batch_size=128, n_epochs=4,
            learning_rate=lambda left: 2.5e-4 * left, gamma=0.99, gae_lambda=0.95, clip_range=0.2, ent_coef=0.01, vf_coef=0.5,
            max_grad_norm=0.5, device="cpu", seed=int(sys.argv[3]))
model.learn(steps, callback=clock)
print((model.num_timesteps - clock.first) / (time.perf_counter() - clock.began))
"""

RUNNERS = {
    "logpi": (LOGPI, "native"),
    "logpi, Gymnasium's environments": (LOGPI, "sync"),
    "stable-baselines3": (SB3, "-"),
}


def measure(code: str, steps: int, backend: str, seed: int) -> float:
    """Steps per second of the whole training loop after its first tenth."""
    command = [sys.executable, "-W", "ignore", "-c", code, str(steps), backend, str(seed)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40_000)
    args = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in RUNNERS}
    for seed in range(args.rounds):
        for name, (code, backend) in RUNNERS.items():
            found[name].append(measure(code, args.steps, backend, seed))
            print(f"round {seed}: {name:34s} {found[name][-1]:9,.0f} steps/s", flush=True)
    versions = {name: version(name) for name in ("logpi", "torch", "stable-baselines3", "gymnasium", "numpy")}
    about = {"date": time.strftime("%F"), "machine": platform.machine(), "python": platform.python_version()} | versions
    (HERE / "speed.md").write_text(report(f"--rounds {args.rounds} --steps {args.steps}", found, about))
    on_file = {"about": about, "settings": COMMON, "steps_per_second": found}
    (HERE / "results" / "speed.json").write_text(json.dumps(on_file, indent=1) + "\n")


def report(flags: str, found: dict[str, list[float]], about: dict[str, str]) -> str:
    """The page: medians, ranges, and ratios taken round by round."""
    lines = [
        f"""\
# Speed of plain PPO on CartPole-v1

`python benchmarks/speed.py {flags}`: {COMMON}; one thread, uncompiled; steps per
second of the whole training loop after its first tenth, the runners in turn.

| runner | median | range | ratio to stable-baselines3, round by round |
|---|---|---|---|"""
    ]
    for name, speeds in found.items():
        ratios = [a / b for a, b in zip(speeds, found["stable-baselines3"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        lines.append(
            f"| {name} | {statistics.median(speeds):,.0f} | {min(speeds):,.0f} to {max(speeds):,.0f} | {spread} |"
        )
    return "\n".join([*lines, "", ", ".join(f"{k} {v}" for k, v in about.items()) + ".", ""])


if __name__ == "__main__":
    main()
