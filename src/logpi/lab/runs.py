"""Runs for the lab: which there are, and the curves of the chosen ones. Only small files and metrics.jsonl are read, by offset."""

import json
import math
import threading
import time
from array import array
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from logpi.run.bootstrap import bootstrap
from logpi.run.plot import Run, described, grouped, mean_curve
from logpi.run.table import MARKS, find, finite, number, ordered, summary

KEYS = {
    "return": "return",
    "eval_return": "return of evaluation episodes",
    "kl": "KL to the policy before the update",
    "entropy": "entropy",
    "grad_snr": "signal to noise of the gradient",
    "steps_per_second": "steps per second",
}
POINTS = 800  # of one line
CHUNK = 8_000_000  # bytes read at once
PROOF = 64  # bytes before an offset by which a log is known to be the same
OPEN = 64  # logs whose columns are kept


class Log:
    """The columns of one metrics.jsonl; `follow` reads on from where it stopped."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._clear()

    def _clear(self) -> None:
        self.offset, self.proof, self.damaged, self.seconds, self.before = 0, b"", 0, 0.0, math.nan
        self.x: dict[str, array] = {name: array("d") for name in ("steps", "seconds", "iteration")}
        self.at: dict[str, array] = {key: array("q") for key in KEYS}  # the rows that have the key
        self.y: dict[str, array] = {key: array("d") for key in KEYS}

    def follow(self) -> None:
        """Whole lines only: a torn last one is read when it is whole. A log that was cut, as by a resume, is read anew."""
        if not self.file.is_file():
            return
        with self.file.open("rb") as log:
            log.seek(max(0, self.offset - len(self.proof)))
            if log.read(len(self.proof)) != self.proof:
                self._clear()
            log.seek(self.offset)
            rest = b""
            while chunk := log.read(CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(line)
            end = log.tell() - len(rest)
            log.seek(max(0, end - PROOF))
            self.offset, self.proof = end, log.read(min(PROOF, end))

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            self.damaged += 1
            return
        if "error" in row:
            return
        steps, seconds = _float(row.get("steps")), _float(row.get("seconds"))
        self.seconds += seconds if seconds == seconds else 0.0
        place = len(self.x["steps"])
        if place and seconds > 0:  # the first row's seconds hold what was made before it
            row["steps_per_second"] = (steps - self.before) / seconds
        self.before = steps
        self.x["steps"].append(steps)
        self.x["seconds"].append(self.seconds)
        self.x["iteration"].append(_float(row.get("iteration")))
        for key in KEYS:
            if key in row:
                self.at[key].append(place)
                self.y[key].append(_float(row[key]))

    def curve(self, key: str, x: str) -> tuple[np.ndarray, np.ndarray]:
        """(x, y) from the first number on; NaN where the log has null."""
        at, y = np.array(self.at[key]), np.array(self.y[key])
        places = np.array(self.x[x])[at] if len(at) else np.empty(0)
        first = int(np.argmax(np.isfinite(y))) if np.isfinite(y).any() else len(y)
        known = np.isfinite(places[first:])
        return places[first:][known], y[first:][known]


def _float(x: Any) -> float:
    known = number(x)
    return math.nan if known is None else float(known)


def thin(x: np.ndarray, y: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most 3/2 `points` of the points: of each bucket of neighbours the lowest, the highest, and its first NaN."""
    n, buckets = len(y), points // 2
    if n <= points:
        return x, y
    width = -(-n // buckets)
    padded = np.full(buckets * width, np.nan)
    padded[:n] = y
    table = padded.reshape(buckets, width)
    real = (np.arange(buckets * width) < n).reshape(buckets, width)
    known = np.isfinite(table)
    lost = real & ~known
    starts = np.arange(buckets) * width
    low, high = np.where(known, table, np.inf).argmin(1), np.where(known, table, -np.inf).argmax(1)
    has, torn = known.any(1), lost.any(1)
    kept = np.unique(np.concatenate([(starts + low)[has], (starts + high)[has], (starts + lost.argmax(1))[torn]]))
    return x[kept], y[kept]


class Board:
    """The runs under a folder. A run is named by its path below it; nothing outside is ever opened."""

    def __init__(self, root: Path) -> None:
        self.root, self.logs, self.lock = root, dict[str, Log](), threading.Lock()

    def every(self) -> list[dict[str, Any]]:
        """Every run in a line, newest first."""
        if not self.root.is_dir():
            return []
        names = [run.relative_to(self.root).as_posix() for run in find(self.root)]
        known = [(name, run) for name in names if (run := self.inside(name)) is not None]
        lines = [summary(run, time.time()) | {"id": name} for name, run in known]
        return ordered([{k: v for k, v in line.items() if k != "folder"} for line in lines], "age")

    def inside(self, name: str) -> Path | None:
        """The run folder of that name; None for whatever else a client may think of."""
        pure = PurePosixPath(name)
        if not name or pure.is_absolute() or ".." in pure.parts or "\0" in name:
            return None
        run = self.root / pure
        try:
            inside = run.resolve(strict=True).is_relative_to(self.root.resolve())
            files = [run / mark for mark in MARKS if (run / mark).exists()]
            plain = files and all(file.is_file() and not file.is_symlink() for file in files)
        except OSError:
            return None
        return run if inside and plain else None

    def stamp(self, names: Sequence[str]) -> list[Any]:
        """What changes when a run has gone on: size and time of its log, time of its status."""
        found = []
        for name in names:
            for file in ("metrics.jsonl", "status.json"):
                try:
                    stat = (self.root / name / file).stat()
                    found.append((stat.st_size, stat.st_mtime_ns))
                except OSError:
                    found.append((0, 0))
        return found

    def picture(self, names: Sequence[str], x: str) -> dict[str, Any]:
        """The chosen runs and, for each quantity that one of them has, its curves; runs that differ in the seed only are a group."""
        logs = {name: log for name in names if (log := self._log(name)) is not None}
        told = {name: described(self.root / name) for name in logs}
        charts = []
        for key, title in KEYS.items():
            curves = {name: log.curve(key, x) for name, log in logs.items()}
            if any(len(y) for _, y in curves.values()):
                charts.append({"key": key, "title": title, "groups": _groups(curves, told)})
        about = [{"id": n, **_line(self.root / n), "damaged": log.damaged} for n, log in logs.items()]
        return {"x": x, "runs": about, "charts": charts}

    def _log(self, name: str) -> Log | None:
        run = self.inside(name)
        with self.lock:
            log = self.logs.pop(name, None) or Log(self.root / name / "metrics.jsonl")
            if run is None:
                return None
            log.follow()
            self.logs[name] = log
            while len(self.logs) > OPEN:
                self.logs.pop(next(iter(self.logs)))
        return log


def _line(run: Path) -> dict[str, Any]:
    return finite({k: v for k, v in summary(run, time.time()).items() if k != "folder"})


def _groups(curves: dict[str, tuple[np.ndarray, np.ndarray]], told: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    runs = []
    for name, (x, y) in curves.items():
        known = np.isfinite(y)
        runs.append(Run(**told[name], x=x[known], y=y[known], names={name}))
    found = []
    for env in dict.fromkeys(run.env for run in runs):
        for label, group in grouped([run for run in runs if run.env == env]):
            ids = [next(iter(run.names)) for run in group]
            lines = [{"run": name, **_points(*thin(*curves[name]))} for name in ids]
            found.append({"name": f"{label} on {env}", "lines": lines, "mean": _mean(group)})
    return found


def _points(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """null where there is no number."""
    return {"x": x.tolist(), "y": [value if math.isfinite(value) else None for value in y.tolist()]}


def _mean(group: list[Run]) -> dict[str, Any] | None:
    """The mean over seeds and its 95 % bootstrap interval, where there are several that share a range."""
    group = [run for run in group if len(run.x)]
    if len(group) < 2:
        return None
    grid, samples = mean_curve(group)
    if not len(grid):
        return None
    low, high = bootstrap(samples)
    return {"x": grid.tolist(), "y": samples.mean(0).tolist(), "low": low.tolist(), "high": high.tolist()}
