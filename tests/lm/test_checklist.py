"""docs/checklist.md names a test for every detail: each is there, under that name, and none of the 33 is left out."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| (\d+) \|(.*)\|$", (ROOT / "docs" / "checklist.md").read_text(), re.MULTILINE)


def missing(text: str) -> list[str]:
    """The tests named in a row, file and function, that are not there."""
    found, file = [], ""
    for name in re.findall(r"`((?:tests/)?[\w/]+\.py|test_\w+)`", text):
        if name.endswith(".py"):
            file = name
            found += [] if (ROOT / file).is_file() else [file]
        elif name not in {
            x.name for x in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(x, ast.FunctionDef)
        }:
            found.append(f"{file}::{name}")
    return found


def test_every_detail_has_a_row_and_every_test_that_is_named_is_there():
    assert [int(number) for number, _ in ROWS] == [*range(1, 34)]
    assert not [x for _, row in ROWS for x in missing(row)]
    unnamed = [number for number, row in ROWS if "`test_" not in row]
    assert all("not yet" in row for number, row in ROWS if number in unnamed), unnamed


def test_a_dead_name_would_be_found():
    assert missing("`tests/lm/test_checklist.py` `test_no_such_test`") == [
        "tests/lm/test_checklist.py::test_no_such_test"
    ]
    assert not missing("`tests/lm/test_checklist.py` `test_a_dead_name_would_be_found`")
