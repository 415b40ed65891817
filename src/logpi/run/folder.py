"""The run folder: what was asked, with what versions, and what happened; metrics.jsonl is the log of record."""

import contextlib
import hashlib
import json
import math
import os
import platform
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from logpi import __version__
from logpi.errors import LogpiError
from logpi.run.files import write_whole
from logpi.run.lock import Lock, held

STATES = ("running", "finished", "solved", "stopped", "failed", "interrupted")
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(1, 10))}


class RunFolder:
    """runs/<env>/<method>/<seed>-<time>/, held by this process from construction to `close`."""

    def __init__(self, path: Path) -> None:
        for file in sorted(path.iterdir()):
            if file.is_symlink():
                raise LogpiError(
                    f"{file} is a symbolic link: nothing is written through one, put the file itself there."
                )
        self.path, self.lock = path, Lock(path)
        self.checkpoints = path / "checkpoints"
        with contextlib.suppress(FileExistsError):
            self.checkpoints.mkdir()
        try:
            self.log = Log(path / "metrics.jsonl")
        except OSError:
            self.lock.release()
            raise

    @classmethod
    def create(cls, out: str, env: str, method: str, seed: int) -> "RunFolder":
        where = Path(out) / safe(env) / safe(method)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for extra in ("", *(f"-{i}" for i in range(2, 1000))):
            path = where / f"{seed}-{stamp}{extra}"
            try:
                path.mkdir(parents=True)
                return cls(path)
            except (OSError, ValueError) as wrong:
                if isinstance(wrong, FileExistsError) and path.exists():
                    continue
                reason = wrong.strerror if isinstance(wrong, OSError) else wrong
                raise LogpiError(
                    f"The run folder {str(path)[:200]!r} cannot be made ({reason}): choose another with --out."
                ) from wrong
        raise LogpiError(f"{where} already has a thousand runs of this second: choose another folder with --out.")

    def describe(self, asked: str, backend: str, typed: list[str]) -> None:
        """config.toml (as `config.dump` made it), command.txt and versions.json."""
        write_whole(self.path / "config.toml", asked)  # from here on the run can be begun again
        (self.path / "command.txt").write_text(shlex.join(["logpi", *typed]) + "\n")
        (self.path / "versions.json").write_text(json.dumps(versions() | {"environments": backend}, indent=1) + "\n")

    def status(self, state: str, more: dict[str, Any] | None = None) -> None:
        """status.json: running, finished, solved, stopped or failed."""
        told = {"state": state, "time": time.strftime("%FT%T")} | (more or {})
        write_whole(self.path / "status.json", json.dumps(finite(told), indent=1) + "\n")

    def close(self) -> None:
        self.log.close()
        self.lock.release()


class Log:
    """metrics.jsonl, one line of JSON for each iteration; `mark` is how far it has come, for a checkpoint to keep."""

    def __init__(self, file: Path) -> None:
        self.path = file
        self.file = file.open("ab")
        self.bytes, self.sum = 0, hashlib.sha256()

    def write(self, row: dict[str, Any]) -> None:
        line = (json.dumps(finite(row)) + "\n").encode()
        self.file.write(line)
        self.file.flush()
        self.bytes += len(line)
        self.sum.update(line)

    def mark(self) -> dict[str, Any]:
        """Length and SHA-256 of what was logged, which is on the disk from here on."""
        os.fsync(self.file.fileno())
        return {"bytes": self.bytes, "sha256": self.sum.hexdigest()}

    def back_to(self, mark: dict[str, Any]) -> None:
        """Cut what was logged after the mark: those iterations will be done, and logged, again."""
        self.file.truncate(mark["bytes"])
        self.bytes, self.sum = mark["bytes"], hashlib.sha256(self.path.read_bytes())

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what a full disk did not take was told when it was written
            self.file.close()


def agrees(run: Path, mark: dict[str, Any]) -> bool:
    """Whether metrics.jsonl begins with what a checkpoint had logged."""
    file = run / "metrics.jsonl"
    if not file.is_file():
        return False
    with file.open("rb") as start:
        return hashlib.sha256(start.read(mark["bytes"])).hexdigest() == mark["sha256"]


def status_of(run: Path) -> dict[str, Any]:
    """status.json; a run that says it is running while no process holds its folder was interrupted."""
    try:
        found = json.loads((run / "status.json").read_text())
        if not isinstance(found, dict) or found.get("state") not in STATES:
            raise ValueError(found)
    except (OSError, ValueError, RecursionError) as wrong:
        raise LogpiError(f"{run} is not a run folder: it has no readable status.json.") from wrong
    return found | {"state": "interrupted"} if found["state"] == "running" and not held(run) else found


def rows(run: Path) -> Iterator[dict[str, Any]]:
    """The iterations in a run's metrics.jsonl; a last line that a kill has torn is not one, nor is a failure's."""
    file = run / "metrics.jsonl"
    if not file.is_file():
        raise LogpiError(f"{run} is not a run folder: it has no metrics.jsonl.")
    lines = file.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as wrong:
            if not line.endswith(b"\n"):
                return
            raise LogpiError(f"Line {number} of {file} is not JSON: remove it to read the rest.") from wrong
        if isinstance(row, dict) and "error" not in row:
            yield row


def safe(name: str) -> str:
    """A name as part of a path, on any system."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:100].strip("._") or "run"
    return f"_{plain}" if plain.split(".")[0].upper() in RESERVED else plain


@cache
def versions() -> dict[str, str]:
    """What numbers depend on beside the settings."""
    names = ["torch", "numpy", "gymnasium", "safetensors", *(["numba"] if find_spec("numba") else [])]
    found = {"logpi": __version__} | {name: version(name) for name in names}
    found |= {"python": platform.python_version(), "platform": platform.platform()}
    root = Path(__file__).parents[3]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return found
    asked = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
    return found | ({"commit": asked.stdout.strip()} if not asked.returncode else {})


def finite(row: dict[str, Any]) -> dict[str, Any]:
    """None for NaN and infinities, which JSON does not have."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
