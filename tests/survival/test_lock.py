"""One process at a time on a run folder; the lock is free the moment its holder is dead, and looking at it disturbs nobody."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import exams_damage as exam
import pytest
from exams import command, differences, start

from logpi.errors import LogpiError
from logpi.run.folder import RunFolder, status_of
from logpi.run.lock import Lock, held

HOLDER = """
import sys, time
from pathlib import Path
from logpi.run.lock import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def holder(run: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run folder."""
    words = [sys.executable, "-c", HOLDER, str(run)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exam.small_run(tmp_path_factory.mktemp("runs"), steps=64, save_every=32)


@pytest.fixture
def run(straight: Path, tmp_path: Path) -> Path:
    """Half of a run."""
    copy = Path(shutil.copytree(straight, tmp_path / "run"))
    shutil.rmtree(exam.checkpoints(copy)[-1])
    return copy


def test_a_second_process_is_refused_and_told_which_is_the_first(run: Path) -> None:
    """By the command: exit code 2 and one line, and not a byte of the run has changed."""
    with holder(run) as first:
        before = {f: f.read_bytes() for f in run.rglob("*") if f.is_file()}
        second = start(command(f"resume {run}"))
        out, err = second.communicate(timeout=60)
        assert (second.returncode, out) == (2, "")
        host = os.uname().nodename
        assert err == (
            f"logpi: {run} is in use by process {first.pid} on {host}: one process at a time writes to a run folder.\n"
        )
        assert {f: f.read_bytes() for f in run.rglob("*") if f.is_file()} == before


def test_the_lock_of_a_killed_process_is_free_at_once(run: Path, straight: Path) -> None:
    with holder(run) as first:
        assert held(run)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert not held(run) and json.loads((run / "lock").read_text())["pid"] == first.pid
    exam.again(run)
    assert differences(straight, run) == [] and (run / "lock").read_text() == ""


def test_a_pid_that_has_been_given_to_another_process_locks_nothing(run: Path, straight: Path) -> None:
    """What counts is who holds the file: not what is written in it, nor in which boot."""
    (run / "lock").write_text(json.dumps({"pid": os.getpid(), "host": "elsewhere", "boot": "another"}))
    assert not held(run)
    exam.again(run)
    assert differences(straight, run) == []


@pytest.mark.parametrize("text", ["", "{", "5", '{"pid": "x"}', "\x00" * 2000])
def test_a_holder_that_cannot_be_told_is_another_process(text: str, run: Path) -> None:
    with holder(run):
        (run / "lock").write_text(text)
        with pytest.raises(LogpiError) as refused:
            Lock(run)
    assert str(refused.value) == f"{run} is in use by another process: one process at a time writes to a run folder."


def test_two_in_one_process_are_two(run: Path) -> None:
    first = Lock(run)
    with pytest.raises(LogpiError, match=f"in use by process {os.getpid()} on "):
        Lock(run)
    first.release()
    Lock(run).release()


def test_a_child_does_not_inherit_the_lock(run: Path) -> None:
    """A worker of the run, or an evaluation, that outlives it must not keep the next process out."""
    lock = Lock(run)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
    try:
        lock.release()
        deadline = time.monotonic() + 5  # the kernel closes a child's copies a moment after exec has been answered
        while held(run) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not held(run) and child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_a_worker_in_a_slow_step_does_not_keep_the_lock_of_a_dead_run(run: Path) -> None:
    """Processes that environments run in are made after the lock was taken; they may outlive a killed run by a step."""
    more = "from logpi.workers.worker import CONTEXT\nworker = CONTEXT.Process(target=time.sleep, args=(20,), daemon=True)\n"
    code = HOLDER.replace('print("held", flush=True)', f"{more}worker.start()\nprint(worker.pid, flush=True)")
    with subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        worker = int(first.stdout.readline())
        first.send_signal(signal.SIGKILL)
        first.wait()
        alive = Path(f"/proc/{worker}").exists()
        free = not held(run)
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    assert alive and free


def test_who_looks_never_keeps_a_process_out(run: Path) -> None:
    """Three threads ask without pause whether the folder is held, while it is taken and let go 200 times."""
    over, seen = threading.Event(), {True: 0, False: 0}

    def look() -> None:
        while not over.is_set():
            seen[held(run)] += 1

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    began = time.monotonic()
    try:
        assert not any(held(run) for _ in range(2000))  # those who look do not see one another
        for _ in range(200):
            RunFolder(run).close()
    finally:
        over.set()
        for looker in lookers:
            looker.join()
    assert seen[True] and seen[False] and time.monotonic() - began < 20


def test_processes_that_look_never_keep_one_out(run: Path, straight: Path) -> None:
    code = "import sys\nfrom pathlib import Path\nfrom logpi.run.lock import held\nprint()\nwhile True: held(Path(sys.argv[1]))"
    lookers = [subprocess.Popen([sys.executable, "-uc", code, str(run)], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for looker in lookers:
            assert looker.stdout is not None and looker.stdout.readline()
        for _ in range(100):
            Lock(run).release()
        exam.again(run)
    finally:
        for looker in lookers:
            looker.kill()
            looker.communicate()
    assert differences(straight, run) == []


def test_a_run_that_says_running_and_is_held_by_nobody_was_interrupted(run: Path) -> None:
    (run / "status.json").write_text('{"state": "running"}')
    with holder(run):
        assert status_of(run)["state"] == "running"
    assert status_of(run)["state"] == "interrupted"


def test_looking_makes_no_file(tmp_path: Path) -> None:
    assert not held(tmp_path) and list(tmp_path.iterdir()) == [] and not held(tmp_path / "nowhere")
