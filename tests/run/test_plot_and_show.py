"""Pictures are drawn from metrics.jsonl; `show` and `methods` read the pages themselves."""

import ast
import inspect
import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

import logpi
from logpi import average, kl, objective, psi
from logpi.run import cli
from logpi.run.folder import RunFolder, rows
from logpi.run.plot import plot
from logpi.run.setup import Settings
from logpi.run.show import methods_table, page_source
from logpi.run.train import Options
from logpi.step import gradient, natural

PNG = b"\x89PNG\r\n\x1a\n"


def written(folder: Path, returns: list[float | None], name: str = "ppo") -> Path:
    run = folder / "CartPole-v1" / name / "3-20260101-000000"
    run.mkdir(parents=True)
    table = [{"iteration": i, "steps": 10 * i, "return": r, "kl": 0.1, "seconds": 0.5} for i, r in enumerate(returns)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    return run


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*line: str) -> str:
        monkeypatch.setattr(sys, "argv", ["logpi", *line])
        monkeypatch.setenv("COLUMNS", "300")
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        return capsys.readouterr().out

    return run


def test_png_and_svg(tmp_path: Path, call: Any) -> None:
    runs = [str(written(tmp_path, [None, 1.0, 2.0])), str(written(tmp_path, [3.0, 4.0], "trpo"))]
    png, svg = tmp_path / "new" / "a.png", tmp_path / "a.svg"
    assert call("plot", *runs, "--out", str(png)).strip() == str(png) and png.read_bytes()[:8] == PNG
    call("plot", *runs, "--out", str(svg), "--x", "seconds", "--y", "kl")
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    assert all(
        words in svg.read_text()
        for words in ("<!-- seconds -->", "<!-- kl -->", "<!-- ppo, seed 3 -->", "<!-- trpo, seed 3 -->")
    )


def test_what_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    run, out = written(tmp_path, [1.0]), tmp_path / "x.png"
    for y, words in (("retrun", "Did you mean return?"), ("kll", "Did you mean kl?")):
        with pytest.raises(logpi.LogpiError, match=words.replace("?", r"\?")):
            plot([run], out, y=y)
    with pytest.raises(logpi.LogpiError, match=r"must end in \.png or \.svg"):
        plot([run], tmp_path / "x.pdf")
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(logpi.LogpiError, match="no finished iteration"):
        plot([run], out)
    (run / "metrics.jsonl").write_text('{"steps": 1}\nbroken\n')
    with pytest.raises(logpi.LogpiError, match=r"Line 2 of .* is not JSON"):
        list(rows(run))
    assert not out.exists()


def test_the_config_is_toml_whatever_the_names(tmp_path: Path) -> None:
    import tomllib

    settings = Settings(env='./my "env"\\é😀.py:Env', hidden=(3, 4))
    folder = RunFolder.create(str(tmp_path), settings.env, "ppo", 0)
    folder.describe("ppo", logpi.METHODS["ppo"](lr=1e-5), settings, Options(), "native")
    config = tomllib.loads((folder.path / "config.toml").read_text())
    assert config["run"]["env"] == settings.env and config["run"]["hidden"] == [3, 4] and config["method"]["lr"] == 1e-5


def test_two_runs_of_one_second_have_two_folders(tmp_path: Path) -> None:
    made = [RunFolder.create(str(tmp_path), "a/b", "ppo", 0).path for _ in range(3)]
    assert len(set(made)) == 3 and {p.parent for p in made} == {tmp_path / "a_b" / "ppo"}


ROOMS = {"psi": psi, "objective": objective, "average": average, "kl": kl, "gradient": gradient, "natural": natural}


def factors() -> dict[str, str]:
    """Every public function of the factor rooms and its source."""
    return {
        f"{room}.{name}": inspect.getsource(f).rstrip()
        for room, module in ROOMS.items()
        for name, f in vars(module).items()
        if inspect.isfunction(f) and f.__module__ == module.__name__
    }


def direct(page: type) -> set[str]:
    """What the page's own text calls, as module.name; a step is imported by its name."""
    source = inspect.getsource(inspect.getmodule(page))  # type: ignore[arg-type]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Name):
            found |= {f"gradient.{node.id}", f"natural.{node.id}"}
    return found


@pytest.mark.parametrize("method", logpi.METHODS)
def test_show_prints_the_page_what_it_calls_and_the_loop_in_300_lines(method: str, call: Any) -> None:
    page = logpi.METHODS[method]
    text = call("show", method)
    assert text.rstrip() == page_source(page).rstrip() and len(text.splitlines()) <= 300
    assert inspect.getsource(inspect.getmodule(page)) in text
    assert "def loop(" in text and "def update(" in text
    known = factors()
    for name in direct(page) & known.keys():
        assert known[name] in text, name
    for other, its in logpi.METHODS.items():
        assert other == method or f"class {its.__name__}:" not in text
    shown = {name for name, source in known.items() if source in text}
    for name in shown - direct(page):  # reached through another function that is shown
        short = name.split(".")[1]
        assert text.count(f"{short}(") + text.count(f"kl.{short}") > 1, f"{name} is shown, yet nothing calls it"
    ast.parse(text)


def test_show_leaves_out_what_a_page_does_not_call() -> None:
    text = page_source(logpi.METHODS["reinforce"])
    assert "def reward_to_go" in text and "def ascend" in text and "def backward" in text
    assert not any(f"def {name}(" in text for name in ("gae", "clip", "vtrace", "conjugate_gradient", "k3", "n_step"))
    text = page_source(logpi.METHODS["trpo"])
    assert all(f"def {name}(" in text for name in ("gae", "ratio", "trust_region_step", "conjugate_gradient"))
    assert "def ascend(" not in text and "def clip(" not in text


def test_methods_prints_every_method_and_its_five_words(call: Any) -> None:
    text, table = call("methods"), {row[0]: row[1:] for row in methods_table()}
    assert list(table) == list(logpi.METHODS) and all(name in text for name in table)
    expected = {
        "reinforce": ("reward to go", "score", "per episode", "ascend"),
        "ppo": ("gae", "clip", "per action", "ascend"),
        "trpo": ("gae", "ratio", "per action", "trust region step"),
        "grpo": ("group standardise", "clip", "per sequence", "ascend"),
        "rloo": ("leave one out", "score", "per episode", "ascend"),
    }
    for name, words in expected.items():
        for cell, word in zip(table[name], words, strict=True):
            assert word in cell.replace("_", " "), f"{name}: {cell!r} does not say {word!r}"
    assert "KL k3" in table["grpo"][1] or "KL k1" in table["rloo"][0]
