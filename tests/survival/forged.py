"""Forged checkpoints: their sums fit, as those of whoever made one for the purpose would; and what a reader may cost."""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exams_damage as exam

from logpi.run import checkpoint


def facts(folder: Path) -> dict[str, Any]:
    """What a manifest says, without its sum."""
    return {k: v for k, v in json.loads((folder / "manifest.json").read_text()).items() if k != "sum"}


def forge(folder: Path, files: dict[str, bytes] | None = None, **more: Any) -> None:
    """Other contents, other facts, and a manifest that agrees with them."""
    manifest = facts(folder)
    for name, data in (files or {}).items():
        (folder / name).write_bytes(data)
        manifest["files"][name] = {"bytes": len(data), "sha256": checkpoint.digest(data)}
    (folder / "manifest.json").write_bytes(checkpoint.seal(manifest | more))


def refusal(reader: Callable[[Any], Any], path: Any) -> str:
    """The sentence, which took less than a second and less than 50 MB."""
    before, began = peak(), time.process_time()
    said = exam.sentence(lambda: exam._first(reader(path)))
    assert time.process_time() - began < 1 and peak(reset=False) - before < 50 * 2**20
    assert not said.startswith("CRASH") and "\n" not in said, said
    return said


def peak(reset: bool = True) -> int:
    """Bytes of memory at the highest since the last reset, where the system tells; else since the start."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(next(x for x in status.read_text().splitlines() if x.startswith("VmHWM")).split()[1])
