"""The exam at its full size: kills, damage, signals, workers; writes benchmarks/soak.json and docs/reliability.md.

python benchmarks/soak.py [EXAM ...] [--jobs 2]        (make soak)
The same functions run small in tests/survival and tests/workers.
"""

import signal
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
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
    exams.finish(exams.train("ppo", "discrete", 6_000, straight, "--save-every 300"))
    codes = {signal.SIGINT: 130, signal.SIGTERM: 143}
    told = [
        exams.stop("ppo", "discrete", list(codes)[i % 2], i, out / str(i), exams.the_run(straight)) for i in range(50)
    ]
    seconds = sorted(t.seconds for t in told)
    return {
        "signals": len(told),
        "exit codes as promised": sum(t.code == codes[t.number] for t in told),
        "resumed bit-identical": sum(t.whole and not t.differences for t in told),
        "seconds until the process had ended, median": round(statistics.median(seconds), 2),
        "seconds, worst": round(seconds[-1], 2),
        "wrong": [str(t) for t in told if t.differences or t.code != codes[t.number] or t.seconds > 2],
    }
