"""Does it learn? Every task below, several seeds, through the command line; writes benchmarks/learning.md.

python benchmarks/learning.py [TASK ...] [--jobs 2]
"""

import argparse
import json
import platform
import shlex
import statistics
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
CARTPOLE, PENDULUM = "--env CartPole-v1", "--env Pendulum-v1 --steps 100000"  # tuned by recipes/Pendulum-v1/*.toml
RPS = "--env RockPaperScissors --no-normalise-reward --steps 400000 --network benchmarks/biased.py:build --evaluate 0"


@dataclass(frozen=True)
class Task:
    name: str
    command: str  # after `logpi train`
    seeds: int
    threshold: float
    rule: str = "mean"  # 'mean' over seeds, 'nine' of ten seeds, or 'mixture' (largest distance from 1/3)


TASKS = [
    *(
        Task(f"CartPole-v1 100k {m}", f"{m} {CARTPOLE} --steps 100000", 10, 475, "nine")
        for m in ("ppo", "trpo", "npg", "mdpo", "ppo_kl")
    ),
    Task(
        "CartPole-v1 200k reinforce with a mean baseline", f"baseline --baseline mean {CARTPOLE} --steps 200000", 5, 450
    ),
    Task("CartPole-v1 200k a2c", f"a2c {CARTPOLE} --steps 200000", 5, 475),
    Task("CartPole-v1 200k actor_critic", f"actor_critic {CARTPOLE} --steps 200000", 5, 475),
    Task("CartPole-v1 300k grpo", f"grpo {CARTPOLE} --steps 300000", 5, 450),
    Task("CartPole-v1 300k rloo", f"rloo {CARTPOLE} --steps 300000", 5, 450),
    Task("Pendulum-v1 100k ppo", f"ppo {PENDULUM}", 5, -200),
    Task("Pendulum-v1 100k trpo", f"trpo {PENDULUM}", 5, -200),
    Task("rock-paper-scissors reinforce", f"reinforce {RPS} --episodes 256 --lr 0.02", 5, 0.02, "mixture"),
    Task("rock-paper-scissors npg", f"npg {RPS} --envs 256 --length 1 --delta 2e-5 --damping 1e-3", 5, 0.02, "mixture"),
    Task(
        "rock-paper-scissors mdpo",
        f"mdpo {RPS} --envs 256 --length 1 --eta 0.1 --eta-floor 0.01 --lr 3e-3",
        5,
        0.02,
        "mixture",
    ),
]


