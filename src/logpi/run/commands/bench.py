"""logpi bench [METHOD] [flags]"""

import dataclasses
import json as json_room
import sys
from typing import Any

from rich.table import Table

from logpi.envs import NATIVE
from logpi.errors import LogpiError
from logpi.page import Positive, option, page
from logpi.run import bench_language as language
from logpi.run.bench import HIGH, Report, measure
from logpi.run.commands.train import CODE, defaults
from logpi.run.flags import parse, peek, together, typed
from logpi.run.language import Text
from logpi.run.setup import Settings, find_method
from logpi.run.table import finite, plain, printer
from logpi.run.worlds import must_mean_something
from logpi.workers import work

WHAT = """Where the time goes: the loop that logpi train would run, taken apart while it runs, each part beside its floor, and
what limits it. Nothing is written. METHOD, the first word, is ppo unless it is given; flags are those of logpi train METHOD.
Language models, grpo unless it is given: logpi bench METHOD --task NAME --help"""
WASTED = 0.2  # of the steps, from which on it is told
WORTH = 2e-4  # seconds of a step of all environments from which on processes pay for their pipes
UNITS = {"segments": "--envs", "episodes": "--episodes", "groups": "--starts"}
MEANS = {
    "environment": "the environments' own step and reset",
    "inference": "the policy's forward and sampling",
    "transfer": "the rest of the rollout: copies, conversions, pipes",
    "values": "the critic on the batch",
    "credit": "psi",
    "update": "forward, backward, optimiser",
    "rest": "of the loop: measurements, normalisers",
}


@page
class Bench:
    """Of the measurement itself."""

    seconds: Positive = 4.0  # of measuring; slow iterations take longer
    recipe: str = "auto"  # tuned settings by method and environment; none: the page's own values
    config: str | None = None  # my.toml with [method] and [run]; flags win over it
    init: str | None = None  # run whose weights are measured; else new ones
    json: bool = False  # one object for scripts


def main(args: list[str]) -> None:
    first = "grpo" if {"task", "data"} & {*typed(args)} else "ppo"
    name, rest = (first, args) if not args or args[0].startswith("-") else (args[0], args[1:])
    method = find_method(name)
    taken = {"name", *(f.name for f in dataclasses.fields(Bench))} & {f.name for f in dataclasses.fields(method)}
    if taken:
        raise LogpiError(f"{name} has a field {min(taken)}, which logpi bench uses itself: give it another name.")
    told = peek(rest, (*CODE, "data", "model", "wrap", "reward", "config", "recipe", "init"))
    (start, settings, _), _, _ = defaults(name, method, told, typed(rest))
    groups = [("method", type(method), start), ("run", type(settings), settings), ("bench", Bench, Bench())]
    given = parse(together(groups), rest, f"logpi bench {name}", WHAT)
    must_mean_something(typed(rest), given.method, given.run, "--")
    texts, how = isinstance(given.run, Text), given.bench
    look, judge = (language.measure, language.verdict) if texts else (measure, verdict)
    found: Any = look(name, given.method, given.run, how.seconds, lambda text: print(text, file=sys.stderr), how.init)
    limit, sentence = judge(found, given.run, given.method)
    if how.json:
        where = {"task": given.run.where, "model": given.run.model} if texts else {"env": given.run.env}
        about = {"method": name} | where | {"limit": limit, "verdict": sentence}
        print(json_room.dumps(finite(about | dataclasses.asdict(found)), indent=1))
    elif texts:
        show_texts(found, f"{name} on {given.run.where}: {given.run.model}", sentence)
    else:
        show(found, f"{name} on {given.run.env}", sentence)


