"""A saved policy as one file that needs no logpi: from observations as the policy lays them out to the actions of `act`."""

import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from logpi.errors import LogpiError
from logpi.layout import choices
from logpi.policy import Policy
from logpi.run.checkpoint import is_checkpoint
from logpi.run.spaces import space_to_json

TRIED = 1000  # observations on which the file has to say what the policy says
APART = 1e-5  # how far numbers of an action may be, over the largest of them: another library rounds otherwise


class Actor(nn.Module):
    """obs [N, *shape], as `policy.seen` lays them out -> the most likely action [N, *action], as the environment takes it."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        if policy.memory is not None:
            raise LogpiError(
                "This policy has a memory, and an exported one has nowhere to keep it: use logpi.load(run).act(obs)."
            )
        self.policy = policy

    def forward(self, obs: Tensor) -> Tensor:
        return self.policy.head.to_env(self.policy.head.mode(self.policy(self.policy.normalise(obs))))


def export(policy: Policy, out: Path) -> float:
    """Write .onnx or .pt2 (torch.export); how far the file's actions are from the policy's on TRIED observations.

    The file is there whole or not at all, and not if it says something else than the policy. It says what lies where: ONNX
    as metadata `layout`, .pt2 as its extra file layout.json.
    """
    kinds = {".onnx": (to_onnx, by_onnx), ".pt2": (to_pt2, by_pt2)}
    if out.suffix not in kinds:
        raise LogpiError(f"{out} must end in .onnx or .pt2.")
    if inside := next(filter(is_checkpoint, out.absolute().parents), None):
        raise LogpiError(f"{inside} is a checkpoint, which holds its own files alone: name a file elsewhere, --out.")
    write, read = kinds[out.suffix]
    actor, obs = Actor(policy).eval(), observations(policy)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder, torch.no_grad():
        file = Path(folder) / out.name
        write(actor, obs, layout(policy), file)
        ours, theirs = actor(obs).numpy(), read(file, obs)
        gap = float(np.abs(ours - theirs).max() / max(1.0, np.abs(ours).max()))
        if ours.dtype != theirs.dtype or gap > APART:
            raise LogpiError(f"{out.name} would act otherwise than the policy, by {gap:.1e}: it was not written.")
        file.replace(out)
    return gap


def observations(policy: Policy) -> Tensor:
    """TRIED of them, [N, *shape]: what the normaliser has seen, or whatever there may be."""
    seen, draw = policy.seen, torch.Generator().manual_seed(0)
    assert seen is not None
    if policy.bytes and seen.dtype == np.uint8:
        return pixels(seen.shape, draw)
    rows = torch.randn(TRIED, *seen.shape, generator=draw, dtype=next(policy.parameters()).dtype)
    for piece in seen.of("picture"):
        if piece.space.dtype == np.uint8:
            rows[:, piece.begin : piece.end] = pixels((piece.end - piece.begin,), draw).to(rows)
    for begin, end in one_at_least(policy):
        rows[:, begin:end] = (rows[:, begin:end] > 0).to(rows)
        rows[:, begin] = 1.0
    return rows if policy.normaliser is None else policy.normaliser.inverse(rows)


def pixels(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    """Pictures of bytes, each of its own brightness."""
    brightness = torch.rand(TRIED, *[1] * len(shape), generator=draw)
    return (torch.randint(256, (TRIED, *shape), generator=draw) * brightness).to(torch.uint8)


def one_at_least(policy: Policy) -> Iterator[tuple[int, int]]:
    """Where in an observation numbers are 0 or 1, and not all 0."""
    seen, taken = policy.seen, policy.taken
    assert seen is not None and taken is not None
    yield from ((piece.begin, piece.end) for piece in seen.of("choice"))
    at = 0 if policy.mask is None else policy.mask.start
    for size, _ in choices(taken.space) if policy.mask is not None else ():
        yield at, at + size
        at += size


def layout(policy: Policy) -> str:
    """JSON: of obs and of action the parts, in their order: where each comes from in the space, what it is, and where it lies."""
    seen, taken = policy.seen, policy.taken
    assert seen is not None and taken is not None
    shown = [
        {
            "path": piece.path,
            "kind": piece.kind,
            "space": space_to_json(piece.space),
            "begin": piece.begin,
            "end": piece.end,
        }
        for piece in seen.pieces
    ]
    ends = np.cumsum([size for *_, size in taken.parts]).tolist()
    done = [
        {"path": path, "space": space_to_json(leaf), "begin": end - size, "end": end}
        for (path, leaf, size), end in zip(taken.parts, ends, strict=True)
    ]
    return json.dumps({"obs": shown, "action": done})


def to_onnx(actor: Actor, obs: Tensor, said: str, file: Path) -> None:
    try:
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as missing:
        raise LogpiError('ONNX files need onnx, onnxscript and onnxruntime: pip install "logpi[onnx]".') from missing
    names: dict[str, Any] = {"input_names": ["obs"], "output_names": ["action"]}
    with warnings.catch_warnings(), silent():
        warnings.simplefilter("ignore")  # torch's own, about itself
        shapes = {"obs": {0: torch.export.Dim("n")}}
        made = torch.onnx.export(actor, (obs[:2],), dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
        assert made is not None
        made.model.metadata_props["layout"] = said
        made.save(file, external_data=False)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """What torch logs of operators that it could not have exported is of no use here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def by_onnx(file: Path, obs: Tensor) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(["action"], {"obs": obs.numpy()})[0]


def to_pt2(actor: Actor, obs: Tensor, said: str, file: Path) -> None:
    made = torch.export.export(actor, (obs[:2],), dynamic_shapes={"obs": {0: torch.export.Dim("n")}})
    torch.export.save(made, str(file), extra_files={"layout.json": said})


def by_pt2(file: Path, obs: Tensor) -> np.ndarray:
    """Of the file that was written just now."""
    return torch.export.load(str(file)).module()(obs).numpy()
