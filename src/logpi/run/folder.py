"""The run folder: what was asked, with what versions, and what happened; metrics.jsonl is the log of record."""

import dataclasses
import json
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from logpi import __version__
from logpi.errors import LogpiError
from logpi.loop import Record


class RunFolder:
    """runs/<env>/<method>/<seed>-<time>/"""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"

    @classmethod
    def create(cls, out: str, env: str, method: str, seed: int) -> "RunFolder":
        where = Path(out) / safe(env) / safe(method)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for extra in ("", *(f"-{i}" for i in range(2, 1000))):
            path = where / f"{seed}-{stamp}{extra}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as wrong:
                raise LogpiError(
                    f"The run folder {path} cannot be made ({wrong.strerror}): choose another with --out."
                ) from wrong
            (path / "lock").write_text(str(os.getpid()))
            return cls(path)
        raise LogpiError(f"{where} already has a thousand runs of this second: choose another folder with --out.")

    def describe(self, method: str, page: Any, settings: Any, options: Any, backend: str) -> None:
        """config.toml, command.txt and versions.json."""
        sections = {"method": {"name": method} | dataclasses.asdict(page), "run": dataclasses.asdict(settings)}
        sections["train"] = dataclasses.asdict(options)
        lines = [f"[{title}]\n" + "".join(_toml(k, v) for k, v in fields.items()) for title, fields in sections.items()]
        (self.path / "config.toml").write_text("\n".join(lines))
        (self.path / "command.txt").write_text(shlex.join(["logpi", *sys.argv[1:]]) + "\n")
        versions = {"logpi": __version__} | {
            name: version(name) for name in ("torch", "numpy", "gymnasium", "safetensors")
        }
        versions |= {"python": platform.python_version(), "platform": platform.platform(), "environments": backend}
        (self.path / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")

    def log(self, record: Record) -> None:
        """One line of JSON per iteration; timing last, outside every comparison."""
        row = {"iteration": record.iteration, "steps": record.steps} | record.metrics | {"seconds": record.seconds}
        with self.metrics.open("a") as file:
            file.write(json.dumps(finite(row)) + "\n")

    def status(self, state: str, more: dict[str, Any] | None = None) -> None:
        """status.json: running, finished, solved, stopped or failed."""
        (self.path / "status.json").write_text(
            json.dumps(finite({"state": state, "time": time.strftime("%FT%T")} | (more or {})), indent=1) + "\n"
        )
        if state != "running":
            (self.path / "lock").unlink(missing_ok=True)


def rows(run: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    file = run / "metrics.jsonl"
    if not file.is_file():
        raise LogpiError(f"{run} is not a run folder: it has no metrics.jsonl.")
    for number, line in enumerate(file.read_text().splitlines(), 1):
        try:
            yield json.loads(line)
        except ValueError as wrong:
            raise LogpiError(f"Line {number} of {file} is not JSON: remove it to read the rest.") from wrong


def safe(name: str) -> str:
    """A name as part of a path."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip("._") or "run"


def _toml(key: str, value: Any) -> str:
    if value is None:
        return f"# {key} is not set\n"
    if isinstance(value, float):
        return f"{key} = {value!r}\n"
    return f"{key} = {json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)}\n"


def finite(row: dict[str, Any]) -> dict[str, Any]:
    """None for NaN and infinities, which JSON does not have."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
