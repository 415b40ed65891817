"""What log pi over a vocabulary takes of the memory: python benchmarks/lm_memory.py [--tokens 8 512] [--width 128]

Forward and backward, each case in a process of its own: the most that it held, less what it held before (weights, hidden states).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from study import about_now
from torch import Tensor, nn

from logpi.lm.after import After
from logpi.policy.tokens import Vocabulary

HERE = Path(__file__).parent
NAME = "lm_memory"
VOCABULARIES = (32_000, 50_257, 128_256, 151_936)  # Llama 2, GPT-2, Llama 3, Qwen 2.5
WAYS = ("naive", "logpi")
MIB = 2**20


def naive(project: nn.Linear, hidden: Tensor, action: Tensor) -> Tensor:
    """All logits at once: [N, V]."""
    return project(hidden).log_softmax(-1).gather(-1, action[:, None])[:, 0]


def held() -> int:
    """Bytes now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure(way: str, vocabulary: int, tokens: int, width: int) -> dict[str, float]:
    """One case, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    project = nn.Linear(width, vocabulary, bias=False)
    hidden = torch.randn(tokens, width).requires_grad_()
    action = torch.randint(vocabulary, (tokens,))
    before = held()
    log_pi = (
        naive(project, hidden, action) if way == "naive" else Vocabulary(project, 1.0, After()).log_prob(hidden, action)
    )
    log_pi.mean().backward()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert project.weight.grad is not None and hidden.grad is not None
    norms = {"hidden": float(hidden.grad.norm()), "weight": float(project.weight.grad.norm())}
    return {"mib": (most - before) / MIB, "log_pi": float(log_pi.detach().mean()), **norms}


def case(way: str, vocabulary: int, given: argparse.Namespace) -> dict[str, float]:
    """The same in a process of its own."""
    rows, length = given.tokens
    words = ["--case", way, str(vocabulary), "--tokens", str(rows), str(length), "--width", str(given.width)]
    done = subprocess.run(
        [sys.executable, __file__, *words], env=os.environ, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def page(given: argparse.Namespace, results: list[dict[str, Any]]) -> str:
    rows, length = given.tokens
    lines = [
        "# The memory of log pi over a vocabulary",
        "",
        f"Made by `python benchmarks/{NAME}.py`: log pi of {rows} x {length} tokens from hidden states {given.width} wide, forward and",
        "backward, float32, on the CPU. The most that a process held, less what it held before, in MiB; the gradient of the",
        "projection is part of it in both. Naive: `log_softmax` of all logits. logpi: a chunk of positions at a time, computed",
        "again backwards.",
        "",
        "| vocabulary | one [B, T, V] | gradient of the projection | naive | logpi | naive / logpi |",
        "|---|---|---|---|---|---|",
    ]
    for x in results:
        logits, weights = (x["vocabulary"] * n * 4 / MIB for n in (rows * length, given.width))
        both = x["naive"]["mib"], x["logpi"]["mib"]
        lines.append(
            f"| {x['vocabulary']:,} | {logits:,.0f} | {weights:,.0f} | {both[0]:,.0f} | {both[1]:,.0f} | {both[0] / both[1]:.0f} |"
        )
    versions = ", ".join(f"{k} {v}" for k, v in about_now().items())
    return "\n".join([*lines, "", f"{versions}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs=2, metavar=("WAY", "VOCABULARY"), help="one case, in this process")
    parser.add_argument("--tokens", nargs=2, type=int, default=(8, 512), metavar=("ROWS", "LENGTH"))
    parser.add_argument("--width", type=int, default=128)
    given = parser.parse_args()
    if given.case:
        way, vocabulary = given.case
        print(json.dumps(measure(way, int(vocabulary), given.tokens[0] * given.tokens[1], given.width)))
        return
    results: list[dict[str, Any]] = []
    for vocabulary in VOCABULARIES:
        found = {way: case(way, vocabulary, given) for way in WAYS}
        for figure in ("log_pi", "hidden", "weight"):
            one, other = (found[way][figure] for way in WAYS)
            assert abs(one - other) <= 1e-4 * abs(one), f"{figure}: {one} and {other}"
        results.append({"vocabulary": vocabulary} | found)
        print(f"{vocabulary:>8,}: " + ", ".join(f"{way} {found[way]['mib']:,.0f} MiB" for way in WAYS), flush=True)
    (HERE / "results" / f"{NAME}.json").write_text(json.dumps(results, indent=1) + "\n")
    (HERE / f"{NAME}.md").write_text(page(given, results))


if __name__ == "__main__":
    main()
