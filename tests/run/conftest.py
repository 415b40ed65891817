"""The command in this process, in a folder of its own."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from logpi.run import cli

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Words after `logpi` -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["logpi", *line])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    return run
