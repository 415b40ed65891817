"""The guide runs: a chapter's code is one program, read from top to bottom, and its figures are drawn by code that asserts what they show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guide"
TEXTS = [p for p in sorted(GUIDE.rglob("*.md")) if "```python" in p.read_text()]
FIGURES = sorted((GUIDE / "figures").glob("[0-9]*.py"))


def run(*args: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, *args], cwd=cwd, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", TEXTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_code_of_a_text_runs_from_top_to_bottom(text, tmp_path):
    (tmp_path / "text.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", text.read_text(), re.DOTALL)))
    run("text.py", cwd=tmp_path)


@pytest.mark.parametrize("script", FIGURES, ids=lambda p: p.stem)
def test_figures_are_drawn_and_those_that_are_shown_are_there(script, tmp_path):
    run(str(script), str(tmp_path), cwd=tmp_path)
    drawn = {p.name for p in tmp_path.glob("*.svg")}
    assert drawn
    assert drawn == {p.name for p in (GUIDE / "figures").glob(f"{script.name[:2]}-*.svg")}
