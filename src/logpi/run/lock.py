"""One process at a time writes to a run folder: a lock that the kernel lets go when its holder dies, however it dies."""

import fcntl
import json
import os
import platform
import time
from pathlib import Path

from logpi.errors import LogpiError

PATIENCE = 0.3  # seconds: whoever only looks whether the lock is held, holds it for microseconds


class Lock:
    """The file `lock` of a run folder, held from construction on; it says which process, machine and boot holds it."""

    def __init__(self, run: Path) -> None:
        self.handle = os.open(run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        deadline = time.monotonic() + PATIENCE
        while not _try(self.handle, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                owner = _owner(self.handle)
                os.close(self.handle)
                raise LogpiError(f"{run} is in use by {owner}: one process at a time writes to a run folder.")
            time.sleep(0.01)
        mine = {"pid": os.getpid(), "host": platform.node(), "boot": _boot()}
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, json.dumps(mine).encode(), 0)

    def release(self) -> None:
        """The file stays, empty: two processes must never hold locks on two files of one name."""
        os.ftruncate(self.handle, 0)
        os.close(self.handle)


def held(run: Path) -> bool:
    """Whether a process holds the run folder now."""
    try:
        handle = os.open(run / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _try(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(handle: int) -> str:
    try:
        found = json.loads(os.pread(handle, 1000, 0))
        return f"process {int(found['pid'])} on {str(found['host'])[:60]}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def _boot() -> str:
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.exists() else ""
