"""Trackers: TensorBoard, W&B and trackio as views of metrics.jsonl, which stays the log of record.

A view is always made from the first row on, and replaces the one before it: nothing is shown twice, however often a run
is resumed or its view made again. Nothing here logs in anywhere, or asks to.
"""

import contextlib
import io
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from logpi.errors import LogpiError, nearest
from logpi.run import config
from logpi.run.folder import rows, safe


class View(NamedTuple):
    """One tracker's side of a run."""

    write: Callable[[int, dict[str, float]], None]  # steps, what was measured there
    close: Callable[[], None]


class Tracker:
    """Several views of a run, fed row by row."""

    def __init__(self, views: Sequence[View]) -> None:
        self.views = views

    def log(self, row: dict[str, Any]) -> None:
        """A row of metrics.jsonl; what is not a finite number is left out, and so is a row about an error."""
        found = {k: v for k, v in row.items() if isinstance(v, int | float) and math.isfinite(v) and k != "steps"}
        if found and "error" not in row:
            for view in self.views:
                view.write(row["steps"], found)

    def close(self) -> None:
        with contextlib.ExitStack() as last:
            for view in self.views:
                last.callback(view.close)


def open(names: Sequence[str], run: Path, resumed_from: float | None = None) -> Tracker:
    """Views of the run folder. `resumed_from`: the steps up to which rows are there already, and are written again."""
    for name in names:
        if name not in VIEWS:
            raise LogpiError(f"There is no tracker {name!r}.{nearest(name, VIEWS)}")
    before = [] if resumed_from is None else [row for row in rows(run) if row.get("steps", math.inf) <= resumed_from]
    tracker = Tracker([VIEWS[name](run, _settings(run)) for name in dict.fromkeys(names)])
    for row in before:
        tracker.log(row)
    return tracker


def where(name: str, run: Path) -> str:
    """What to type to see a view."""
    _, project, _ = _names(run)
    shown = {"tensorboard": f"tensorboard --logdir {run / 'events'}", "trackio": f'trackio show --project "{project}"'}
    return shown.get(name, f"wandb sync {run / 'wandb' / 'offline-run-*'}")


def tensorboard(run: Path, settings: dict[str, Any]) -> View:
    """RUN/events/."""
    with _needs("tensorboard", "tb"):
        from torch.utils.tensorboard import SummaryWriter
    _fresh(run / "events")
    writer = SummaryWriter(str(run / "events"))
    writer.add_text("config", "\n".join(f"    {key} = {value}" for key, value in settings.items()))

    def write(steps: int, found: dict[str, float]) -> None:
        for name, value in found.items():
            writer.add_scalar(name, value, steps)

    return View(write, writer.close)


def wandb(run: Path, settings: dict[str, Any]) -> View:
    """RUN/wandb/, offline unless WANDB_MODE says else; always the same run there."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    with _needs("wandb", "wandb"):
        import wandb as library
    mode: Any = os.environ.get("WANDB_MODE", "offline")
    if mode in ("online", "shared") and not library.login(prompt=False):
        raise LogpiError(f"WANDB_MODE is {mode}, and there is no login: wandb login first, or leave it unset.")
    _fresh(run / "wandb")
    title, project, group = _names(run)
    quiet = library.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,  # of the machine, its user and its command lines
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    told: dict[str, Any] = {"project": project, "group": group, "name": title, "id": safe(f"{project}-{title}")[:128]}
    made = library.init(**told, dir=str(run), mode=mode, resume="allow", config=settings, settings=quiet)
    return View(lambda steps, found: made.log(found, step=steps), made.finish)


def trackio(run: Path, settings: dict[str, Any]) -> View:
    """trackio's own folder, or TRACKIO_DIR: a project for each environment, a run for each of ours."""
    with _needs("trackio", "track"):
        import trackio as library
    title, project, group = _names(run)
    with _silence():
        with contextlib.suppress(ValueError):  # no such project yet
            for old in [x for x in library.Api().runs(project) if x.name == title]:
                old.delete()
        made = library.init(project, title, group, config=settings, embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def close() -> None:
        with _silence():
            library.finish()

    return View(lambda steps, found: made.log(found, step=steps), close)


VIEWS: dict[str, Callable[[Path, dict[str, Any]], View]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
    "trackio": trackio,
}


def _settings(run: Path) -> dict[str, Any]:
    """What was asked of the run: section.key -> value. Nothing of the machine or its environment variables."""
    file = run / "config.toml"
    sections = config.read(file) if file.is_file() else {}
    return {f"{title}.{key}": value for title, fields in sections.items() for key, value in fields.items()}


def _names(run: Path) -> tuple[str, str, str]:
    """(a run's title, its project: the environment, its group: the method)."""
    *_, env, method, name = ("runs", "runs", *run.resolve().parts)
    return f"{method}-{name}", safe(env), method


def _fresh(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir()


def _silence() -> contextlib.redirect_stdout[io.StringIO]:
    return contextlib.redirect_stdout(io.StringIO())


@contextlib.contextmanager
def _needs(package: str, extra: str) -> Any:
    try:
        yield
    except ImportError as missing:
        raise LogpiError(f'A view by {package} needs a package: pip install "logpi[{extra}]".') from missing
