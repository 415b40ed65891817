"""The process in which one program of a model's runs: python -I program.py, told by stdin, telling by stdout.

NO SANDBOX: what runs here may read what its user may read, use the network, and look into this very process. Its limits hold
back accidents, not attacks. It needs nothing but the standard library.
"""

import contextlib
import ctypes
import errno
import json
import os
import resource
import runpy
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

NOBODY = 1_000_000_000  # of root's programs each is counted as a user of its own, from here on
KEEP_RIGHTS, CAPABILITIES, READ = (
    8,
    0x20080522,
    1 << 2,
)  # Linux: PR_SET_KEEPCAPS; version 3 of the call; CAP_DAC_READ_SEARCH
LIMITS = {errno.EAGAIN: "it started a process", errno.EFBIG: "it wrote too large a file"}


def main() -> None:
    request = json.loads(sys.stdin.readline())
    verdict = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    limit(request["seconds"], request["memory"], request["file"])
    told = run(request["program"], request["tests"])
    verdict.write(json.dumps(told | {"secret": request["secret"]}))
    verdict.flush()
    os._exit(0)  # whatever the program left to be done at the end


def limit(seconds: int, memory: int, file: int) -> None:
    """CPU seconds, MiB of memory, MiB of a file, and no further process or thread; an end even where the parent is gone."""
    if os.geteuid() == 0:
        be_bounded(NOBODY + os.getpid())
    signal.alarm(seconds + 1)
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory * 2**20),
        (resource.RLIMIT_FSIZE, file * 2**20),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))


def be_bounded(user: int) -> None:
    """Root may start processes without end, and end those of others: be another user who may read, and no more."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(KEEP_RIGHTS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        libc.capset((ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)(READ, READ))


def run(program: str, tests: list[Any]) -> dict[str, Any]:
    """{'passed': ...}, or {'broken': why} where a limit was met. A program that raises is wrong, and no more."""
    try:
        return {"passed": all(passes(program, test) for test in tests)}
    except MemoryError:
        return {"broken": "it took too much memory"}
    except OSError as wrong:
        return {"broken": LIMITS[wrong.errno]} if wrong.errno in LIMITS else {"passed": False}
    except BaseException:  # SystemExit too
        return {"passed": False}


def passes(program: str, test: Any) -> bool:
    """A text is statements that must not raise behind the program; {'input', 'output'} what it must print when told that."""
    if isinstance(test, str):
        execute(f"{program}\n\n{test}")
        return True
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as said:
        asked.write(test["input"].encode())
        asked.seek(0)
        os.dup2(asked.fileno(), 0)
        os.dup2(said.fileno(), 1)
        with (
            open(0, closefd=False) as sys.stdin,
            open(1, "w", closefd=False) as sys.stdout,
            contextlib.suppress(SystemExit),
        ):
            execute(program)
        sys.stdin, sys.stdout = sys.__stdin__, sys.__stdout__
        for k in (0, 1):  # which the program may have closed
            os.dup2(2, k)
        said.seek(0)
        return said.read().decode(errors="replace").split() == test["output"].split()


def execute(source: str) -> None:
    """As a file of its own, in this process's folder."""
    file = Path("program.py").absolute()
    file.write_text(source, encoding="utf-8", errors="surrogatepass")
    runpy.run_path(str(file), run_name="__main__")


if __name__ == "__main__":
    main()
