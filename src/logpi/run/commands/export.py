"""logpi export RUN"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from logpi.errors import LogpiError
from logpi.run.checkpoint import best_of, run_of
from logpi.run.export import TRIED, export
from logpi.run.flags import parse
from logpi.run.load import load_actor


@dataclass
class Export:
    """A saved policy as one file that needs no logpi, normaliser included: observations in, the most likely actions out. It
    is checked on a thousand observations before it is there, and says what lies where in them."""

    run: tyro.conf.Positional[Path]  # a run folder, or checkpoints/step-* of one
    onnx: bool = False  # policy.onnx in the run folder, which is what is written if nothing is said
    torch: bool = False  # policy.pt2 there, for torch.export.load
    out: Path | None = None  # another file, .onnx or .pt2
    best: bool = False  # the best checkpoint, not the newest
    network: str | None = None  # ./file.py:build, where the run used one of yours


def main(args: list[str]) -> None:
    given = parse(Export, args, "logpi export")
    if given.out is not None and (given.onnx or given.torch):
        raise LogpiError("--out says by its name what is written: leave --onnx and --torch away, or --out.")
    policy = load_actor(best_of(given.run) if given.best else given.run, given.network)
    folder = run_of(given.run)
    inside = [folder / name for name, asked in (("policy.onnx", given.onnx), ("policy.pt2", given.torch)) if asked]
    for out in [given.out] if given.out is not None else inside or [folder / "policy.onnx"]:
        gap = export(policy, out)
        shape = ", ".join(map(str, policy.seen.shape))  # type: ignore[union-attr]
        print(f"{out}: obs [n, {shape}] -> action; on {TRIED} observations within {gap:.1g} of policy.act(obs)")
