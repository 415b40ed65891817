"""Damage done to the checkpoints of a run, one attack at a time and undone afterwards, and whether anything takes it all the same.

`damage(run, 1000, "flip", seed)` is the soak's; the tests call it small. Nothing here needs pytest.
"""

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import logpi
from logpi.errors import LogpiError
from logpi.methods import PPO
from logpi.run import checkpoint
from logpi.run.resume import go_on, misfit
from logpi.run.setup import Settings
from logpi.run.train import Options, train

QUIET = {"quiet": True, "evaluate": 0}


@dataclass
class Outcome:
    """Of one attack: what was damaged, what was said of it, and what should have been otherwise (nothing, if all is well)."""

    kind: str
    files: list[Path]
    said: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass
class Attack:
    """What an attack has changed: the checkpoints that are not whole any more, and what each is told by."""

    victims: dict[Path, Path]  # checkpoint -> the file that a sentence must name
    says: str = ""  # and a part of it


def small_run(out: Path, steps: int = 320, save_every: int = 64, keep: int = 9, **settings: object) -> Path:
    """A finished run of a second, with normalisers, a critic and a checkpoint every few iterations."""
    page, given = PPO(envs=2, length=8), {"hidden": (4,), "steps": steps, "normalise_obs": True} | settings
    options = {"out": str(out), "save_every": save_every, "keep": keep, "plot": False, "recipe": "none"}
    return train("ppo", page, Settings(**given), Options(**options | QUIET))  # type: ignore[arg-type]


def again(run: Path, steps: int | None = None) -> Path:
    """What `logpi resume RUN` does."""
    return go_on(
        run, {} if steps is None else {"steps": steps}, dict(QUIET), {"method": None, "env": None, "network": None}
    )


def checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step-*"))


def damage(run: Path, count: int, kind: str, seed: int) -> list[Outcome]:
    """`count` attacks of a kind (flip, truncate, delete, swap, rename, log) on a run of at least three checkpoints.

    The first attacks go through all files in turn, the others choose by size: trainer.safetensors is hit most.
    """
    chance, outcomes = random.Random(f"{kind} {seed}"), []
    folders = checkpoints(run)
    for number in range(count):
        with undone(run):
            attack = KINDS[kind](run, folders, number, chance)
            outcomes.append(judge(run, folders, kind, attack))
    return outcomes


@contextlib.contextmanager
def undone(run: Path) -> Iterator[None]:
    """Afterwards every file of the run holds what it held before; nothing else is left."""
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    try:
        yield
    finally:
        for file in run.rglob("*"):
            if file.is_file() and file not in before:
                file.unlink()
        for file, data in before.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists() or file.read_bytes() != data:
                file.write_bytes(data)


def chosen(folders: list[Path], number: int, chance: random.Random) -> Path:
    """Every file once, then by size."""
    files = [file for folder in folders for file in sorted(folder.iterdir())]
    if number < len(files):
        return files[number]
    return chance.choices(files, [file.stat().st_size for file in files])[0]


def flip(run: Path, folders: list[Path], number: int, chance: random.Random) -> Attack:
    file = chosen(folders, number, chance)
    flip_bit(file, chance.randrange(8 * file.stat().st_size))
    return Attack({file.parent: file})


