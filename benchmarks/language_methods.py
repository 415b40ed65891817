"""Every method on the same task, from the same warm model, with as many sampled tokens: python benchmarks/language_methods.py [METHOD ...]

What was run before stays in the JSON until it is run again.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from figures import OURS
from language import accuracy, assembled, followed
from study import about_now, interval

HERE = Path(__file__).parent
NAME, TASK, TOKENS, EVERY = "language_methods", "addition", 150_000, 25_000
WARM = {"warmup": 600, "warmup_until": 0.3}  # supervised steps before, until a third of the answers are right
MODEL = {"model": "small"}
WIDE, LONGEST = 8, 80.0  # panels side by side; seconds shown
ROWS = 512  # completions of an iteration, whatever a page calls them
GROUPS: dict[str, Any] = {"starts": ROWS // 8, "group": 8}
ONCE = {"epochs": 1, "minibatches": 1}
CLIPPED = {"anneal": False, "max_grad_norm": 1.0, "lr": 1e-4}
CRITIC = {"envs": ROWS, "gamma": 1.0, "lam": 1.0}
NATURAL = {"delta": 3e-3, "relative": True, "damping": 1e-2, "iterations": 5, "critic_epochs": 3}
METHODS: dict[str, dict[str, Any]] = {
    "reinforce": {"episodes": ROWS, "gamma": 1.0, "lr": 1e-4, "anneal": False},
    "baseline": {"episodes": ROWS, "gamma": 1.0, "lr": 1e-4, "anneal": False, "critic_epochs": 3},
    "rloo": GROUPS | CLIPPED,
    "reinforce_pp": {"episodes": ROWS} | ONCE | CLIPPED,
    "grpo": GROUPS | ONCE | CLIPPED,
    "dr_grpo": GROUPS | ONCE | CLIPPED | {"budget": 4},
    "dapo": GROUPS | ONCE | CLIPPED,
    "gspo": GROUPS | ONCE | CLIPPED,
    "cispo": GROUPS | ONCE | CLIPPED,
    "actor_critic": {"envs": ROWS, "gamma": 1.0, "entropy": 0.0, "value_coef": 0.1} | CLIPPED,
    "a2c": CRITIC | {"credit": "gae", "entropy": 0.0, "value_coef": 0.1} | CLIPPED,
    "ppo": CRITIC | ONCE | CLIPPED | {"entropy": 0.0, "value_coef": 0.1},
    "ppo_kl": CRITIC | CLIPPED | {"epochs": 2, "minibatches": 1, "entropy": 0.0, "value_coef": 0.1},
    "mdpo": CRITIC | CLIPPED | {"epochs": 2, "minibatches": 1, "value_coef": 0.1},
    "npg": CRITIC | NATURAL,
    "trpo": CRITIC | NATURAL,
}


def course(method: str, seed: int, start: dict[str, Any], tokens: int) -> dict[str, Any]:
    """One run from the warm model `start`."""
    parts, settings = assembled(method, METHODS[method] | MODEL, TASK, seed)
    parts.policy.load_state_dict(start)
    points = followed(parts, settings, lambda record, spent: float(record.steps), EVERY, tokens)
    parts.collect.close()
    return {"seed": seed, "points": points, "settings": METHODS[method] | MODEL}


def warm(seed: int) -> dict[str, Any]:
    """The weights that every method begins with."""
    parts, settings = assembled("reinforce", METHODS["reinforce"] | MODEL | WARM, TASK, seed)
    print(f"seed {seed}: {accuracy(parts, settings):.3f} after the warm-up", flush=True)
    parts.collect.close()
    return {k: v.clone() for k, v in parts.policy.state_dict().items()}


ABOUT = f"""# Every method on the same task

Made by `python benchmarks/language_methods.py`: `{TASK}`, the small model after a warm-up to {WARM["warmup_until"]} (the same
weights for all methods of a seed), {ROWS} completions an iteration, {TOKENS:,} sampled tokens. Accuracy: exact answers to 1,000
prompts that training never shows, sampled at temperature 1; mean over seeds and its 95 % interval. "Mean on the way" is the mean
over all points of a curve: who learns sooner has more. Seconds: one thread, without the evaluations
between; the picture ends at {LONGEST:.0f}.
Settings: [results/{NAME}.json](results/{NAME}.json).

