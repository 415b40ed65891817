"""An hour of Breakout beside stable-baselines3: python benchmarks/atari_curve.py [--minutes 60]

Both at once, a core each, as many steps as the time gives; what is compared is the return per step. v5: sticky actions, whole
games, no end at a lost life.
"""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import homes
import numpy as np
import side_by_side

PPO = {
    "method": "ppo",
    "env": "ALE/Breakout-v5",
    "atari": True,
    "envs": 8,
    "length": 128,
    "epochs": 4,
    "minibatches": 4,
}
PPO |= {"lr": 2.5e-4, "entropy": 0.01, "clip": 0.1, "threads": 1, "seed": 0, "steps": 10_000_000}
LOGPI = {"clip_reward": True, "anneal": False, "env_options": ["num_threads=1"]}
NAME = "atari_curve"
RESULT = homes.HERE / "results" / f"{NAME}.json"


def run(minutes: float) -> dict[str, Any]:
    """Both curves: (steps, mean return of the last 100 games)."""
    asked = PPO | {"seconds": 60 * minutes, "constant": True, "logpi": LOGPI}
    peers = {"logpi": "train_logpi", "stable-baselines3": "train_sb3"}
    began, running = time.strftime("%F"), {}
    for peer, driver in peers.items():
        script = homes.HERE / "drivers" / f"{driver}.py"
        command = [homes.python(peer), "-W", "ignore", str(script), json.dumps(asked)]
        running[peer] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found = {peer: json.loads(p.communicate()[0].splitlines()[-1]) for peer, p in running.items()}
    versions = {k: v for x in found.values() for k, v in x.pop("versions").items()}
    return {"about": {"date": began, "minutes": minutes, "versions": versions}, "runs": found}


def until(curve: list[list[float]], steps: float) -> float:
    """The mean height of a curve up to so many steps."""
    x, y = np.array(curve).T
    at = np.linspace(x[0], steps, 500)
    return float(np.interp(at, x, y).mean())


def text(result: dict[str, Any]) -> str:
    common = min(x["curve"][-1][0] for x in result["runs"].values())
    lines = [
        "| | steps in all | return at the end | at the last common step | mean up to it |",
        "|---|---|---|---|---|",
    ]
    for peer, x in result["runs"].items():
        steps, last = x["curve"][-1]
        there = np.interp(common, *np.array(x["curve"]).T)
        lines.append(f"| {peer} | {steps:,.0f} | {last:.1f} | {there:.1f} | {until(x['curve'], common):.1f} |")
    about = result["about"]
    told = ", ".join(f"{k} {v}" for k, v in sorted(about["versions"].items()))
    lines += ["", f"{about['date']}, {about['minutes']:g} minutes, both at once, a core each; seed 0; {told}."]
    return "\n".join([*lines, "", f"![return of Breakout against steps](../benchmarks/results/{NAME}.png)"])


def draw(result: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for peer, x in result["runs"].items():
        ax.plot(*np.array(x["curve"]).T, label=peer)
    ax.set(xlabel="agent steps (four frames each)", ylabel="return of the last 100 games")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    figure.savefig(RESULT.with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="0: page and picture anew from the JSON")
    args = parser.parse_args()
    result = run(args.minutes) if args.minutes else json.loads(RESULT.read_text())
    RESULT.write_text(json.dumps(result) + "\n")
    draw(result)
    side_by_side.insert(NAME, text(result))
    print(text(result), file=sys.stderr)
