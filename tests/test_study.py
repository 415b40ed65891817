"""A study of several seeds tells what its runs did, whether or not they could be evaluated."""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from study import Task, evaluated, stated, verdict  # noqa: E402

TASK = Task("a walk", "ppo --env CliffWalking-v1", 2, -13)
GOOD = {"deterministic": -13.0, "sampled": -14.0, "training": -15.0}


def test_the_means_are_those_of_the_runs_file(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "a.json").write_text(json.dumps({"evaluations": [{"mean": -13.0}, {"mean": -14.5}]}))
    assert evaluated(tmp_path) == {"deterministic": -13.0, "sampled": -14.5}


def test_a_seed_without_an_evaluation_is_told_and_its_task_is_not_met(tmp_path: Path) -> None:
    none = evaluated(tmp_path)
    assert none == {"deterministic": None, "sampled": None}, "such a run writes no file"
    met = verdict(TASK, [GOOD, GOOD])
    assert met["met"] and stated(met, 1) == "-13.0 [-13.0, -13.0]"
    found = verdict(TASK, [GOOD, GOOD | none])
    assert not found["met"] and found["bar"] == "1 of 2 seeds without an evaluation" and stated(found, 1) == "-"
    assert not verdict(Task("no bar", "ppo", 1), [GOOD | none])["met"]
