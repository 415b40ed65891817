"""`logpi runs` and `logpi compare`: folders made by hand, damaged ones, hostile names."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from logpi.run import table

CONFIG = '[method]\nname = "{method}"\nclip = {clip}\n\n[run]\nenv = "{env}"\nsteps = 1000\nseed = {seed}\n\n[train]\nout = "{env}"\n'
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}


def made(
    out: Path, returns: Any = (1.0, 2.0), seed: int = 0, env: str = "Toy-v0", method: str = "ppo", state: str = "finished",
    clip: float = 0.2, name: str | None = None,
) -> Path:  # fmt: skip
    run = out / "Toy-v0" / "ppo" / (name or f"{seed}-20260101-00000{seed}")
    run.mkdir(parents=True)
    (run / "config.toml").write_text(CONFIG.format(env=env, method=method, clip=clip, seed=seed))
    rows = [{"steps": 100 * i + 100, "return": r, "episodes": 100.0, "seconds": 0.5} for i, r in enumerate(returns)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "status.json").write_text(json.dumps({"state": state, "time": "2026-01-01T00:00:00"}))
    (run / "versions.json").write_text(json.dumps({"logpi": "0.1.0", "torch": "2.13.0"}))
    return run


def listed(call: Any, *line: str) -> list[dict[str, Any]]:
    code, out, err = call("runs", *line, "--json")
    assert (code, err) == (0, "")
    return [json.loads(row) for row in out.splitlines()]


def test_a_run_in_a_line(call: Any) -> None:
    run = made(Path("runs"), [1.0, 2.5], seed=3)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(time.time() - 7300))
    run = run.rename(run.with_name(f"3-{stamp}"))
    code, out, err = call("runs")
    header, line = (row.rstrip() for row in out.splitlines())
    assert (code, err) == (0, "") and " ".join(header.split()) == "env method seed steps of return state age folder"
    assert line.split() == ["Toy-v0", "ppo", "3", "200", "1,000", "2.5", "finished", "2", "h", str(run)]
    (found,) = listed(call)
    assert 7290 < found.pop("age") < 7400
    expected = {"env": "Toy-v0", "method": "ppo", "seed": 3, "steps": 200, "of": 1000, "return": 2.5}
    assert found == expected | {"state": "finished", "folder": str(run)}


def test_ages_are_told_in_one_unit() -> None:
    ages = {
        3: "3 s",
        59.9: "59 s",
        60: "1 min",
        3599: "59 min",
        3600: "1 h",
        86_399: "23 h",
        5 * 86_400: "5 d",
        -9: "0 s",
    }
    assert {age: table.ago(age) for age in ages} == ages


def test_filters_and_sorts(call: Any) -> None:
    out = Path("runs")
    made(out, [5.0], seed=0)
    made(out, [7.0, 6.0], seed=1, env="Other-v0", state="solved")
    made(out, [None], seed=2, method="trpo")
    seeds = lambda *line: [run["seed"] for run in listed(call, *line)]
    assert seeds() == [2, 1, 0] and seeds("--reverse") == [0, 1, 2]
    assert seeds("--sort", "return") == [1, 0, 2] and seeds("--sort", "return", "--reverse") == [0, 1, 2]
    assert (
        seeds("--sort", "steps")[0] == 1
        and seeds("--sort", "env") == [1, 0, 2]
        and seeds("--sort", "seed") == [0, 1, 2]
    )
    assert seeds("--sort", "method")[2] == 2 and seeds("--sort", "state")[2] == 1
    assert seeds("--env", "Other-v0") == [1] == seeds("--state", "solved") and seeds("--method", "trpo") == [2]
    assert seeds("--state", "failed") == [] and seeds("--env", "Toy-v0", "--method", "ppo") == [0]
    assert call("runs", "--state", "failed")[1] == "No run of 3 in runs is all that was asked for.\n"
    Path("runs/notes.txt").write_text("not a run")
    Path("runs/loop").symlink_to("..")
    made(Path("runs/.trash"))
    assert len(listed(call, "runs/Toy-v0")) == len(listed(call, ".")) == 3 and len(listed(call, "runs/Toy-v0/ppo")) == 3


MISTAKES = {
    "runs --env Toy-v1": "No run in runs has the env 'Toy-v1'. Did you mean Toy-v0?",
    "runs --method pp": "No run in runs has the method 'pp'. Did you mean ppo?",
    "runs --state finish": "There is no state 'finish'. Did you mean finished?",
    "runs nowhere": "There is no folder nowhere: give one that holds runs.",
    "compare runs": "logpi compare needs two runs or more: logpi runs lists the runs there are.",
    "compare nowhere runs": "nowhere is not a run folder: logpi runs lists the runs there are.",
    "compare runs empty": "There is no run in empty: logpi runs lists the runs there are.",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_in_one_sentence(line: str, call: Any) -> None:
    made(Path("runs"))
    Path("empty").mkdir()
    assert call(*line.split()) == (2, "", f"logpi: {MISTAKES[line]}\n")


def test_without_a_run_it_says_how_to_begin(call: Any) -> None:
    sentence = "There is no run in {} yet: begin one with logpi train ppo --env CartPole-v1.\n"
    assert call("runs") == (0, sentence.format("runs"), "")
    Path("other").mkdir()
    assert call("runs", "other") == (0, sentence.format("other"), "") and listed(call, "other") == []


DAMAGE = {
    "config.toml": [b"", b"[run", b"\xff\xfe\x00", b"a = " + b"[" * 100_000],
    "status.json": [b"", b"{", b"[]", b'{"state": "magic"}', b"[" * 100_000, b"\xff"],
    "metrics.jsonl": [b"{\n", b"7\n", b"[" * 100_000 + b"\n", b"\xff\xff\n", b"x" * 50_000 + b"\n"],
}


def test_damaged_folders_are_listed_not_raised(call: Any) -> None:
    made(Path("runs"), name="9-20260101-000000")
    count = 0
    for file, contents in DAMAGE.items():
        for content in contents[file == "config.toml" :]:
            (made(Path("runs"), name=f"{count}-broken") / file).write_bytes(content)
            count += 1
    (made(Path("runs"), name="gone-1") / "config.toml").unlink()
    folder = made(Path("runs"), name="gone-2") / "config.toml"
    folder.unlink()
    folder.mkdir()
    assert sorted(run["state"] for run in listed(call)) == ["finished"] + ["unreadable"] * (count + 2)
    code, out, err = call("runs")
    assert (code, err) == (0, "") and out.count("unreadable") == count + 2


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_may_not_be_looked_into_is_listed(call: Any) -> None:
    run = made(Path("runs"))
    run.chmod(0)
    try:
        assert [x["state"] for x in listed(call)] == ["unreadable"]
    finally:
        run.chmod(0o755)


def test_wrong_kinds_of_values_are_left_out(call: Any) -> None:
    run = made(Path("runs"))
    rows = (
        {"steps": "many", "return": [1]},
        {"steps": True, "return": None},
        {"steps": 10**400, "return": float("nan")},
    )
    for row in rows:
        (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        (found,) = listed(call)
        assert found["steps"] is None is found["return"] and found["state"] == "finished"
    (run / "config.toml").write_text('method = 3\n[run]\nenv = ["a"]\nseed = "x"\nsteps = inf\n')
    (found,) = listed(call)
    assert (found["env"], found["method"], found["seed"], found["of"]) == ("['a']", "ppo", None, None)


def test_a_torn_last_line_and_a_failure_are_not_the_last_iteration(call: Any) -> None:
    run = made(Path("runs"), [1.0, 2.0])
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"steps": 300, "error": "NaN"}\n{"steps": 400, "ret')
    assert [(x["steps"], x["return"], x["state"]) for x in listed(call)] == [(200, 2.0, "finished")]


def test_names_with_escape_sequences_and_markup_are_shown_as_text(call: Any) -> None:
    made(Path("runs"), env="\\u001b[31mred\\u202e", method="[bold]x[/]:smile:")
    made(Path("runs"), seed=1, env="\\u001b[31mred\\u202e", method="[bold]x[/]:smile:", name="1-\x1b]0;t\x07")
    for line in (["runs"], ["compare", "runs"]):
        _, out, err = call(*line)
        assert err == "" and "\x1b" not in out and "\u202e" not in out and "1-\\x1b]0;t\\x07" in out
    _, out, _ = call("runs")
    assert "\\x1b[31mred\\u202e" in out and "[bold]x[/]:smile:" in out
    _, _, err = call("runs", "--env", "red")
    assert "\x1b" not in err and "\\x1b" in err


def test_compare_tells_only_what_differs_and_both_results(call: Any) -> None:
    out = Path("runs")
    a, b = made(out, [0.0, 5.0, 10.0, 8.0]), made(out, [0.0, 4.0], seed=1, clip=0.1, state="solved")
    (b / "config.toml").write_text((b / "config.toml").read_text().replace("[run]", "lam = 0.9\n[run]\nhidden = [8]"))
    (b / "versions.json").write_text(json.dumps({"logpi": "0.1.0", "torch": "2.14.0"}))
    code, text, err = call("compare", str(a), str(b), "--json")
    found = json.loads(text)
    assert (code, err) == (0, "") and found["runs"] == [str(a), str(b)]
    assert found["differences"] == {
        "method.clip": [0.2, 0.1], "method.lam": [None, 0.9], "run.seed": [0, 1], "run.hidden": [None, [8]],
        "versions.torch": ["2.13.0", "2.14.0"],
    }  # fmt: skip
    one, two = found["results"]
    assert one["reached"] == {"5.0": 200, "7.5": 300, "9.0": 300} and two["reached"] == {
        "5.0": None,
        "7.5": None,
        "9.0": None,
    }
    expected = {
        "state": "finished",
        "steps": 400,
        "return": 8.0,
        "best": 10.0,
        "seconds": 2.0,
        "steps_per_second": 200.0,
    }
    assert (expected | {"evaluations": {}}).items() <= one.items()
    code, text, _ = call("compare", str(a), str(b), "--until", "4")
    words = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        f"A {a}",
        f"B {b}",
        "method.lam - 0.9",
        "run.hidden - [8]",
        "steps to return 4 200 200",
        "best return 10.0 4",
    ):
        assert line in words
    assert "evaluated" not in text


def test_compare_says_when_nothing_differs(call: Any) -> None:
    made(Path("runs"), name="0-a"), made(Path("runs"), name="0-b")
    assert "Nothing differs in settings or versions.\n" in call("compare", "runs")[1]


def test_the_first_lucky_episodes_reach_nothing(call: Any) -> None:
    run = made(Path("runs"))
    rows = [{"steps": s, "return": r, "episodes": e} for s, r, e in ((10, 90.0, 2), (20, 30.0, 100), (30, 50.0, 120))]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = table.results([run], until=40.0)
    assert found["best"] == 50.0 and found["reached"] == {40.0: 30}


def test_the_newest_evaluation_that_can_be_read_is_shown(call: Any) -> None:
    runs = [made(Path("runs"), seed=s) for s in (0, 1)]
    (runs[0] / "eval").mkdir()
    for age, mean in ((50, 1.0), (10, 2.0), (0, None)):
        kinds = [{"mean": mean, "interval_95": 0.25, "deterministic": d, "returns": [1, 2]} for d in (True, False)]
        file = runs[0] / "eval" / f"{age}.json"
        file.write_text(json.dumps({"evaluations": kinds}) if mean else "{")
        os.utime(file, (1e9 - age, 1e9 - age))
    _, out, _ = call("compare", "runs")
    words = [" ".join(line.split()) for line in out.splitlines()]
    assert (
        "evaluated, deterministic 2 ± 0.25 (2 episodes) -" in words
        and "evaluated, sampled 2 ± 0.25 (2 episodes) -" in words
    )


def test_runs_without_rows_or_settings_are_compared_as_far_as_they_go(call: Any) -> None:
    a, b = made(Path("runs"), []), made(Path("runs"), [1.0], seed=1)
    code, out, err = call("compare", str(a), str(b))
    assert (code, err) == (0, "") and "final return      -         1" in out
    (b / "config.toml").unlink()
    sentence = f"logpi: {b} is not a run folder: it has no readable config.toml.\n"
    assert call("compare", str(a), str(b)) == (2, "", sentence)


def test_a_thousand_long_runs_are_listed_at_once_and_without_torch(tmp_path: Path) -> None:
    for i in range(1000):
        run = made(tmp_path, seed=i % 10, name=f"{i}-20260101-000000")
        with (run / "metrics.jsonl").open("r+b") as log:  # 10 MB on paper, a few kB on the disk
            log.seek(10_000_000)
            log.write(b'\n{"steps": 7, "return": 1.5}\n')
    began = time.process_time()
    found = [table.summary(run, 0.0) for run in table.find(tmp_path)]
    assert time.process_time() - began < 2 and len(found) == 1000
    assert all((run["steps"], run["state"]) == (7, "finished") for run in found)
    code = (
        "import sys; sys.argv = ['logpi', 'runs', sys.argv[1]]\nfrom logpi.run import cli\ntry:\n    cli.main()\n"
        "finally:\n    print('heavy:', sorted({'torch', 'numpy', 'gymnasium', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0 and done.stdout.count("finished") == 1000 and done.stdout.endswith("heavy: []\n")


def test_runs_starts_in_half_a_second(tmp_path: Path) -> None:
    made(tmp_path)
    used = [sum(os.times()[2:4])]  # of the processor, whatever else runs beside the tests
    for _ in range(4):
        subprocess.run([sys.executable, "-m", "logpi", "runs", str(tmp_path)], check=True, capture_output=True)
        used.append(sum(os.times()[2:4]))
    assert min(after - before for before, after in itertools.pairwise(used)) < 0.5