def show(found: Report, title: str, sentence: str) -> None:
    first, console, m = found.loops[0], printer(), found.machine
    where = f"{found.workers} workers" if found.workers else f"{m['cores']} cores, --threads {m['threads']}"
    console.print(plain(f"{title}: {found.envs} {found.backend} environments, {where}"))
    speed = f"{path(found)} loop: {first['steps_per_second']:,.0f} steps/s"
    if found.ratio is not None:
        speed += f", {found.ratio:.3g} times the plain one's {found.loops[1]['steps_per_second']:,.0f}"
    console.print(f"{speed}\n")
    console.print(table(found.loops, found.floors, MEANS, found.ratio))
    sums, rate, copies = m["multiply_adds_per_step"], m["gflops"], m["copy_gb_per_s"]
    console.print(f"""
us: microseconds for each action taken; the clock's own {first["clock"]:.1%} is subtracted
floors: the environment alone with random actions; {sums:,.0f} multiply-adds a step at this machine's {rate:.3g} GFLOP/s;
a copy of the batch at {copies:.3g} GB/s""")
    for line in (*found.notes, *(f"plain path: {reason}" for reason in found.reasons), "", sentence):
        console.print(plain(line))


def show_texts(found: language.Report, title: str, sentence: str) -> None:
    first, console, m, room = found.loops[0], printer(), found.machine, found.memory
    answers = f"{found.answers} answers of {figure(found.length)} tokens an iteration"
    console.print(plain(f"{title}, {answers}, {m['cores']} cores, --threads {m['threads']}"))
    console.print(f"{first['steps_per_second']:,.0f} tokens/s\n")
    console.print(table(found.loops, found.floors, language.MEANS))
    kept = {name.replace("_", " "): x for name, x in room.items() if x and name not in ("peak", "before", "floor")}
    console.print(f"""
us: microseconds for each token sampled; the clock's own {first["clock"]:.1%} is subtracted
floors: {m["multiply_adds_per_token"]:,.0f} multiply-adds a token, attention's own left out, at this machine's {m["gflops"]:.3g} GFLOP/s;
of sampling also {mib(m["weight_bytes"])} of weights for each token position at {m["read_gb_per_s"]:.3g} GB/s: its {found.bound} is more
memory: {mib(room["peak"])} at its peak, {mib(room["before"])} before there was a model; floor {mib(room["floor"])}:
{", ".join(f"{name} {mib(x)}" for name, x in kept.items())}""")
    for line in (*found.notes, "", sentence):
        console.print(plain(line))


def mib(size: float) -> str:
    return f"{figure(size / 2**20)} MiB"


def path(found: Report) -> str:
    return "fused" if found.fused else "plain"


def table(
    loops: list[dict[str, Any]], floors: dict[str, float | None], means: dict[str, str], ratio: float | None = None
) -> Table:
    first, other = loops[0], loops[1] if len(loops) > 1 else None
    shown = Table(box=None, header_style="bold", pad_edge=False)
    shown.add_column("part")
    for title in ("share", "us", "floor", "floor/us", *(("plain us", "plain/fused") if other else ())):
        shown.add_column(title, justify="right")
    shown.add_column("")
    for part, us in first["us_of"].items():
        floor = floors[part]
        cells = [f"{first['share'][part]:.1%}", figure(us), figure(floor), f"{floor / us:.0%}" if floor and us else "-"]
        if other:
            slow = other["us_of"][part]
            cells += [figure(slow), figure(slow / us if us else None)]
        shown.add_row(part, *cells, means[part])
    cells = ["100.0%", figure(first["us"]), "", ""]
    shown.add_row("all", *cells, *([figure(other["us"]), figure(ratio)] if other else []), "")
    return shown


def figure(x: float | None) -> str:
    """0.0123, 12.3, 1,234."""
    return "-" if x is None else f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def verdict(found: Report, settings: Settings, method: Any) -> tuple[str, str]:
    """(the part that takes most, a sentence: what limits, and what would help)."""
    shares = found.loops[0]["share"]
    limit = max(shares, key=lambda part: shares[part])
    advice = {"environment": of_environment, "inference": of_network, "update": of_network, "values": of_network}
    advise = advice.get(limit, of_ours)
    return limit, f"The {NAMES.get(limit, limit)} takes {shares[limit]:.0%}: {advise(found, limit, settings, method)}."


