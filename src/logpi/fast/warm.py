"""Where compiled kernels are kept, and a process that compiles the largest of them while this one imports torch.

numba looks at a function's own file only, so a kernel that calls one of another file would stay as it was when that changes:
the folder is named by the sum of all kernels' sources. Nothing heavy is imported here.
"""

import atexit
import contextlib
import gc
import hashlib
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

KERNELS = re.compile(
    rb"^(@entry|@brief|@Part|@inner|@inlined|def entry|OPS =|GRAVITY)", re.MULTILINE
)  # what is compiled, how, and its numbers
_process: subprocess.Popen[bytes] | None = None


def folder() -> Path:
    """Of what was compiled from these very sources, by the installed numba."""
    total = hashlib.sha256(version("numba").encode())
    own = Path(__file__).parent
    for file in (*sorted(own.glob("*.py")), own.parent / "envs" / "cartpole.py"):  # whose constants are compiled in
        if KERNELS.search(text := file.read_bytes()):
            total.update(text)
    home = (
        os.environ.get("NUMBA_CACHE_DIR") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logpi"
    )
    return Path(home) / f"kernels-{total.hexdigest()[:16]}"


def begin() -> None:
    """Start compiling the update, unless that was done before or numba is not there."""
    global _process
    try:
        done = any(folder().rglob("update.ascend-*.nbi"))
    except (PackageNotFoundError, OSError):
        return
    if not done:
        null = subprocess.DEVNULL
        command = [sys.executable, "-m", "logpi.fast.warm"]
        with contextlib.suppress(OSError):  # it is compiled when it is needed
            _process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, process_group=0)
            atexit.register(_process.kill)


def at_work() -> bool:
    return _process is not None and _process.poll() is None


def wait() -> None:
    """Until it is compiled; at once where nothing was begun."""
    if _process is not None:
        _process.wait()


def compile_update() -> None:
    """What a first update needs and a first rollout does not."""
    from logpi.fast import heads, network, tape, update
    from logpi.fast.compiled import compile_whole

    for part in (network.backward, tape.differentiate, tape.evaluate, *heads.SAYS[heads.CATEGORICAL]):
        part.compile()
    compile_whole(update.ascend)  # last: `begin` looks for it


if __name__ == "__main__":
    gc.disable()  # a tenth of the time; the process ends after this
    compile_update()
