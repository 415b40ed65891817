"""One thread: the tests run two at a time. Warnings are errors, but for one that torch gives of itself.

Every sentence that refuses something is said in a test: a whole run fails where a LogpiError in src was never made.
--plain takes the fast twins away from this process: what the tests ask of the library holds of the plain path, too.
"""

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from logpi.errors import LogpiError

torch.set_num_threads(1)
SRC = Path(__file__).parent.parent / "src" / "logpi"
said: set[tuple[str, int]] = set()  # (file, line) where an error was made


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plain", action="store_true", help="without the fast twins, and without their own tests")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    twins = {"fast", "test_bench.py", "test_seeds_threads.py"}
    return True if config.getoption("plain") and collection_path.name in twins else None


def pytest_configure(config: pytest.Config) -> None:
    """torch.func.jvp compiles its decompositions with torch.jit.script when it is first called."""
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit.script` is deprecated:DeprecationWarning")
    if config.getoption("plain"):
        from logpi.policy import tokens
        from logpi.run import setup

        setup.twins, tokens.Tokens.fast = lambda *_: None, False
    plain = LogpiError.__init__

    def noting(self: LogpiError, *args: Any, **more: Any) -> None:
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_locals.get("self") is self:
            frame = frame.f_back
        said.add((frame.f_code.co_filename, frame.f_lineno))
        plain(self, *args, **more)

    LogpiError.__init__ = noting  # type: ignore[method-assign]


def pytest_testnodedown(node: Any, error: Any) -> None:
    said.update(tuple(place) for place in getattr(node, "workeroutput", {}).get("said", ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["said"] = sorted(said)
        return
    chosen = session.config.option.keyword or session.config.args != session.config.getini("testpaths")
    chosen = chosen or session.config.getoption("plain")
    if not chosen:
        silent = [f"{file.relative_to(SRC)}:{first}" for file, first, last in made() if not heard(file, first, last)]
        if silent:
            print(f"\nNo test hears these sentences: {', '.join(silent)}")
            session.exitstatus = exitstatus or 1


def heard(file: Path, first: int, last: int) -> bool:
    return any(name == str(file) and first <= line <= last for name, line in said)


def made() -> list[tuple[Path, int, int]]:
    """(file, first line, last line) of every call in src that makes a LogpiError or a kind of it."""
    kinds, todo = {LogpiError.__name__}, [LogpiError]
    while todo:
        found = todo.pop().__subclasses__()
        kinds |= {x.__name__ for x in found}
        todo += found
    calls = [(file, n) for file in sorted(SRC.rglob("*.py")) for n in ast.walk(ast.parse(file.read_text()))]
    return [
        (file, n.lineno, n.end_lineno or n.lineno)
        for file, n in calls
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in kinds
    ]
