"""What folders of runs hold, and what runs differ in. Nothing here imports torch or numpy."""

import json
import math
import os
import re
import sys
import tomllib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from logpi.errors import LogpiError
from logpi.run.files import read_json
from logpi.run.folder import rows, status_of

MARKS = {"config.toml", "metrics.jsonl", "status.json"}  # a folder with one of these is a run's
TAIL = 16_384  # bytes at the end of metrics.jsonl that hold its last line
FRACTIONS = (0.5, 0.75, 0.9)


def find(folder: Path, depth: int = 6) -> list[Path]:
    """The run folders at or under a folder, by name. One that may not be looked into counts as a run: it is listed."""
    try:
        with os.scandir(folder) as found:
            inside = sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:  # removed while we looked
        return []
    except OSError:
        return [folder]
    if any(entry.name in MARKS for entry in inside):
        return [folder]
    deeper = [e for e in inside if depth and e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
    return [run for entry in deeper for run in find(Path(entry.path), depth - 1)]


def runs_of(folders: Sequence[Path]) -> list[Path]:
    """Every run at or under these folders, each once."""
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise LogpiError(f"{plain(str(folder))} is not a run folder: logpi runs lists the runs there are.")
        inside = find(folder)
        if not inside:
            raise LogpiError(f"There is no run in {plain(str(folder))}: logpi runs lists the runs there are.")
        for run in inside:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def asked(run: Path) -> dict[str, dict[str, Any]]:
    """The sections of a run's config.toml."""
    file = run / "config.toml"
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as wrong:
        raise LogpiError(f"{plain(str(run))} is not a run folder: it has no readable config.toml.") from wrong
    return {title: fields for title, fields in found.items() if isinstance(fields, dict)}


def summary(run: Path, now: float) -> dict[str, Any]:
    """A run in a line, from its small files and the tail of its log; what is damaged is 'unreadable', never an error."""
    *_, env, method, name = ("", "", *run.absolute().parts)
    seed = name.split("-")[0]
    line = {"env": env, "method": method, "seed": int(seed) if re.fullmatch(r"[0-9]{1,19}", seed) else None}
    line |= {"steps": None, "of": None, "return": None, "state": "unreadable", "age": None, "folder": str(run)}
    try:
        told, status, row = asked(run), status_of(run), last_row(run)
    except (OSError, ValueError, RecursionError):
        return line | {"age": _age(run, {}, now)}
    page, settings = told.get("method", {}), told.get("run", {})
    line |= {"env": str(settings.get("env", env)), "method": str(page.get("name", method))}
    line |= {"seed": number(settings.get("seed", line["seed"])), "of": number(settings.get("steps"))}
    line |= {key: number(row.get(key, status.get(key))) for key in ("steps", "return")}
    return line | {"state": status["state"], "age": _age(run, status, now)}


def last_row(run: Path) -> dict[str, Any]:
    """The last iteration in metrics.jsonl, {} before the first; ValueError where a whole line is not one."""
    file = run / "metrics.jsonl"
    if not file.is_file():
        return {}
    with file.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
        lines = log.read().split(b"\n")[:-1]  # what follows the last newline is torn, or nothing
    for line in reversed(lines):
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(row)
        if "error" not in row:
            return row
    return {}


def ordered(runs: list[dict[str, Any]], sort: str, reverse: bool = False) -> list[dict[str, Any]]:
    """Newest first, most steps and the highest return first, else ascending; what is not known stays last."""
    known = [run for run in runs if run[sort] is not None]
    known.sort(key=lambda run: run[sort], reverse=(sort in ("return", "steps")) != reverse)
    return known + [run for run in runs if run[sort] is None]


def differences(runs: list[Path]) -> dict[str, list[Any]]:
    """section.key -> its value in each run (None where it is not set), of [method], [run] and versions.json."""
    flat = []
    for run in runs:
        sections = {k: v for k, v in asked(run).items() if k in ("method", "run")}
        versions = read_json(run / "versions.json") if (run / "versions.json").is_file() else {}
        sections["versions"] = versions if isinstance(versions, dict) else {}
        flat.append({f"{title}.{key}": value for title, fields in sections.items() for key, value in fields.items()})
    order = ("method", "run", "versions")
    keys = sorted(dict.fromkeys(key for one in flat for key in one), key=lambda key: order.index(key.split(".")[0]))
    found = {key: [one.get(key) for one in flat] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def results(runs: list[Path], until: float | None = None) -> list[dict[str, Any]]:
    """What each run came to. `reached` is {return: steps} at `until`, else at fractions of the way that the runs went."""
    logs = [list(rows(run)) for run in runs]
    curves = [_means(log) for log in logs]
    heights = [height for curve in curves for _, height in curve]
    low, high = min((curve[0][1] for curve in curves if curve), default=0.0), max(heights, default=0.0)
    levels = [until] if until is not None else [low + f * (high - low) for f in FRACTIONS] if high > low else []
    return [
        _result(run, log, curve) | {"reached": {level: _first(curve, level) for level in levels}}
        for run, log, curve in zip(runs, logs, curves, strict=True)
    ]


def _result(run: Path, log: list[dict[str, Any]], curve: list[tuple[float, float]]) -> dict[str, Any]:
    steps = max((number(row.get("steps")) or 0 for row in log), default=None)
    seconds = sum(number(row.get("seconds")) or 0.0 for row in log)
    return {
        "state": status_of(run)["state"],
        "steps": steps,
        "return": number(log[-1].get("return")) if log else None,
        "best": max((height for _, height in curve), default=None),
        "evaluations": newest_evaluation(run),
        "seconds": round(seconds, 3),
        "steps_per_second": steps / seconds if steps and seconds else None,
    }


def _means(log: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """(steps, return) where the mean was over 100 episodes, which lucky first ones are not; else wherever there is one."""
    full = [row for row in log if (number(row.get("episodes", 100)) or 0) >= 100] or log
    points = [(number(row.get("steps")), number(row.get("return"))) for row in full]
    return [(x, y) for x, y in points if x is not None and y is not None]


def _first(curve: list[tuple[float, float]], level: float) -> float | None:
    return next((steps for steps, height in curve if height >= level), None)


def newest_evaluation(run: Path) -> dict[str, dict[str, Any]]:
    """'deterministic' and 'sampled' -> mean, interval_95 and episodes, of the newest readable file in eval/."""
    files = [(file.stat().st_mtime, file) for file in (run / "eval").glob("*.json")]
    for _, file in sorted(files, reverse=True):
        try:
            kinds = read_json(file)["evaluations"]
            return {
                "deterministic" if kind["deterministic"] else "sampled": {
                    "mean": number(kind["mean"]),
                    "interval_95": number(kind["interval_95"]),
                    "episodes": len(kind["returns"]),
                }
                for kind in kinds
            }
        except (LogpiError, KeyError, TypeError):
            continue
    return {}


def number(x: Any) -> Any:
    """x where it is a finite number, else None."""
    return x if isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= sys.float_info.max else None


def figure(x: float | None) -> str:
    """A number to read: 49.4, 1,234.5, 0.00321; '-' for None."""
    if x is None:
        return "-"
    return f"{x:,.1f}" if x == 0 or abs(x) >= 10 else f"{x:.3g}"


def plain(text: str) -> str:
    """Text with what is not printable (escape sequences, marks that turn the line round) spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def ago(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def _age(run: Path, status: dict[str, Any], now: float) -> float | None:
    """Seconds since a run began, as its folder's name tells; since its last status where the name does not."""
    stamp = re.search(r"-([0-9]{8})-([0-9]{6})", run.name)
    try:
        began = datetime.fromisoformat("T".join(stamp.groups()) if stamp else str(status.get("time")))
        return round(now - began.timestamp(), 1)
    except (ValueError, OverflowError, OSError):
        return None


def printer(wrap: bool = True) -> Console:
    """Where tables are printed, text as it stands: a terminal wraps within the columns, a pipe keeps each row in one line."""
    width = None if wrap and sys.stdout.isatty() else 100_000
    return Console(highlight=False, markup=False, emoji=False, width=width)


def finite(x: Any) -> Any:
    """JSON has no NaN and no infinity: null, in records and lists too."""
    if isinstance(x, dict):
        return {k: finite(v) for k, v in x.items()}
    if isinstance(x, list):
        return [finite(v) for v in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x
