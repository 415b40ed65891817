"""What --measure-gradient costs, and the table of `logpi variance` on real environments; writes benchmarks/gradient_noise.md.

python benchmarks/gradient_noise.py [--seconds 20] [--episodes 1024]
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

import logpi

HERE = Path(__file__).parent
METHODS = ("ppo", "a2c", "actor_critic", "reinforce", "grpo", "trpo")
EVERY = 10
TABLES = {
    "CartPole-v1": "--env CartPole-v1 --method ppo --after 10000",
    "Acrobot-v1": "--env Acrobot-v1 --method ppo --after 20000",
    "Pendulum-v1": "--env Pendulum-v1 --method ppo --after 20000 --gamma 0.95",
}


def cost(method: str, seconds: float) -> list[float]:
    """Extra time in percent, of each ten iterations: what the measuring one took beyond its bit-identical twin, over the
    twin's ten. The two runs take their iterations in turn; the first ten warm up."""
    runs = [logpi.learn(method, "CartPole-v1", steps=10**9, measure_gradient=every) for every in (0, EVERY)]
    taken: list[list[float]] = [[], []]
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(taken[0]) < 5 * EVERY or len(taken[0]) % EVERY:
        for k in (0, 1) if len(taken[0]) % 2 else (1, 0):
            taken[k].append(next(runs[k]).seconds)
    off, on = taken
    return [100 * (on[at] - off[at]) / sum(off[at : at + EVERY]) for at in range(EVERY, len(off), EVERY)]


def table(line: str, episodes: int) -> str:
    command = [sys.executable, "-m", "logpi", "variance", *line.split(), "--episodes", str(episodes)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--episodes", type=int, default=1024)
    args = parser.parse_args()
    extra = {}
    for method in METHODS:
        extra[method] = cost(method, args.seconds)
        print(f"{method:14s} {spread(extra[method])}", flush=True)
    tables = {}
    for env, line in TABLES.items():
        tables[env] = table(line, args.episodes)
        print(f"\n{tables[env]}", flush=True)
    versions = {name: version(name) for name in ("logpi", "torch", "gymnasium", "numpy")}
    about = {"date": time.strftime("%F"), "machine": platform.machine(), "python": platform.python_version()} | versions
    (HERE / "gradient_noise.md").write_text(report(args, extra, tables, about))
    on_file = {"about": about, "every": EVERY, "extra_percent": extra}
    (HERE / "results" / "gradient_noise.json").write_text(json.dumps(on_file, indent=1) + "\n")


def spread(found: list[float]) -> str:
    """median, quartiles, number."""
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{middle:.1f} % [{low:.1f}, {high:.1f}] of {len(found)}"


def report(args: argparse.Namespace, extra: dict, tables: dict[str, str], about: dict[str, str]) -> str:
    lines = [
        f"""\
# The noise of gradients

`python benchmarks/gradient_noise.py --seconds {args.seconds:g} --episodes {args.episodes}`

## What `--measure-gradient {EVERY}` costs

CartPole-v1, each page's own settings, one thread. Two bit-identical runs in one process, iterations in turn, one of them
measuring; what a measuring iteration took beyond its twin, over ten iterations: median [quartiles] of how many tens.

| method | extra time |
|---|---|""",
        *(f"| {method} | {spread(x)} |" for method, x in extra.items()),
        "",
        "## Credit and baselines on the same episodes",
    ]
    for env, text in tables.items():
        lines += ["", f"`logpi variance {TABLES[env]} --episodes {args.episodes}`", "", "```", text, "```"]
    return "\n".join([*lines, "", ", ".join(f"{k} {v}" for k, v in about.items()) + ".", ""])


if __name__ == "__main__":
    main()
