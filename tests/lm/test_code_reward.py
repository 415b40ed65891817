"""Programs that a model writes: those that pass are worth 1, wrong ones 0; what meets a limit is a failure and no more."""

import os
import time
from pathlib import Path

import pytest

from logpi import LogpiError
from logpi.lm import scorers, tasks
from logpi.lm.rewards import Rewards
from logpi.lm.scorers.programs import Programs, must_have_tests, program_in

TESTS = ["assert f(2) == 4", "assert f(0) == 0\nassert f(-1) == -2"]
GOOD = "def f(x):\n    return 2 * x"


@pytest.fixture(scope="module")
def code():
    made = Programs(limit=20.0, memory=256, failed=-1.0)
    yield made
    made.close()


def judged(code, *said, tests=TESTS, **columns) -> list[float]:
    each = {k: [v] * len(said) for k, v in columns.items()}
    return code(["p"] * len(said), said, tests=[tests] * len(said), **each)


def test_right_and_wrong_programs(code):
    before = code.failures
    fenced = f"Think: ```python\nx = 1\n``` no.\n```python\n{GOOD}\n```\nDone."
    assert judged(code, GOOD, fenced, f"```\n{GOOD}", f"print('noise')\n{GOOD}") == [1.0] * 4
    wrong = [
        "def f(x): return 4",
        "def f(x) return",
        "",
        "def f(x): return f(x)",
        "raise SystemExit",
        "import sys; sys.exit(0)",
    ]
    assert judged(code, *wrong) == [0.0] * 6
    assert judged(code, "def f(x): return g(x)", setup="def g(x): return 2 * x") == [1.0]
    assert judged(code, GOOD, tests="assert f(1) == 2") == [1.0] and code.failures == before


def test_programs_that_read_and_print(code):
    tests = [{"input": "4\n", "output": "8"}, {"input": "5", "output": "10\n"}, "pass"]
    said = [
        "print(2 * int(input()))",
        "import sys\nprint(2 * int(open(0).read()))\nsys.exit()",
        "print(8)",
        "print(input())",
    ]
    assert judged(code, *said, tests=tests[:2]) == [1.0, 1.0, 0.0, 0.0]
    assert judged(code, "n = 1\nprint(n)", tests=[{"input": "", "output": "1"}, "assert n == 1"]) == [1.0]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("x = bytearray(1 << 30)", "it took too much memory"),
        ("import os\nos.fork()", "it started a process"),
        ("import subprocess, sys\nsubprocess.run([sys.executable])", "it started a process"),
        ("open('x', 'w').write('a' * (1 << 25))", "it wrote too large a file"),
        ("import os\nos._exit(0)", "it left with exit code 0"),
        ("import os\nos.kill(os.getpid(), 9)", "it was ended by SIGKILL"),
        ("import ctypes\nctypes.string_at(0)", "it was ended by SIGSEGV"),
    ],
)
def test_what_meets_a_limit_is_counted_and_the_next_is_judged_as_ever(code, program, reason):
    before = code.failures
    assert judged(code, GOOD, program, GOOD) == [1.0, -1.0, 1.0]
    assert (code.failures - before, code.reason) == (1, reason)


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time\ntime.sleep(1000)",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "import signal, time\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True:\n    try: time.sleep(1)\n    except BaseException: pass",
    ],
)
def test_what_hangs_is_ended(program):
    code, began = Programs(limit=2.0, failed=-1.0), time.monotonic()
    assert judged(code, program) == [-1.0] and code.reason == "it took more than 2 s"
    assert time.monotonic() - began < 15
    code.close()


def test_a_verdict_cannot_be_had_by_printing_one(code):
    forged = "import os\nfor k in range(3, 20):\n    try: os.write(k, b'{\"passed\": true}')\n    except OSError: pass\nos._exit(0)"
    assert judged(code, forged) == [-1.0]


@pytest.mark.skipif(os.geteuid() != 0, reason="of root's programs")
def test_roots_programs_are_another_users(code):
    mine = f"import os\nos.kill({os.getpid()}, 0)"
    assert judged(code, mine, "import os\nassert os.getuid() > 1e9", tests=["pass"]) == [0.0, 1.0]


def test_nothing_is_left_behind(code, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    judged(code, f"open('left', 'w').write('x')\n{GOOD}", "import os\nos._exit(1)")
    assert not [*tmp_path.iterdir()] and not code.running
    assert not [
        x for x in Path("/proc").glob("[0-9]*/cmdline") if "scorers/program.py" in read(x) and parent(x) == os.getpid()
    ]


def read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def parent(cmdline: Path) -> int:
    return int((read(cmdline.with_name("stat")).rpartition(")")[2].split() or [0, 0])[1])


def test_failures_are_told_and_the_run_goes_on():
    code = scorers.scorer("code", 20.0, 0, 0.5)
    rewards = Rewards(tasks.find("copy"), [code])
    rows = [{"prompt": "p", "tests": TESTS}] * 2
    with pytest.warns(
        UserWarning,
        match="The reward code failed for 1 of 2 completions .it left with exit code 3.: each counts as 0.5",
    ):
        assert rewards(rows, [GOOD, "import os\nos._exit(3)"]).tolist() == [1.0, 0.5]
    assert rewards.told == {"reward_failures": 1.0}
    rewards.close()


def test_data_without_tests_are_refused():
    class Rows:
        splits = {"train": [{"prompt": "p", "tests": TESTS}], "test": []}

    must_have_tests(Rows)
    for bad in ([], None, [1], [{"input": "3"}], {"input": "3"}, [{"input": 3, "output": 4}]):
        Rows.splits["test"] = [{"prompt": "q", "tests": bad}]
        with pytest.raises(LogpiError, match="The prompt 'q' has no tests, which the reward code needs"):
            must_have_tests(Rows)
    with pytest.raises(LogpiError, match="has no tests"):
        must_have_tests(tasks.find("copy"))


def test_the_program_is_the_last_block():
    assert program_in("a\n```py\nb\n```\n``` \nc\n```") == "c\n" and program_in("d") == "d"
