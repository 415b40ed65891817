"""The guide runs: a chapter's code is one program, read from top to bottom, and its figures are drawn by code that asserts what they show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from logpi.lab.demos import DEMOS

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guide"
TEXTS = [p for p in sorted(GUIDE.rglob("*.md")) if "```python" in p.read_text()]
FIGURES = sorted((GUIDE / "figures").glob("[0-9]*.py"))
CHAPTERS = sorted(GUIDE.glob("[0-9]*.md"))


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


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_ends_as_all_do(chapter):
    """Demonstrations by their titles, three exercises, their solutions, the chapters beside it by theirs."""
    at = CHAPTERS.index(chapter)
    beside = [("Previous", x) for x in CHAPTERS[at - 1 : at]] + [("Next", x) for x in CHAPTERS[at + 1 : at + 2]]
    ways = [f"{word}: [{x.read_text().splitlines()[0][2:]}]({x.name})" for word, x in beside]
    _, see, exercises, end = re.split(r"\n## See it\n\n|\n## Exercises\n\n|\n(?=\[Solutions\])", chapter.read_text())
    assert end == f"[Solutions](solutions/{chapter.name})\n\n{' · '.join(ways)}\n"
    assert re.findall(r"^(\d)\. ", exercises, re.MULTILINE) == ["1", "2", "3"]
    shown = re.findall(r"\[([^\]]+)\]\(\.\./lab\.md#(\w+)\)", see)
    assert shown and all(title == DEMOS[name].title for title, name in shown)


def test_every_demonstration_is_shown_by_a_chapter():
    text = "".join(x.read_text() for x in CHAPTERS)
    assert [name for name in DEMOS if f"lab.md#{name})" not in text] == []
