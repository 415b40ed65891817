"""Whole GRPO steps of a language model beside TRL's: python benchmarks/grpo_speed.py [--rounds 3]

TRL is of the dev extra. Models S and M with random weights; 8 prompts, 8 answers to each; lengths vary (a token is the last
with probability 0.02) or are fixed.
"""

import math
import statistics
from collections.abc import Callable
from typing import Any

from side_by_side import Case, Runner, Table, conditions, main, spread, three

RUNNERS = (
    Runner("logpi", "grpo_logpi"),
    Runner("logpi, --bf16", "grpo_logpi", {"logpi": {"bf16": True}}),
    Runner("TRL", "grpo_trl"),
    Runner("TRL, bf16", "grpo_trl", {"bf16": True}),
)
VARY, FIXED = {"ends": 0.02, "length": 256}, {"ends": 0.0, "length": 64}


def case(name: str, size: str, **how: Any) -> Case:
    return Case(name, {"size": size, "prompts": 8, "threads": 2, "iterations": 3} | how, RUNNERS, cores=2)


TABLE = Table(
    "grpo_speed",
    "One step of GRPO on two cores: 8 prompts of 15 tokens, 8 answers to each, one update in float32 (or bfloat16 autocast), a Qwen3"
    " with random weights and a vocabulary of 1,024; S: 4 layers of 256, 3.9M parameters; M: 8 layers of 512,"
    " 28M. The first step is left out.",
    (
        case("S, up to 256 tokens, lengths vary", "S", **VARY),
        case("M, up to 256 tokens, lengths vary", "M", **VARY),
        case("S, 64 tokens", "S", **FIXED),
        case("M, 64 tokens", "M", **FIXED),
        case("S, 64 tokens, a KL to the reference", "S", kl=0.04, **FIXED),
    ),
    unit="s",
    picture="Seconds of a GRPO step of each runner in each case",
)


def render(table: Table, result: dict[str, Any]) -> str:
    """Seconds and their parts, memory, and how much longer each takes than the first."""
    lines = [
        table.about,
        "",
        "| case | runner | s a step: median [least, most] | sampling | training | tokens/s | MiB | times the first |",
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for name, found in result["runs"].items():
        first = [known(run, "value") for run in next(iter(found.values()))]
        for number, (runner, runs) in enumerate(found.items()):
            there = [run for run in runs if "value" in run]
            cells = [
                three(statistics.median(run[k] for run in there)) if there else "failed"
                for k in ("sample", "train", "rate")
            ]
            memory = f"{statistics.median(run['mib'] for run in there):,.0f}" if there else ""
            own = [known(run, "value") for run in runs]
            lead = spread([b / a for a, b in zip(first, own, strict=True)]) if number else "1"
            lines.append(
                f"| {'' if number else name} | {runner} | {spread(own)} | {' | '.join(cells)} | {memory} | {lead} |"
            )
    return "\n".join([*lines, "", *against_the_better(result["runs"]), "", *conditions(result)])


def against_the_better(runs: dict[str, Any]) -> list[str]:
    """logpi's runners beside the faster and the smaller of TRL's in their round, in tokens a second and in memory."""
    lines = [
        "| case | runner | times as fast as the faster of TRL's | memory, of the smaller of TRL's |",
        "|---|---|---|---|",
    ]
    for name, found in runs.items():
        theirs = [each for runner, each in found.items() if "TRL" in runner]
        for runner, own in found.items() if theirs else ():
            if "TRL" not in runner:
                faster = [known(run, "rate") / most for run, most in zip(own, best(max, theirs, "rate"), strict=True)]
                share = [known(run, "mib") / least for run, least in zip(own, best(min, theirs, "mib"), strict=True)]
                lines.append(f"| {name} | {runner} | {spread(faster)} | {spread(share)} |")
    return lines


def known(run: dict[str, Any], what: str) -> float:
    """NaN of a run that failed."""
    return float(run.get(what, math.nan))


def best(of: Callable[[list[float]], float], runners: list[list[dict[str, Any]]], what: str) -> list[float]:
    """Of each round, among the runs that did not fail."""
    return [of([known(run, what) for run in each if what in run] or [math.nan]) for each in zip(*runners, strict=True)]


if __name__ == "__main__":
    main(TABLE, render)