NAMES = {"values": "critic's look at the batch", "credit": "credit (psi)", "rest": "rest of the loop"}


def of_environment(found: Report, limit: str, settings: Settings, method: Any) -> str:
    share, alone, cores = found.loops[0]["share"][limit], found.alone, work.cores()
    if found.backend == "native":
        return "it steps in arrays already, and more environments at a time share what a call costs"
    gives = f"{1 / alone.seconds:,.0f} steps/s is all it gives on one core"
    if found.wasted > WASTED:
        gives += f", and {found.wasted:.0%} of them are thrown away while rows wait for the longest episode"
    if found.workers:
        most = work.workers_for(found.envs, alone.at_work)
        more = (
            f"--workers {most} may help" if most > found.workers else "only more cores, or a faster environment, help"
        )
        return f"{gives}; {found.workers} workers share {cores} cores: {more}"
    if settings.env in NATIVE and settings.backend != "auto":
        return f"{gives}; --backend auto steps it natively"
    n = found.envs if found.envs * alone.seconds > WORTH or method.rows != "segments" else max(8, found.envs)
    workers = work.workers_for(n, alone.at_work)
    if found.backend != "sync" or workers < 2 or n * alone.seconds < WORTH:
        return f"{gives}; its steps are too short for processes of their own: only a faster environment would help"
    more = f"--envs {n} --length {max(1, option(method, 'length') * found.envs // n)} " if n > found.envs else ""
    times = 1 / (1 - share + share * alone.in_processes(workers) / alone.seconds)
    return f"{gives}; {more}--backend async with {workers} workers may make the whole up to {times:.2g} times as fast"


def of_network(found: Report, limit: str, settings: Settings, method: Any) -> str:
    part = (found.floors[limit] or 0.0) / found.loops[0]["us_of"][limit] / (1 - min(0.9, found.lost))
    runs = f"it runs at {100 * part:.2g}% of this machine's arithmetic"
    if not found.fused:
        threads = (
            f"; --threads {work.cores()} may help" if part > HIGH and found.machine["threads"] < work.cores() else ""
        )
        return f"{runs}, on the plain path because {why(found, settings)}{threads}"
    if found.reasons:
        return f"{runs}, and part of it is on the plain path because {'; '.join(found.reasons)}"
    if limit == "inference" and part < HIGH:
        return f"{runs}, fused; more environments at a time ({UNITS[method.rows]}) share what a call costs"
    less = "fewer passes over the batch, a smaller network" if limit == "update" else "a smaller network"
    return f"{runs}, fused; only {less} or a faster processor would help"


def of_ours(found: Report, limit: str, settings: Settings, method: Any) -> str:
    """What is around environment and networks."""
    if limit == "transfer" and found.workers:
        us, own = found.loops[0]["us_of"][limit], 1e6 * found.alone.seconds
        if us > own or found.workers == 1:
            return f"pipes and processes take {us:.3g} us a step, the environment itself {own:.3g}; --backend sync is likely faster"
        late = f"{found.workers} workers on {found.machine['cores']} cores answer later than the environment's {own:.3g} us a step ask for"
        return f"{late}; another number (--workers), or nothing else at work on this machine, may help"
    if not found.fused:
        return f"it is Python around short steps, on the plain path because {why(found, settings)}"
    return f"it is Python around short steps; more environments at a time ({UNITS[method.rows]}) share it"


def why(found: Report, settings: Settings) -> str:
    """Why a loop is not fused, in the words that follow 'because'."""
    if settings.fast == "off":
        return "of --fast off"
    if found.reasons:
        return "; ".join(found.reasons)
    if settings.dtype != "float32" or found.device != "cpu":
        return f"fused kernels are for float32 on the CPU, and this is {settings.dtype} on {found.device}"
    return 'the fused kernels are not installed: pip install "logpi[fast]"'
