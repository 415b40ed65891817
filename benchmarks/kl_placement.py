"""Where the KL to the reference is put, and by which estimate: python benchmarks/kl_placement.py [--seeds 3] [--steps 300000]

By enumeration on a policy of seven prefixes, as `logpi exact sequences --vary kl` does; and on a tiny model, reward against KL.
Writes kl_placement.md, results/kl_placement.json and results/kl_placement.png under --out.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from study import about_now, interval

from logpi.exact import bench, find
from logpi.exact.estimators import Choice
from logpi.lm import pretrained, sft
from logpi.loop import loop
from logpi.run.evaluate import answered
from logpi.run.language import Text, model_for, task_of
from logpi.run.setup import assemble, find_method

HERE = Path(__file__).parent
NAME, TASK, LEVEL, PROMPTS = "kl_placement", "addition", 2, 1000
MODEL, WARMUP, UNTIL = "small", 600, 0.3  # supervised steps, until so many answers are right
# name: (the fields of grpo that say it, what `logpi exact` calls it)
ARMS: dict[str, tuple[dict[str, Any], str]] = {
    "k1 in the reward": ({"kl_in": "reward", "kl_estimate": "k1"}, "k1_reward, total"),
    "k2 in the loss": ({"kl_estimate": "k2"}, "k2 in the loss"),
    "k3 in the loss": ({"kl_estimate": "k3"}, "k3 in the loss"),
    "k3 live in the loss": ({"kl_estimate": "k3", "kl_live": True}, "k3_live in the loss"),
    "k3 in the reward": ({"kl_in": "reward", "kl_estimate": "k3"}, "k3_reward, total"),
}
BETAS = (0.01, 0.1, 1.0)
# One update of the clipped ratio in four parts, so that the live ratio is not 1; no std, so that beta means the same everywhere.
PAGE = {
    "starts": 64,
    "group": 8,
    "scale": False,
    "lr": 1e-4,
    "anneal": False,
    "epochs": 1,
    "minibatches": 4,
    "max_grad_norm": 1.0,
}


def toy() -> dict[str, dict[str, float]]:
    """Bias, cosine, scale and variance of each as an estimate of the gradient of -KL of whole texts; by enumeration."""
    rows = {row.name: row for row in bench.table(find("sequences"), Choice(), factors=("kl",))}
    return {name: rows[exact].figures()[0][1] for name, (_, exact) in ARMS.items()}


def warmed(seed: int, folder: Path) -> str:
    """A new model that has learnt some answers: where all runs of this seed begin, and their reference."""
    settings = Text(task=TASK, level=LEVEL, model=MODEL, seed=seed)
    policy = model_for(find_method("grpo"), settings, task_of(settings), seed, None)
    sft.warm_up(policy, task_of(settings), seed, WARMUP, settings.warmup_rows, settings.warmup_lr, UNTIL)
    pretrained.save(policy.model, policy.tokenizer, folder)
    return str(folder)


def course(arm: str, beta: float, seed: int, model: str, steps: int) -> dict[str, Any]:
    """A run: [tokens, reward, KL to the reference of a whole text] as it goes on, and its accuracy on prompts never shown."""
    settings = Text(task=TASK, level=LEVEL, model=model, seed=seed, steps=steps, threads=1)
    parts = assemble(find_method("grpo", PAGE | {"kl": beta} | ARMS[arm][0]), settings, name="grpo")
    points = []
    for record in loop(parts):
        texts = PAGE["starts"] * PAGE["group"]
        points.append([record.steps, record["reward"], record["kl_ref"] * record["tokens"] / texts])
    found = answered(parts.policy, settings, parts.collect.rewards, PROMPTS)
    parts.collect.close()
    kept = points[:: max(1, len(points) // 100)]
    return {"arm": arm, "beta": beta, "seed": seed, "points": kept, "accuracy": found.mean, "kl": tail(points, 2)}


def tail(points: list[list[float]], column: int) -> float:
    """The mean over the last tenth."""
    return statistics.fmean(p[column] for p in points[-max(1, len(points) // 10) :])


ABOUT = """# Where the KL to the reference is put

