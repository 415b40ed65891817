"""Forty bugs of one line: the test kit catches them, and the harness says so when it does not."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from logpi.errors import LogpiError
from logpi.run import planted
from logpi.run.planted import BUGS, SOURCE, Bug, plant, read

NOTHING = Bug(
    "nothing is changed", "psi.py", "return ret - ret.mean(-1, keepdim=True)", "return ret - ret.mean(-1, keepdim=True)"
)
SCORE = Bug("the score is minus the score", "objective.py", "return log_pi * psi", "return -log_pi * psi")


def as_toml(bugs: list[Bug]) -> str:
    return "\n".join(f"[[bug]]\nwhat = {b.what!r}\nfile = {b.file!r}\nold = {b.old!r}\nnew = {b.new!r}\n" for b in bugs)


def test_there_are_forty_and_each_is_one_line_that_stands_once(tmp_path):
    bugs = read(BUGS)
    assert len(bugs) == len(set(bugs)) == 40 and len({b.what for b in bugs}) == 40
    spread = Counter(b.file.split("/")[0] for b in bugs)
    assert spread == {"psi.py": 14, "objective.py": 8, "average.py": 4, "kl.py": 6, "step": 8}
    for i, bug in enumerate(bugs):
        file = tmp_path / str(i) / bug.file
        file.parent.mkdir(parents=True)
        before = (SOURCE / bug.file).read_text()
        file.write_text(before)
        plant(bug, tmp_path / str(i))
        pairs = zip(before.splitlines(), file.read_text().splitlines(), strict=True)
        changed = [(old, new) for old, new in pairs if old != new]
        assert len(changed) == 1 and changed[0][1].strip() == bug.new
        compile(file.read_text(), bug.file, "exec")


def test_the_kit_catches_them(capsys):
    code = planted.report(json=True)
    told = json.loads(capsys.readouterr().out)
    missed = [b["what"] for b in told["bugs"] if not b["caught_by"]]
    assert code == 0 and told["of"] == 40 and told["caught"] == 40 - len(missed) >= 38, missed
    named = {name for b in told["bugs"] for name in b["caught_by"]}
    assert all(not name.startswith("(") for name in named)  # by a check, not by a crash


def test_a_bug_that_is_none_is_not_caught_and_the_exit_code_says_so(capsys, monkeypatch, tmp_path):
    file = tmp_path / "planted.toml"
    file.write_text(as_toml([NOTHING, SCORE]))
    monkeypatch.setattr(planted, "BUGS", file)
    assert planted.report(json=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["file", "bug,", "and", "the", "checks", "that", "catch", "it", "checks"]
    assert lines[1].split() == ["psi.py", "nothing", "is", "changed", "NOT", "CAUGHT"]
    assert SCORE.what in lines[2] and any("reward-to-go with gamma^t has the gradient of J" in x for x in lines[3:])
    assert lines[-1] == "1 of 2 caught"


def test_a_crash_a_hang_and_a_file_that_does_not_import_are_caught_by_name(monkeypatch):
    monkeypatch.setattr(planted, "SECONDS", 20.0)
    lines = ["import os; os._exit(7)", "import time; time.sleep(1000)", "return log_pi * (", "return log_pi * psi"]
    found = planted.planted([Bug(new, SCORE.file, SCORE.old, new) for new in lines])
    assert found[:2] == [{"(crash)": "exit code 7"}, {"(hang)": "not done after 20 s"}]
    assert "SyntaxError" in found[2]["(import)"] and found[3] == {}


def test_where_processes_are_not_forked_it_is_the_same(monkeypatch, tmp_path):
    script = Path(planted.alone.__file__).read_text()
    assert 'FORKS = sys.platform == "linux"' in script
    (tmp_path / "alone.py").write_text(script.replace('FORKS = sys.platform == "linux"', "FORKS = False"))
    monkeypatch.setattr(planted.alone, "__file__", str(tmp_path / "alone.py"))
    (found,) = planted.planted([SCORE])
    assert "reward-to-go with gamma^t has the gradient of J" in found


def test_a_package_on_which_the_kit_fails_by_itself_is_refused(tmp_path):
    shutil.copytree(SOURCE, tmp_path / "logpi")
    plant(SCORE, tmp_path / "logpi")
    with pytest.raises(LogpiError, match="The kit fails on the package as it is, [0-9]+ checks, first '"):
        planted.planted([], tmp_path / "logpi")


def test_without_a_checkout_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(planted, "BUGS", tmp_path / "tests" / "exact" / "planted.toml")
    with pytest.raises(LogpiError, match="planted.toml is not there: clone the repository"):
        planted.report(json=False)


@pytest.mark.parametrize(("old", "times"), [("return what_never_was", 0), ("return torch", 0), ("", 70)])
def test_an_old_line_that_does_not_stand_exactly_once_is_an_error_that_names_the_entry(tmp_path, old, times):
    (tmp_path / "psi.py").write_text("import torch\n" + times * "\n")
    with pytest.raises(LogpiError, match=f"'a name' cannot be planted: its old line stands {times} times in psi.py"):
        plant(Bug("a name", "psi.py", old, "pass"), tmp_path)