| method | before | mean on the way | at the end | seconds |
|---|---|---|---|---|"""


def page(results: dict[str, list[dict[str, Any]]]) -> str:
    rows = [row(method, results[method]) for method in METHODS if method in results]
    versions = ", ".join(f"{k} {v}" for k, v in about_now("transformers").items())
    return "\n".join(
        [ABOUT, *rows, "", f"![Accuracy against tokens and seconds](results/{NAME}.png)", "", f"{versions}.", ""]
    )


def row(method: str, runs: list[dict[str, Any]]) -> str:
    before = statistics.fmean(run["points"][0][2] for run in runs)
    seconds = statistics.fmean(run["points"][-1][0] for run in runs)
    way = [statistics.fmean(p[2] for p in run["points"][1:]) for run in runs]
    return (
        f"| `{method}` | {before:.2f} | {told(way)} | {told([run['points'][-1][2] for run in runs])} | {seconds:.0f} |"
    )


def told(values: list[float]) -> str:
    low, high = interval(values)
    return f"{statistics.fmean(values):.3f} [{low:.3f}, {high:.3f}]"


def draw(results: dict[str, list[dict[str, Any]]]) -> None:
    """Small multiples, above against tokens, below against seconds: a curve, its interval, and all others in grey behind."""
    known = [m for m in METHODS if m in results]
    lines = -(-len(known) // WIDE)
    figure, axes = plt.subplots(2 * lines, WIDE, figsize=(12, 3.6 * lines), sharey=True, squeeze=False)
    for block, (k, unit) in enumerate(((1, "tokens / 1000"), (0, "seconds"))):
        panels = axes[block * lines : (block + 1) * lines].flatten()
        for axis, method in zip(panels, known, strict=False):
            for other in known:
                axis.plot(*mean_curve(results[other], k), color="0.85", lw=0.7, zorder=1)
            x, y = mean_curve(results[method], k)
            bounds = [interval([run["points"][j][2] for run in results[method]]) for j in range(len(y))]
            axis.fill_between(x, *zip(*bounds, strict=True), color=OURS, alpha=0.25, lw=0, zorder=2)
            axis.plot(x, y, color=OURS, lw=1.6, zorder=3)
            axis.set(ylim=(0, 1), xlabel=unit)
            if k == 0:  # natural steps go on beyond it
                axis.set_xlim(0, LONGEST)
            axis.set_title(method, fontsize=9)
            axis.tick_params(labelsize=7)
            axis.spines[["top", "right"]].set_visible(False)
        for axis in panels[len(known) :]:
            axis.set_axis_off()
    for line in axes:
        line[0].set_ylabel("accuracy")
    figure.tight_layout()
    figure.savefig(HERE / "results" / f"{NAME}.png", dpi=130)


def mean_curve(runs: list[dict[str, Any]], k: int) -> tuple[list[float], list[float]]:
    points = zip(*(run["points"] for run in runs), strict=True)
    scale = 1000 if k == 1 else 1
    mean = [[statistics.fmean(p[j] for p in at) for j in (k, 2)] for at in points]
    return [x / scale for x, _ in mean], [y for _, y in mean]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", choices=[*METHODS, []])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="fewer: a trial, of which nothing is written")
    parser.add_argument("--page", action="store_true", help="run nothing: page and picture anew from the JSON")
    given = parser.parse_args()
    file = HERE / "results" / f"{NAME}.json"
    if given.page:
        tell(json.loads(file.read_text()))
        return
    starts = [warm(seed) for seed in range(given.seeds)]
    for method in given.methods or METHODS:
        runs = [course(method, seed, start, given.tokens) for seed, start in enumerate(starts)]
        print(row(method, runs), flush=True)
        if given.tokens == TOKENS:
            results = (json.loads(file.read_text()) if file.exists() else {}) | {method: runs}
            file.write_text(json.dumps(results, indent=1) + "\n")
            tell(results)


def tell(results: dict[str, list[dict[str, Any]]]) -> None:
    (HERE / f"{NAME}.md").write_text(page(results))
    draw(results)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