def run(task: Task, seed: int, out: Path) -> dict:
    """One run through the real command, and what its folder says."""
    own = [] if "--evaluate" in task.command else ["--evaluate", "100"]
    extra = ["--seed", str(seed), "--out", str(out), "--quiet", "--no-plot", *own]
    began = time.perf_counter()
    command = [sys.executable, "-m", "logpi", "train", *shlex.split(task.command), *extra]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{task.name}, seed {seed}: {done.stderr}")
    folder = next(
        f.parent for f in out.glob("*/*/*/config.toml") if tomllib.loads(f.read_text())["run"]["seed"] == seed
    )
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = [(row["steps"], row["return"]) for row in rows if row["return"] is not None]
    found = {"seed": seed, "seconds": time.perf_counter() - began, "curve": curve[:: max(1, len(curve) // 100)]}
    if task.rule == "mixture":
        return found | {"deterministic": mixture_distance(folder)}
    evaluations = json.loads(next((folder / "eval").glob("*.json")).read_text())["evaluations"]
    return found | {"deterministic": evaluations[0]["mean"], "sampled": evaluations[1]["mean"]}


def mixture_distance(folder: Path) -> float:
    """max |pi - 1/3| of the final policy."""
    import torch

    import logpi

    policy = logpi.load(folder, network="benchmarks/biased.py:build")
    with torch.no_grad():
        return float((policy(torch.tensor([1.0, 0.0])).softmax(-1) - 1 / 3).abs().max())


def verdict(task: Task, runs: list[dict]) -> dict:
    """Mean, 95 % interval over seeds (1.96 standard errors), and whether the bar is met."""
    finals = [r["deterministic"] for r in runs]
    mean = statistics.fmean(finals)
    half = 1.96 * statistics.stdev(finals) / len(finals) ** 0.5
    if task.rule == "nine":
        good = sum(x >= task.threshold for x in finals)
        met, bar = good >= 0.9 * len(finals), f"{good} of {len(finals)} seeds >= {task.threshold:g}"
    elif task.rule == "mixture":
        met, bar = max(finals) <= task.threshold, f"worst {max(finals):.4f} <= {task.threshold:g}"
    else:
        met, bar = mean >= task.threshold, f"mean >= {task.threshold:g}"
    sampled = [r["sampled"] for r in runs if "sampled" in r]
    return {
        "mean": mean,
        "half": half,
        "sampled": statistics.fmean(sampled) if sampled else None,
        "met": met,
        "bar": bar,
    }


def report(results: dict) -> str:
    """The page, from all results on file."""
    lines = ["# Does it learn?", ""]
    lines += [
        "Made by `python benchmarks/learning.py`. Final policy, 100 fresh episodes of each seed: deterministic actions, sampled ones"
    ]
    lines += [
        "beside them; mean over seeds ± 95 % interval (1.96 standard errors over seeds). Rock-paper-scissors: the largest"
    ]
    lines += ["distance of a probability from 1/3, from a first policy of (0.84, 0.11, 0.04).", ""]
    lines += ["| task | seeds | deterministic | sampled | bar | met | seconds a run |", "|---|---|---|---|---|---|---|"]
    for name, r in results.items():
        v, digits = r["verdict"], 4 if "rock" in name else 1
        sampled = "" if v["sampled"] is None else f"{v['sampled']:.1f}"
        seconds = statistics.median(x["seconds"] for x in r["runs"])
        row = (
            f"| {name} | {len(r['runs'])} | {v['mean']:.{digits}f} ± {v['half']:.{digits}f} | {sampled} | {v['bar']} |"
        )
        lines.append(f"{row} {'yes' if v['met'] else '**no**'} | {seconds:.0f} |")
    lines += ["", "Commands (seeds 0, 1, ... each with `--seed N --evaluate 100`):", "", "```sh"]
    lines += [f"logpi train {r['command']}" for r in results.values()]
    lines += ["```", "", "![learning curves](results/learning.png)", ""]
    about = next(iter(results.values()))["about"]
    lines += [f"{about['date']}; " + ", ".join(f"{k} {v}" for k, v in about.items() if k != "date") + "."]
    lines += [
        "Seconds a run include the start of the process and, two runs at a time, a busy neighbour: not a speed measurement.",
        "",
    ]
    return "\n".join(lines)


def draw(results: dict) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = {k: v for k, v in results.items() if "rock" not in k}
    figure, axes = plt.subplots(3, 4, figsize=(13, 8), layout="constrained")
    for ax, (name, r) in zip(axes.flat, shown.items(), strict=False):
        for x in r["runs"]:
            ax.plot(*zip(*x["curve"], strict=True), color="C0", alpha=0.5, lw=1)
        ax.axhline(r["threshold"], color="k", lw=0.8, ls=":")
        ax.set_title(name, fontsize=9, loc="left")
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("steps")
    figure.supylabel("mean return of the last 100 training episodes, a line per seed; dotted: the bar")
    figure.savefig(HERE / "results" / "learning.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", help="only tasks whose name contains one of these words")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    args = parser.parse_args()
    file = HERE / "results" / "learning.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    about = {"date": time.strftime("%F"), "python": platform.python_version(), "machine": platform.machine()}
    about |= {name: version(name) for name in ("logpi", "torch", "gymnasium", "numpy")}
    for task in TASKS:
        if args.tasks and not any(word in task.name for word in args.tasks):
            continue
        out = args.out / time.strftime("%H%M%S") / task.name.replace(" ", "-")
        with ThreadPoolExecutor(args.jobs) as pool:
            runs = list(pool.map(lambda seed, task=task, out=out: run(task, seed, out), range(task.seeds)))
        found = verdict(task, runs)
        print(
            f"{task.name:50s} {found['mean']:9.3f} ± {found['half']:.3f}  {found['bar']}  {'met' if found['met'] else 'NOT MET'}",
            flush=True,
        )
        results[task.name] = {
            "command": task.command,
            "threshold": task.threshold,
            "verdict": found,
            "runs": runs,
            "about": about,
        }
        results = {t.name: results[t.name] for t in TASKS if t.name in results}
        file.write_text(json.dumps(results, separators=(",", ":")) + "\n")
        (HERE / "learning.md").write_text(report(results))
        draw(results)


if __name__ == "__main__":
    main()
