"""Several seeds of one command: each as if alone, a failed one leaves the others be, Ctrl-C saves them all."""

import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from logpi import LogpiError
from logpi.run import seeds
from logpi.run.language import Text
from logpi.run.setup import Settings
from logpi.run.track import rows
from logpi.run.train import Options

QUICK = "--envs 2 --length 16 --steps 64 --hidden 8 --no-plot"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"}


def begin(line: str, cwd: Path) -> subprocess.Popen[str]:
    whole = [sys.executable, "-m", "logpi", "train", *shlex.split(line)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(whole, text=True, cwd=cwd, env=ENVIRONMENT, process_group=0, **pipes)


def command(line: str, cwd: Path) -> tuple[int, str, str]:
    process = begin(line, cwd)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def log(cwd: Path, seed: int) -> list[dict]:
    (run,) = (cwd / "runs").glob(f"*/*/{seed}-*")
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(run)]


def test_each_seed_is_what_it_is_alone_and_the_mean_is_theirs(tmp_path):
    (tmp_path / "alone").mkdir()
    code, out, err = command(f"ppo {QUICK} --seed 4 --seeds 2 --evaluate 5", tmp_path)
    assert (code, err) == (0, "")
    assert command(f"ppo {QUICK} --seed 5 --evaluate 0 --quiet", tmp_path / "alone")[0] == 0
    assert log(tmp_path, 5) == log(tmp_path / "alone", 5) and len(log(tmp_path, 5)) == 2
    assert log(tmp_path, 4) != log(tmp_path, 5)
    *lines, summary, following = out.splitlines()
    told = sorted(
        re.match(r"seed (\d) +return ([\d.]+) +evaluation ([\d.]+) +finished +(runs/\S+)$", x).groups() for x in lines
    )
    assert [seed for seed, *_ in told] == ["4", "5"]
    assert all((tmp_path / run).name.startswith(f"{seed}-") for seed, _, _, run in told)
    assert following.endswith(f" plot {' '.join(run for *_, run in told)}"), "in the order of the seeds"
    returns = [log(tmp_path, seed)[-1]["return"] for seed in (4, 5)]
    half = 1.96 * statistics.stdev(returns) / 2**0.5
    mean, spread = map(float, re.match(r"2 seeds: return ([\d.]+) ± ([\d.]+), evaluation ", summary).groups())
    assert mean == pytest.approx(statistics.fmean(returns), rel=0.01) and spread == pytest.approx(half, rel=0.01)


FAILS = '''
from logpi.methods import PPO
from logpi.errors import LogpiError
from logpi.page import page

@page
class Fails(PPO):
    """PPO that fails on one seed."""

    def adapt(self, state, info):
        if seed() == 1:
            raise LogpiError("This seed was chosen to fail.")
        return state

def seed():
    import sys
    return int(sys.argv[len(sys.argv) - sys.argv[::-1].index("--seed")])
'''


def test_a_seed_that_fails_says_why_and_leaves_the_others_be(tmp_path):
    (tmp_path / "fails.py").write_text(FAILS)
    code, out, err = command(f"./fails.py:Fails {QUICK} --seeds 2 --evaluate 0", tmp_path)
    assert code == 2 and err == "logpi: 1 of 2 seeds failed (1): see above.\n"
    assert "seed 1   failed: This seed was chosen to fail." in out.splitlines()
    assert len([x for x in out.splitlines() if " finished " in x]) == 1 and "1 seed: return " in out
    assert "Traceback" not in out + err


def test_a_process_that_dies_takes_its_own_seed_along_and_no_other(tmp_path):
    (tmp_path / "fails.py").write_text(
        FAILS.replace('raise LogpiError("This seed was chosen to fail.")', '__import__("os")._exit(9)')
    )
    code, out, err = command(f"./fails.py:Fails {QUICK} --seeds 3 --evaluate 0", tmp_path)
    assert code == 2 and err == "logpi: 1 of 3 seeds failed (1): see above.\n"
    assert "seed 1   failed: its process ended with 9" in out.splitlines() and out.count(" finished ") == 2


def contents(run: Path) -> dict:
    """What every file of a run folder says, but for seconds, dates, and where it was asked to lie."""
    found = {}
    for file in sorted(run.rglob("*")):
        name, data = str(file.relative_to(run)), file.read_bytes() if file.is_file() else b""
        if name == "metrics.jsonl":
            found[name] = [json.loads(line) | {"seconds": 0} for line in data.splitlines()]
        elif file.name == "manifest.json":
            found[name] = json.loads(data) | {"log": 0, "sum": 0}
        elif name == "status.json":
            found[name] = json.loads(data) | {"time": 0}
        elif name != "command.txt":
            found[name] = data
    return found


