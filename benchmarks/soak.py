"""The exam at its full size: kills, damage, signals, workers; writes benchmarks/soak.json and docs/reliability.md.

python benchmarks/soak.py [EXAM ...] [--jobs 2]        (make soak)
The same functions run small in tests/survival and tests/workers.
"""

import argparse
import datetime
import json
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / room) for room in ("survival", "workers")]

import exams  # noqa: E402

METHODS = ("reinforce", "baseline", "actor_critic", "a2c", "npg", "trpo", "ppo", "ppo_kl", "mdpo", "grpo", "rloo")


def kills(out: Path, jobs: int) -> dict:
    """100 SIGKILLs over every method and both kinds of action."""
    pairs = [(m, w) for m in METHODS for w in exams.WORLDS]
    todo = [(m, w, 100 // len(pairs) + (i < 100 % len(pairs)), 1000 + i) for i, (m, w) in enumerate(pairs)]
    with ThreadPoolExecutor(jobs) as pool:
        told = list(pool.map(lambda c: exams.kill(*c, out=out / f"{c[0]}-{c[1]}"), todo))
    wrong = [f"{m} {w}: {d}" for (m, w, *_), t in zip(todo, told, strict=True) for d in t.differences]
    wrong += [f"{m} {w}: {t.kills} kills of {n}" for (m, w, n, _), t in zip(todo, told, strict=True) if t.kills < n]
    return {
        "kills": sum(t.kills for t in told),
        "runs": len(told),
        "runs bit-identical": sum(not t.differences for t in told),
        "moments (steps on record)": [t.moments for t in told],
        "wrong": wrong,
    }


def signals(out: Path, jobs: int) -> dict:
    """50 SIGTERM and SIGINT at random moments, every one resumed."""
    straight = out / "straight"
    exams.finish(exams.train("ppo", "discrete", exams.LONG, straight, "--save-every 3000"))
    codes = {signal.SIGINT: 130, signal.SIGTERM: 143}
    with ThreadPoolExecutor(jobs) as pool:
        told = list(
            pool.map(lambda i: exams.stop([*codes][i % 2], i, out / str(i), exams.the_run(straight)), range(50))
        )
    seconds = sorted(t.seconds for t in told)
    return {
        "signals": len(told),
        "exit codes as promised": sum(t.code == codes[t.number] for t in told),
        "resumed bit-identical": sum(t.whole and not t.differences for t in told),
        "seconds until the process had ended, median": round(statistics.median(seconds), 2),
        "seconds, worst": round(seconds[-1], 2),
        "wrong": [str(t) for t in told if t.differences or t.code != codes[t.number] or t.seconds > 2],
    }


def damage(out: Path, jobs: int) -> dict:
    """1300 attacks on the files of checkpoints, and more on names and the log."""
    import exams_damage

    run = exams_damage.small_run(out / "run")
    counts = {"flip": 1000, "truncate": 200, "delete": 50, "swap": 50, "rename": 50, "log": 100}
    told = {kind: exams_damage.damage(run, count, kind, 7) for kind, count in counts.items()}
    wrong = [str(o) for outcomes in told.values() for o in outcomes if o.faults]
    return {f"{kind}: refused of {len(x)}": sum(not o.faults for o in x) for kind, x in told.items()} | {"wrong": wrong}


def workers(out: Path, jobs: int) -> dict:
    """Environments that die, hang, raise or lie, and parents that are killed."""
    import scenarios
    from breaking import Deadly, Flaky

    found = {"100 kills": scenarios.kills(100), "20 hangs": scenarios.hangs(20)}
    found |= {f"20 x {way}": scenarios.failures(way, 20) for way in ("raise", "shape", "dtype")}
    found["whole episodes, 100 that raise"] = scenarios.whole_episodes(100, Flaky)
    found["whole episodes, 40 that die"] = scenarios.whole_episodes(40, Deadly)
    found["50 parents killed"] = scenarios.parent_deaths(50, out)
    return found | {"wrong": []}


EXAMS: dict[str, Callable[[Path, int], dict]] = {
    "kills": kills,
    "damage": damage,
    "signals": signals,
    "workers": workers,
}


def page(found: dict[str, dict]) -> Iterator[str]:
    """docs/reliability.md from benchmarks/soak.json."""
    yield "# What was tried to break a run\n"
    yield "Written by `make soak` (`python benchmarks/soak.py`); CI runs the same exams small, with every change.\n"
    for name, told in found.items():
        yield f"## {name}\n\n{EXAMS[name].__doc__}\n"
        yield f"{told['date']}, {told['versions']}, {told['seconds']} s.\n"
        yield "| | |\n|---|---|"
        for key, value in told["result"].items():
            if isinstance(value, dict):
                yield from (f"| {key}: {k} | {v} |" for k, v in value.items())
            elif key == "wrong":
                yield f"| wrong | {'; '.join(value) or 'nothing'} |"
            elif not isinstance(value, list):
                yield f"| {key} | {value} |"
        yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exams", nargs="*", choices=[[], *EXAMS], help=", ".join(EXAMS))
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    file = HERE / "soak.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    for name in asked.exams or EXAMS:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            result = EXAMS[name](Path(folder), asked.jobs)
        versions = f"torch {version('torch')}, Python {platform.python_version()}, {platform.system()}"
        today = datetime.date.today().isoformat()
        seconds = round(time.perf_counter() - began)
        found[name] = {"date": today, "versions": versions, "seconds": seconds, "result": result}
        print(name, json.dumps(result, indent=1), flush=True)
        ordered = {name: found[name] for name in EXAMS if name in found}
        file.write_text(json.dumps(ordered, indent=1) + "\n")
        (HERE.parent / "docs" / "reliability.md").write_text("\n".join(page(ordered)).rstrip() + "\n")
    sys.exit(any(found[name]["result"]["wrong"] for name in asked.exams or EXAMS))


if __name__ == "__main__":
    main()