Made by `python benchmarks/kl_placement.py`. The same KL, subtracted from the reward or from the objective, by one estimate or another.

## The gradient of each, by enumeration

`logpi exact sequences --vary kl`: all batches of four texts of a policy with seven prefixes. The truth is the gradient of -KL(pi || ref) of
whole texts.

| the KL | relative bias | cosine | scale | variance |
|---|---|---|---|---|"""


def page(found: dict[str, Any]) -> str:
    lines = [ABOUT]
    for name, x in found["toy"].items():
        lines.append(
            f"| {name} | {x['relative_bias']:.4f} | {x['cosine']:.4f} | {x['scale']:.4f} | {x['variance']:.4f} |"
        )
    lines += [
        "",
        f"## Reward against KL, {TASK} with {LEVEL} digits",
        "",
        f"`grpo` without the std, from one warmed-up model a seed, {found['steps']:,} tokens; seeds {found['seeds']}.",
        f"Accuracy: sampled answers to {PROMPTS:,} prompts of the test; KL: nats of a whole text, over the last tenth of the run.",
        "Mean over seeds and its 95 % interval.",
        "",
        "| the KL | beta | accuracy | KL to the reference |",
        "|---|---|---|---|",
    ]
    for name in ARMS:
        for beta in BETAS:
            runs = [x for x in found["runs"] if (x["arm"], x["beta"]) == (name, beta)]
            cells = [told([x[key] for x in runs]) for key in ("accuracy", "kl")] if runs else ["", ""]
            lines.append(f"| {name} | {beta:g} | {' | '.join(cells)} |")
    versions = ", ".join(f"{k} {v}" for k, v in found["about"].items())
    return "\n".join([*lines, "", f"![Accuracy against KL](results/{NAME}.png)", "", f"{versions}.", ""])


def told(values: list[float]) -> str:
    low, high = interval(values)
    return f"{statistics.fmean(values):.3f} [{low:.3f}, {high:.3f}]"


def draw(found: dict[str, Any], file: Path) -> None:
    """Accuracy against KL at the end of the runs, a panel for each beta: seeds small, their mean large."""
    figure, axes = plt.subplots(1, len(BETAS), figsize=(10, 3.4), sharex=True, sharey=True, layout="constrained")
    for axis, beta in zip(axes, BETAS, strict=True):
        for k, name in enumerate(ARMS):
            runs = [(x["kl"], x["accuracy"]) for x in found["runs"] if (x["arm"], x["beta"]) == (name, beta)]
            axis.scatter(*zip(*runs, strict=True), color=f"C{k}", s=9, alpha=0.5)
            axis.scatter(*map(statistics.fmean, zip(*runs, strict=True)), color=f"C{k}", s=60, label=name)
        axis.set(title=f"beta {beta:g}", xlabel="KL to the reference, nats of a text")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("accuracy on held-out prompts")
    axes[-1].legend(fontsize=7)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300_000, help="tokens of each run")
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    (given.out / "results").mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {
        "about": about_now("transformers"),
        "steps": given.steps,
        "seeds": given.seeds,
        "toy": toy(),
    }
    found["runs"] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seeds):
            model = warmed(seed, Path(folder) / str(seed))
            for beta in BETAS:
                for arm in ARMS:
                    x = course(arm, beta, seed, model, given.steps)
                    found["runs"].append(x)
                    print(
                        f"{arm}, beta {beta:g}, seed {seed}: {x['accuracy']:.3f} at a KL of {x['kl']:.3f}", flush=True
                    )
            (given.out / "results" / f"{NAME}.json").write_text(json.dumps(found, indent=1) + "\n")
            (given.out / f"{NAME}.md").write_text(page(found))
            draw(found, given.out / "results" / f"{NAME}.png")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
