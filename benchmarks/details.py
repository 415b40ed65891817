"""What each detail of PPO is worth: python benchmarks/details.py [DETAIL ...] [--jobs 2]

The settings of the recipe with one of them changed; the change against the recipe itself, and a 95 % bootstrap interval of it.
"""

from typing import Any

import numpy as np
import study
from study import DRAWS, HERE, Result, Study, Task, centre

ENVS = {  # and what its recipe is anyway, or has no meaning there
    "HalfCheetah-v5": ("advantages as they are", "advantages recomputed before each epoch"),
    "LunarLander-v3": (
        "advantages standardised over the batch",
        "advantages not recomputed",
        *("log-std from 0", "the log-std of the state", "a squashed Gaussian", "a Beta"),
    ),
}
DETAILS = {
    "the recipe": "",
    "advantages as they are": "--normalise none",
    "advantages standardised over the batch": "--normalise batch",
    "advantages standardised in each minibatch": "--normalise minibatch",
    "advantages recomputed before each epoch": "--recompute",
    "advantages not recomputed": "--no-recompute",
    "the value clipped": "--value-clip 0.2",
    "no gradient clipping": "--max-grad-norm 1e9",
    "the learning rate stays": "--no-anneal",
    "observations the other way (normalised, or not)": "NORMALISE",
    "rewards as they are": "--no-normalise-reward",
    "epochs stop at KL 0.02": "--target-kl 0.02",
    "log-std from 0": "--log-std-init 0",
    "the log-std of the state": "--log-std state",
    "a squashed Gaussian": "--head squashed",
    "a Beta": "--head beta",
    "one trunk": "--shared",
    "--like sb3": "--like sb3",
}
OTHER = {"HalfCheetah-v5": "--no-normalise-obs", "LunarLander-v3": "--normalise-obs"}

STUDY = Study(
    "details",
    "What each detail of PPO is worth",
    "`python benchmarks/details.py`: the recipe of each environment with one detail changed, 300,000 steps, 3 seeds, 100 episodes"
    " with deterministic actions: the mean, and how far it is from the recipe's, with a 95 % interval.",
    tuple(
        Task(
            f"{env}: {name}",
            f"ppo --env {env} --steps 300000 {flags.replace('NORMALISE', OTHER[env])}".strip(),
            3,
        )
        for env, skipped in ENVS.items()
        for name, flags in DETAILS.items()
        if name not in skipped
    ),
)


def cell(own: Result, base: Result) -> str:
    """The mean, and how far it is from the recipe's, with 95 % of that over seeds drawn with replacement."""
    mean, than = own["verdict"]["mean"], base["verdict"]["mean"]
    if mean is None or than is None or own is base:
        return "-" if mean is None else f"{mean:.0f}"
    x, y = (np.array([r["deterministic"] for r in found["runs"]]) for found in (own, base))
    draw = np.random.default_rng(0)
    apart = centre(draw.choice(x, (DRAWS, len(x)))) - centre(draw.choice(y, (DRAWS, len(y))))
    low, high = np.percentile(apart, [2.5, 97.5])
    return f"{mean:.0f}, {x.mean() - y.mean():+.0f} [{low:+.0f}, {high:+.0f}]"


def table(results: dict[str, Result]) -> list[str]:
    lines = [f"| detail | {' | '.join(ENVS)} |", "|---" * (1 + len(ENVS)) + "|"]
    for name in DETAILS:
        cells: list[Any] = []
        for env in ENVS:
            own, base = results.get(f"{env}: {name}"), results.get(f"{env}: the recipe")
            if own is None or base is None:
                cells.append("its recipe" if name in ENVS[env][:2] else "discrete actions" if name in ENVS[env] else "")
            else:
                cells.append(cell(own, base))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def render(given: Study, results: dict[str, Result]) -> str:
    """The page, and the same table between its markers in docs/details.md."""
    about = [*results.values()][-1]["about"]
    told = [given.about, "", *table(results), "", ", ".join(f"{k} {v}" for k, v in about.items()) + "."]
    page = HERE.parent / "docs" / "details.md"
    begin, end = "<!-- details: written by benchmarks/details.py -->", "<!-- end of details -->"
    head, rest = page.read_text().split(begin)
    page.write_text("\n".join([head + begin, *told, end + rest.split(end, 1)[1]]))
    return "\n".join([f"# {given.title}", "", *told, "", "![learning curves](results/details.png)", ""])


if __name__ == "__main__":
    study.main(STUDY, render)
