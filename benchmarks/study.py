"""A study: tasks, several seeds of each, through the command line; its results as JSON, a page and a picture.

A task is what is typed after `logpi train`, and the least that the final policy has to reach. What was run before stays in the
JSON until it is run again.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
DRAWS = 10_000  # of the bootstrap
Result = dict[str, Any]


@dataclass(frozen=True)
class Task:
    name: str
    command: str  # after `logpi train`
    seeds: int
    threshold: float | None = None  # that the mean over seeds has to reach
    aim: float | None = None  # what the best published tables have
    rule: str = "mean"  # or 'nine' of ten seeds, or 'mixture' (the largest distance from 1/3 has to be smaller)


@dataclass(frozen=True)
class Study:
    name: str  # of the page and of results/NAME.json, NAME.png
    title: str
    about: str  # what stands above the table
    tasks: tuple[Task, ...]


def run(task: Task, seed: int, out: Path) -> Result:
    """One run through the real command, and what its folder says."""
    own = [] if "--evaluate" in task.command else ["--evaluate", "100"]
    extra = ["--seed", str(seed), "--out", str(out), "--quiet", "--no-plot", "--keep", "1", *own]
    began = time.perf_counter()
    command = [sys.executable, "-m", "logpi", "train", *shlex.split(task.command), *extra]
    done = subprocess.run(
        command, cwd=HERE.parent, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise SystemExit(f"{task.name}, seed {seed}: {done.stderr}")
    configs = [f for f in out.glob("*/*/*/config.toml") if tomllib.loads(f.read_text())["run"]["seed"] == seed]
    folder = configs[0].parent
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = [(row["steps"], row["return"]) for row in rows if row["return"] is not None]
    last = [value for steps, value in curve if steps >= 0.9 * rows[-1]["steps"]]
    found = {"seed": seed, "seconds": time.perf_counter() - began, "curve": curve[:: max(1, len(curve) // 100)]}
    settings = tomllib.loads(configs[0].read_text())
    settings["train"].pop("out")  # a folder of this machine
    found |= {"settings": settings, "training": statistics.fmean(last) if last else None}
    if task.rule == "mixture":
        return found | {"deterministic": mixture_distance(folder)}
    means = evaluated(folder)
    if means["deterministic"] is None:
        print(f"{task.name}, seed {seed}: {done.stdout}", file=sys.stderr)
    return found | means


def evaluated(folder: Path) -> Result:
    """The means of a run's evaluation; None where it failed, as that of a policy does that never ends an episode."""
    files = [*(folder / "eval").glob("*.json")]
    kinds = json.loads(files[0].read_text())["evaluations"] if files else [{"mean": None}] * 2
    return {"deterministic": kinds[0]["mean"], "sampled": kinds[1]["mean"]}


def mixture_distance(folder: Path) -> float:
    """max |pi - 1/3| of the final policy."""
    import torch

    import logpi

    policy = logpi.load(folder, network="benchmarks/biased.py:build")
    with torch.no_grad():
        return float((policy(torch.tensor([1.0, 0.0])).softmax(-1) - 1 / 3).abs().max())


def centre(x: np.ndarray) -> np.ndarray:
    """The mean over the last axis; of ten or more the mean of the middle half (IQM: Agarwal et al. 2021)."""
    if x.shape[-1] < 10:
        return x.mean(-1)
    cut = x.shape[-1] // 4
    return np.sort(x, -1)[..., cut : x.shape[-1] - cut].mean(-1)


def interval(values: list[float]) -> tuple[float, float]:
    """95 % of the centre over seeds drawn with replacement."""
    drawn = np.random.default_rng(0).choice(np.array(values), (DRAWS, len(values)))
    low, high = np.percentile(centre(drawn), [2.5, 97.5])
    return float(low), float(high)


def stated(found: Result, digits: int) -> str:
    """A verdict's mean and interval."""
    if found["mean"] is None:
        return "-"
    low, high = (f"{x:.{digits}f}" for x in found["interval"])
    return f"{found['mean']:.{digits}f} [{low}, {high}]"


def verdict(task: Task, runs: list[Result]) -> Result:
    """The centre and its interval over seeds, and whether the bar is met: never where one of them has no evaluation."""
    finals = [r["deterministic"] for r in runs]
    without = finals.count(None)
    found: Result = {"mean": None, "interval": None}
    if not without:
        found = {"mean": float(centre(np.array(finals))), "interval": interval(finals)}
    for kind in ("sampled", "training"):
        known = [r[kind] for r in runs if r.get(kind) is not None]
        found[kind] = float(centre(np.array(known))) if known else None
    if without:
        return found | {"met": False, "bar": f"{without} of {len(runs)} seeds without an evaluation"}
    if task.threshold is None:
        return found | {"met": True, "bar": ""}
    if task.rule == "nine":
        good = sum(x >= task.threshold for x in finals)
        return found | {"met": good >= 0.9 * len(finals), "bar": f"{good} of {len(finals)} seeds >= {task.threshold:g}"}
    if task.rule == "mixture":
        return found | {"met": max(finals) <= task.threshold, "bar": f"worst {max(finals):.4f} <= {task.threshold:g}"}
    return found | {"met": found["mean"] >= task.threshold, "bar": f">= {task.threshold:g}"}


