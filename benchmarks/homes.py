"""Where each peer lives: an environment of its own, made once from pinned versions, outside the repository.

$LOGPI_BENCH_HOME, else ~/.cache/logpi-benchmarks. What is on no package index is taken from its repository at a pinned
commit: cloned where there is a network, else from a clone given by `--cleanrl PATH` or `--purejaxrl PATH`.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
HOME = Path(os.environ.get("LOGPI_BENCH_HOME", Path.home() / ".cache" / "logpi-benchmarks"))
JAX = ["jax==0.10.2", "jaxlib==0.10.2"]
PACKAGES = {
    "stable-baselines3": [
        "stable-baselines3==2.9.2",
        "sb3-contrib==2.9.2",
        "gymnasium[mujoco]==1.4.0",
        "mujoco==4.0.0",
        "ale-py==0.12.1",
        "opencv-python-headless==5.0.0.93",
    ],
    "CleanRL": ["gymnasium[mujoco]==0.29.1", "mujoco==2.3.7", "numpy==1.26.4", "tyro==1.0.17"],
    "PureJaxRL": ["gymnax==0.0.9", "distrax==0.1.9", *JAX],
    "sbx": ["sbx-rl==0.28.0", "stable-baselines3==2.9.2", *JAX],
    "tianshou": ["tianshou==2.0.1"],
}
COMMITS = {
    "CleanRL": ("https://github.com/vwxyzjn/cleanrl", "fe8d8a0", ["cleanrl"]),
    "PureJaxRL": ("https://github.com/luchris429/purejaxrl", "31756b1", ["purejaxrl"]),
}
WITHOUT_TORCH = ("PureJaxRL",)
CLONES: dict[str, str] = {}  # of the user's own, by peer: from the command line


def make(peer: str) -> None:
    """All that a run of the peer needs, if it is not there."""
    python(peer)
    if peer in COMMITS:
        source(peer)


@cache
def python(peer: str) -> str:
    """The interpreter of a peer's environment, which is made now if it is not there; of logpi: this one."""
    if peer == "logpi":
        return sys.executable
    wanted = "\n".join(PACKAGES[peer])
    folder = HOME / peer
    stamp, interpreter = folder / "installed.txt", folder / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted:
        return str(interpreter)
    print(f"making the environment of {peer} in the cache folder ...", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if peer not in WITHOUT_TORCH:  # torch first and by exact version: left to itself pip may pick a far larger build
        pip += ["--constraint", HERE.parent / "constraints.txt"]
        subprocess.run([*pip, "torch"], check=True)
    subprocess.run([*pip, *PACKAGES[peer]], check=True)
    stamp.write_text(wanted)
    return str(interpreter)


@cache
def source(peer: str) -> Path:
    """The folder with a peer's files at their pinned commit."""
    url, commit, inside = COMMITS[peer]
    folder = HOME / "sources" / f"{peer}-{commit}"
    if not folder.exists():
        clone = CLONES.get(peer) or HOME / "sources" / f"{peer}.git"
        if not Path(clone).exists():
            subprocess.run(["git", "clone", "--quiet", "--bare", url, clone], check=True)
        files = subprocess.run(["git", "-C", clone, "archive", commit, *inside], check=True, capture_output=True).stdout
        folder.mkdir(parents=True)
        subprocess.run(["tar", "-x", "-C", folder], input=files, check=True)
    return folder / inside[0]