def test_every_file_of_a_seed_whose_process_trained_others_before_is_what_it_is_alone(tmp_path):
    (tmp_path / "alone").mkdir()
    line = f"ppo {QUICK} --normalise-obs --evaluate 3 --eval-every 32 --save-every 32 --quiet"
    many = os.cpu_count() + 2
    code, out, err = command(f"{line} --seeds {many}", tmp_path)
    assert (code, err) == (0, "") and out.count(" finished ") == many
    assert command(f"{line} --seed {many - 1}", tmp_path / "alone")[0] == 0
    (one,), (other,) = (folder.glob(f"runs/*/*/{many - 1}-*") for folder in (tmp_path, tmp_path / "alone"))
    assert contents(one) == contents(other) and any(x.startswith("eval/") for x in contents(one))
    assert shlex.split((one / "command.txt").read_text())[-5:] == ["--seed", f"{many - 1}", "--seeds", "1", "--quiet"]
    pids = {json.loads((run / "status.json").read_text()).get("pid") for run in tmp_path.glob("runs/*/*/*")}
    assert len(pids) <= os.cpu_count()


@pytest.mark.parametrize(
    ("name", "settings", "options", "clean"),
    [
        ("ppo", {}, {}, True),
        ("ppo", {"fast": "off"}, {}, True),
        ("./mine.py:Mine", {}, {}, False),
        ("ppo", {"env": "./mine.py:Env"}, {}, False),
        ("ppo", {"network": "./mine.py:build"}, {}, False),
        ("ppo", {"env": "FrozenLake-v1"}, {}, False),
        ("ppo", {"backend": "async"}, {}, False),
        ("ppo", {"wrap": ("gymnasium.wrappers:TimeAwareObservation",)}, {}, False),
        ("ppo", {}, {"track": ("tensorboard",)}, False),
    ],
)
def test_a_process_takes_seed_after_seed_where_all_in_it_is_ours(name, settings, options, clean):
    assert seeds.clean(name, Settings(**settings), Options(**options)) is clean
    assert not seeds.clean(name, Text(), Options())


def test_a_mistake_of_all_seeds_is_told_for_each(tmp_path):
    code, out, err = command(f"ppo {QUICK} --seeds 2 --env Nowhere-v0", tmp_path)
    assert code == 2 and err == "logpi: 2 of 2 seeds failed (0, 1): see above.\n"
    assert [x.split(".")[0] for x in sorted(out.splitlines())] == [
        f"seed {i}   failed: There is no environment 'Nowhere-v0'" for i in (0, 1)
    ]
    code, _, err = command(f"ppo {QUICK} --seeds 2 --seed {2**63 - 1}", tmp_path)
    assert code == 2 and err.startswith("logpi: seed is 9223372036854775808: allowed is a whole number from 0 to ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_seeds_which_save_and_stop(number, tmp_path):
    line = "ppo --envs 2 --length 16 --steps 100000000 --hidden 8 --evaluate 0 --no-plot --seeds 3"
    process = begin(line, tmp_path)
    deadline = time.monotonic() + 60
    wanted = min(3, os.cpu_count() or 1)
    try:
        while len([f for f in tmp_path.glob("runs/*/*/*/metrics.jsonl") if f.stat().st_size]) < wanted:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, number)  # as the terminal does: the seeds are in groups of their own
        out, err = process.communicate(timeout=60)
    finally:
        process.terminate()  # nothing, where it has ended
    assert process.returncode == 128 + number and "Traceback" not in out + err
    runs = sorted((tmp_path / "runs").glob("*/*/*"))
    assert len(runs) == wanted
    for run in runs:
        assert json.loads((run / "status.json").read_text())["state"] == "stopped"
        assert any(x.endswith(f" resume {run.relative_to(tmp_path)}") for x in out.splitlines())
    assert len([x for x in out.splitlines() if re.match(r"seed \d +stopped +runs/", x)]) == wanted
    unbegun = ", ".join(map(str, range(wanted, 3)))
    assert [x for x in out.splitlines() if x.startswith("not begun")] == [f"not begun: {unbegun}"] * (wanted < 3)


def test_the_mean_of_one_has_no_interval_and_of_none_is_a_dash():
    assert seeds._mean([1.0, 3.0]) == "2 ± 1.96" and seeds._mean([1.5, None]) == "1.5" and seeds._mean([None]) == "-"


def test_a_seed_too_large_is_refused_in_either_world_before_any_begins(tmp_path):
    for settings in (Settings(seed=2**63 - 1), Text(seed=2**63 - 1)):
        with pytest.raises(LogpiError, match=f"seed is {2**63}: allowed is"):
            seeds.train("ppo", None, settings, Options(seeds=2, out=str(tmp_path)))