def flip_bit(file: Path, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def truncate(run: Path, folders: list[Path], number: int, chance: random.Random) -> Attack:
    file = chosen(folders, number, chance)
    data = file.read_bytes()
    file.write_bytes(data[: chance.randrange(len(data))])
    return Attack({file.parent: file})


def delete(run: Path, folders: list[Path], number: int, chance: random.Random) -> Attack:
    file = chosen(folders, number, chance)
    file.unlink()
    return Attack({file.parent: file})


def swap(run: Path, folders: list[Path], number: int, chance: random.Random) -> Attack:
    """One file of a checkpoint with the same file of another, where they are not the same to the byte."""
    one, other = chance.sample(folders, 2)
    names = [f.name for f in sorted(one.iterdir()) if f.read_bytes() != (other / f.name).read_bytes()]
    a, b = (folder / names[number % len(names)] for folder in (one, other))
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    return Attack({one: a, other: b})


def rename(run: Path, folders: list[Path], number: int, chance: random.Random) -> Attack:
    """Two whole checkpoints change names."""
    one, other = chance.sample(folders, 2)
    contents = [{f.name: f.read_bytes() for f in folder.iterdir()} for folder in (one, other)]
    for folder, files in zip((other, one), contents, strict=True):
        for name, data in files.items():
            (folder / name).write_bytes(data)
    return Attack({folder: folder / "manifest.json" for folder in (one, other)})


def log(run: Path, folders: list[Path], number: int, chance: random.Random) -> Attack:
    """A bit of metrics.jsonl before what the newest checkpoint has logged: who has logged it too cannot go on."""
    file, marks = run / "metrics.jsonl", {folder: checkpoint.unseal(folder)["log"]["bytes"] for folder in folders}
    bit = chance.randrange(8 * marks[folders[-1]])
    flip_bit(file, bit)
    return Attack(
        {f: f for f in folders if marks[f] > bit // 8},
        "does not begin with what was logged up to it: put the file back",
    )


KINDS: dict[str, Callable[..., Attack]] = {
    "flip": flip,
    "truncate": truncate,
    "delete": delete,
    "swap": swap,
    "rename": rename,
    "log": log,
}


def judge(run: Path, folders: list[Path], kind: str, attack: Attack) -> Outcome:
    """Every reader must refuse every victim by name, and a run must go on from the newest checkpoint that is whole."""
    outcome = Outcome(kind, [*attack.victims.values()])
    readers = (checkpoint.verify, logpi.load, logpi.resume) if kind != "log" else ()
    for victim, file in attack.victims.items():
        for reader in readers:
            said = sentence(lambda reader=reader, victim=victim: _first(reader(victim)))
            outcome.said.append(said)
            if not names(said, victim, file):
                outcome.faults.append(f"{reader.__name__} of {file}: {said}")
    whole = [folder for folder in folders if folder not in attack.victims]
    try:
        found, skipped = checkpoint.choose(run, lambda manifest: misfit(run, manifest))
    except LogpiError as none:
        found, skipped = None, [str(none)]
    outcome.said += skipped
    if found != (whole[-1] if whole else None):
        outcome.faults.append(f"{found} was chosen, not {whole[-1] if whole else None}")
    newer = [f for f in reversed(folders) if not whole or f > whole[-1]][: len(skipped)]
    outcome.faults += [
        f"{folder} was skipped with {said}"
        for folder, said in zip(newer, skipped, strict=True)
        if folder.name not in said or attack.says not in said
    ]
    return outcome


def sentence(reader: Callable[[], object]) -> str:
    """What a reader says against a damaged checkpoint."""
    try:
        reader()
    except LogpiError as refused:
        return str(refused)
    except Exception as crash:
        return f"CRASH {type(crash).__name__}: {crash}"
    return "SILENT"


def _first(x: object) -> None:
    """`logpi.resume` is a generator: it begins when it is asked."""
    if isinstance(x, Iterator):
        next(x, None)


def names(said: str, victim: Path, file: Path) -> bool:
    """One line with the damaged file; a manifest of another format is told by its checkpoint."""
    told = str(file) in said or (file.name == "manifest.json" and f"The checkpoint {victim} has " in said)
    return told and not said.startswith("CRASH") and "\n" not in said


def recovers(run: Path, kind: str, seed: int, work: Path) -> tuple[Path, Path, list[str]]:
    """A copy of a finished run whose newest checkpoint is damaged, resumed: (copy, the damaged file, what differs)."""
    from exams import differences  # beside this file

    copy = work / f"{kind}-{seed}"
    shutil.copytree(run, copy)
    last = checkpoints(copy)[-1:]
    attack = KINDS[kind](copy, last, seed, random.Random(seed))
    again(copy)
    return copy, attack.victims[last[0]], differences(run, copy)
