"""A thread of this process for each of several seeds: imported and compiled once, and every seed to the bit what it is alone.

All that a run moves is its own, but for what belongs to the process. Its generators initialise networks: one run at a time
is put together or loaded, and its checkpoints keep the generators as they then stood, for nothing draws from them later:
`why_not` lets no code in that might. Signals come to the main thread, which asks the others to stop.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from logpi import chance
from logpi.envs import NATIVE
from logpi.errors import LogpiError
from logpi.fast.cover import native
from logpi.loop import loop
from logpi.run import evaluate
from logpi.run.folder import RunFolder
from logpi.run.language import Text
from logpi.run.load import load
from logpi.run.paths import is_path
from logpi.run.plot import plot
from logpi.run.processes import typed
from logpi.run.setup import Settings, assemble
from logpi.run.stop import GRACE, Interrupted
from logpi.run.train import Options, begin, safely

ALONE = threading.Lock()  # held by who uses the process's generators, or matplotlib
TURN = 5e-4  # seconds of Python after which another thread has its turn: at its own 5e-3 kernels wait


class Thread:
    """One seed. `number` and `settled` are what its training knows of a signal."""

    def __init__(
        self, seed: int, name: str, method: Any, settings: Settings, options: Options, over: threading.Event
    ) -> None:
        """over: set when it has ended."""
        self.seed, self.wrong, self.stopped = seed, "", 0  # the sentence of its failure; the signal that ended it
        self.folder: RunFolder | None = None
        self.number: int | None = None
        self.phase = threading.Lock()  # of what follows
        self.saving = self.saved = self.given_up = False
        settings = dataclasses.replace(settings, seed=seed)
        options = dataclasses.replace(options, seeds=1, quiet=True)
        self.thread = threading.Thread(target=self._train, args=(name, method, settings, options, over))
        self.thread.start()

    @property
    def run(self) -> Path | None:
        return self.folder.path if self.folder else None

    def ask(self, number: int) -> None:
        """To stop, after a signal; a second one ends the process at once."""
        if self.number is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number, self.asked = number, time.monotonic()

    def look(self) -> bool:
        """Has it ended? What is not saved GRACE seconds after a signal is given up."""
        if self.number is not None and time.monotonic() - self.asked > GRACE:
            self._give_up()
        return self.given_up or not self.thread.is_alive()

    def _give_up(self) -> None:
        """But not while it saves. A run that is over is only not evaluated any more."""
        with self.phase:
            if self.given_up or (self.saving and not self.saved):
                return
            self.given_up = True
            if not self.saved:
                self.stopped = self.number or 0
                if self.folder is not None:
                    self.folder.status("stopped")

    def settled(self) -> None:
        """Nothing is to be interrupted any more: what follows is saving."""
        with self.phase:
            if self.given_up:
                raise Interrupted
            self.saving = True

    def _train(self, name: str, method: Any, settings: Settings, options: Options, over: threading.Event) -> None:
        try:
            with ALONE:
                parts, self.folder, note = begin(name, method, settings, options, typed(self.seed))
                drawn = chance.state()
            with chance.standing(drawn):
                _, state = safely(parts, settings, options, self.folder, note, self)
            if state == "stopped":
                self.stopped = self.number or 0
                return
            self.saved = True
            self._judge(self.folder.path, settings, options)
        except (LogpiError, OSError) as wrong:
            self.wrong = " ".join(str(wrong).split())
        except BaseException as wrong:  # its traceback is in failures/
            self.wrong = f"{type(wrong).__name__}: {wrong}"
        finally:
            over.set()

    def _judge(self, run: Path, settings: Settings, options: Options) -> None:
        """The evaluation, of nothing but the folder as in a process of its own, and the learning curve."""
        if options.evaluate and self.number is None:
            with contextlib.suppress(LogpiError):
                with ALONE:
                    policy = load(run)
                kinds = [evaluate.evaluate(policy, settings.env, options.evaluate, fixed) for fixed in (True, False)]
                evaluate.write(run, settings.env, evaluate.STARTS, kinds)
        if options.plot and self.number is None:
            with ALONE, contextlib.suppress(LogpiError):
                plot([run], run / "learning-curve.png")


@contextlib.contextmanager
def taking_turns() -> Iterator[None]:
    """Inside, a thread that comes back from a kernel soon gets Python again."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def why_not(name: str, method: Any, settings: Settings | Text, options: Options) -> str:
    """Why threads would not be honest, or would not pay: then the seeds need a process each. '': they are as good.

    An iteration is tried, which also compiles the kernels, once for all.
    """
    if isinstance(settings, Text):
        return "a language model is trained"
    paths = {"method": name, "environment": settings.env, "network": settings.network or ""}
    if own := [kind for kind, path in paths.items() if is_path(path)]:
        return f"the {own[0]} is code of yours"
    if settings.wrap or settings.env_options or settings.masks == "info":
        return "the environments are not native ones"
    if settings.env not in NATIVE or settings.backend not in ("auto", "native"):
        return "the environments are not native ones"
    if options.track:
        return "a tracker follows one run of a process"
    if settings.fast == "off":
        return "--fast off"
    try:
        parts = assemble(method, settings, name=name)
        fused = parts.fused
        if fused is not None and fused.main is not None:
            next(loop(parts))
    except LogpiError:
        return ""  # each seed will say it itself
    if fused is None or not fused.releases:
        return "there are no fused kernels here"
    if not native(parts.collect.envs):
        return f"the steps of {settings.env} are taken in Python, which threads share"
    return next(iter(fused.told), "" if fused.moves_policy else f"{name} does not step in fused kernels")