def page(study: Study, results: dict[str, Result]) -> str:
    """From all results on file."""
    lines = [f"# {study.title}", "", study.about, ""]
    lines += [
        "| task | seeds | deterministic [95 %] | sampled | training | bar | aim | met | seconds a run |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, r in results.items():
        v, digits = r["verdict"], 4 if "rock" in name else 1
        others = " | ".join("" if v[kind] is None else f"{v[kind]:.1f}" for kind in ("sampled", "training"))
        seconds = statistics.median(x["seconds"] for x in r["runs"])
        aim = "" if r["aim"] is None else f"{r['aim']:g}"
        row = f"| {name} | {len(r['runs'])} | {stated(v, digits)} | {others} | {v['bar']} | {aim} |"
        lines.append(f"{row} {'yes' if v['met'] else '**no**'} | {seconds:.0f} |")
    lines += ["", "Commands, seeds 0, 1, ... each with `--seed N`:", "", "```sh"]
    lines += [f"logpi train {r['command']}" for r in results.values()]
    lines += ["```", "", f"![learning curves](results/{study.name}.png)", ""]
    dates = sorted({r["about"]["date"] for r in results.values()})
    about = [*results.values()][-1]["about"]
    lines += [
        " to ".join(dict.fromkeys((dates[0], dates[-1])))
        + "; "
        + ", ".join(f"{k} {v}" for k, v in about.items() if k != "date")
        + ".",
        "",
    ]
    return "\n".join(lines)


def draw(study: Study, results: dict[str, Result]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import EngFormatter

    shown = {k: v for k, v in results.items() if "rock" not in k}
    rows = -(-len(shown) // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(13, 2.6 * rows), layout="constrained", squeeze=False)
    for ax in axes.flat[len(shown) :]:
        ax.remove()
    for ax, (name, r) in zip(axes.flat, shown.items(), strict=False):
        for x in r["runs"]:
            ax.plot(*zip(*x["curve"], strict=True), color="C0", alpha=0.5, lw=1)
        if r["threshold"] is not None:
            ax.axhline(r["threshold"], color="k", lw=0.8, ls=":")
        ax.set_title(name, fontsize=9, loc="left")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("steps")
    figure.supylabel("mean return of the last 100 training episodes, a line per seed; dotted: the bar")
    figure.savefig(HERE / "results" / f"{study.name}.png", dpi=110)


def about_now(*more: str) -> dict[str, str]:
    """When, on what, with which versions."""
    found = {"date": time.strftime("%F"), "python": platform.python_version(), "machine": platform.machine()}
    return found | {name: version(name) for name in ("logpi", "torch", *more, "numpy")}


def main(study: Study, render: Callable[[Study, dict[str, Result]], str] = page) -> None:
    parser = argparse.ArgumentParser(description=study.title)
    parser.add_argument("words", nargs="*", help="only tasks whose name contains one of these words")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, on one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs") / study.name)
    parser.add_argument("--page", action="store_true", help="run nothing: page and picture anew from the JSON")
    args = parser.parse_args()
    file = HERE / "results" / f"{study.name}.json"
    results: dict[str, Result] = json.loads(file.read_text()) if file.exists() else {}
    about = about_now("gymnasium", "mujoco")
    chosen = [t for t in study.tasks if not args.words or any(word in t.name for word in args.words)]
    out = args.out / time.strftime("%Y%m%d-%H%M%S")
    pool = ThreadPoolExecutor(args.jobs)
    try:
        asked = [
            (t, [pool.submit(run, t, seed, out / slug(t)) for seed in range(t.seeds)]) for t in chosen if not args.page
        ]
        for task, running in asked:
            runs = [x.result() for x in running]
            found = verdict(task, runs)
            met = "met" if found["met"] else "NOT MET"
            print(f"{task.name:45s} {stated(found, 2)}  {found['bar']}  {met}", flush=True)
            keep(file, study, task, {"verdict": found, "runs": runs, "about": about}, results)
    finally:
        pool.shutdown(cancel_futures=True)
    (HERE / f"{study.name}.md").write_text(render(study, results))
    draw(study, results)


def slug(task: Task) -> str:
    return task.name.replace(" ", "-").replace("/", "-")


def keep(file: Path, study: Study, task: Task, found: Result, results: dict[str, Result]) -> None:
    """Beside what the others found, in the order of the tasks."""
    results[task.name] = {"command": task.command, "threshold": task.threshold, "aim": task.aim} | found
    ordered = {t.name: results[t.name] for t in study.tasks if t.name in results}
    results.clear()
    results.update(ordered)
    file.write_text(json.dumps(results, separators=(",", ":")) + "\n")
