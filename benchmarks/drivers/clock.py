"""What every driver needs: its settings, and a clock that leaves out the first tenth of a run."""

import json
import sys
import time
from importlib.metadata import PackageNotFoundError, version

asked = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}


class Clock:
    """Steps per second after the first tenth: `tick` at the end of each iteration, then `rate`."""

    def __init__(self, steps: int) -> None:
        self.steps, self.began, self.first, self.ended, self.last = steps, None, 0, 0.0, 0
        self.until = time.perf_counter() + asked.get("seconds", float("inf"))

    def tick(self, done: int) -> None:
        now = time.perf_counter()
        if self.began is None and (done >= self.steps / 10 or "seconds" in asked):
            self.began, self.first = now, done
        self.ended, self.last = now, done

    @property
    def over(self) -> bool:
        """Has the time run out that was given?"""
        return time.perf_counter() > self.until

    def rate(self) -> float:
        return (self.last - self.first) / (self.ended - self.began)


def tell(value: float | None, packages: str, **more: object) -> None:
    """The driver's last line. value None: the wall time of the whole process."""
    versions = {}
    for package in packages.split():
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    print(json.dumps({"value": value, **more, "versions": versions}), flush=True)
