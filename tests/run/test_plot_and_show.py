"""Pictures are drawn from metrics.jsonl; `show` and `methods` read the pages themselves."""

import ast
import dataclasses
import inspect
import itertools
import json
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

import logpi
from logpi import average, kl, objective, psi
from logpi.run import cli
from logpi.run.bootstrap import bootstrap
from logpi.run.config import dump
from logpi.run.folder import RunFolder, rows
from logpi.run.plot import grouped, mean_curve, plot, read
from logpi.run.setup import Settings
from logpi.run.show import TWIN, methods_table, page_source
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


def group(
    out: Path, method: str = "ppo", seeds: int = 3, clip: float = 0.2, env: str = "Toy-v0", steps: int = 60
) -> list[Path]:
    """Runs that differ in the seed only; seed s has the return s + steps / 10 from step 10 (s + 1) on."""
    made = []
    for seed in range(seeds):
        run = out / env / method / f"{seed}-{clip}"
        run.mkdir(parents=True)
        text = f'[method]\nname = "{method}"\nclip = {clip}\n[run]\nenv = "{env}"\nseed = {seed}\n[train]\nout = "{seed}"\n'
        (run / "config.toml").write_text(text)
        rows = [{"steps": s, "return": seed + s / 10, "seconds": 0.1} for s in range(10 * (seed + 1), steps, 10)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        made.append(run)
    return made


def labels(runs: list[Path], out: Path, **how: Any) -> set[str]:
    text = plot(runs, out / "a.svg", **how).read_text()
    return {x for x in re.findall(r"<!-- (.*?) -->", text) if "seed" in x and not x.startswith("line:")}


def test_runs_that_differ_in_the_seed_only_are_one_curve(tmp_path: Path) -> None:
    runs = group(tmp_path, clip=0.2) + group(tmp_path, clip=0.1, seeds=2) + group(tmp_path, "trpo", seeds=1)
    assert labels(runs, tmp_path) == {"ppo, clip=0.2 (3 seeds)", "ppo, clip=0.1 (2 seeds)", "trpo, seed 0"}
    assert "95 % bootstrap interval" in (tmp_path / "a.svg").read_text()
    assert labels(runs[:3], tmp_path) == {"ppo (3 seeds)"}
    assert labels(runs[:3], tmp_path, each=True) == {"ppo, seed 0", "ppo, seed 1", "ppo, seed 2"}
    assert "bootstrap" not in (tmp_path / "a.svg").read_text()


def test_a_second_run_of_a_seed_is_no_second_seed(tmp_path: Path) -> None:
    runs = group(tmp_path, seeds=2)
    again = tmp_path / "again"
    shutil.copytree(runs[0], again)
    (again / "metrics.jsonl").write_text('{"steps": 10, "return": 7.0, "seconds": 1}\n')
    ((name, found),) = grouped([read(run, "steps", "return") for run in (*runs, again)])
    assert name == "ppo" and [(run.seed, run.y[0]) for run in found] == [(0, 7.0), (1, 3.0)]


def test_each_environment_has_its_panel_and_a_method_one_colour(tmp_path: Path) -> None:
    runs = (
        group(tmp_path, env="A-v0") + group(tmp_path, "trpo", env="B$^$-v0") + group(tmp_path, env="B$^$-v0", seeds=2)
    )
    text = plot(runs, tmp_path / "a.svg").read_text()
    assert all(f"<!-- {words} -->" in text for words in ("A-v0", "B$^$-v0", "trpo (3 seeds)", "ppo (2 seeds)"))
    panels = text.split('id="axes_')[1:]
    thick = [re.findall(r"stroke: (#\w+); stroke-width: 2[;\"]", panel) for panel in panels]
    assert thick[0] and thick[0][0] in thick[1] and len(set(thick[1])) == 2


def test_the_mean_is_over_what_all_seeds_have(tmp_path: Path) -> None:
    runs = [read(run, "steps", "return") for run in group(tmp_path)]
    grid, samples = mean_curve(runs)
    assert grid[0] == 30 and grid[-1] == 50 and samples.shape == (3, len(grid))
    np.testing.assert_allclose(samples, grid / 10 + np.arange(3)[:, None], atol=1e-12)
    late = dataclasses.replace(runs[0], x=runs[0].x + 1000)
    assert mean_curve([runs[0], late])[0].size == 0


def test_seeds_that_share_no_step_are_drawn_without_a_mean(tmp_path: Path) -> None:
    runs = group(tmp_path, seeds=2)
    (runs[1] / "metrics.jsonl").write_text('{"steps": 1000, "return": 7.0, "seconds": 1}\n')
    assert labels(runs, tmp_path) == {"ppo (2 seeds)"}


def test_rows_without_the_value_are_skipped(tmp_path: Path) -> None:
    run = written(tmp_path, [None, 1.0, 2.0])
    rows = [
        {"steps": 1, "seconds": 1},
        {"steps": 2, "seconds": 1, "eval_return": 5.0},
        {"steps": 3, "seconds": 1, "eval_return": "x"},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')
    found = read(run, "seconds", "eval_return")
    assert found.x.tolist() == [2.0] and found.y.tolist() == [5.0] and found.settings == {} and found.method == "ppo"
    text = plot([run], tmp_path / "a.svg", y="eval_return").read_text()
    assert "<!-- mean return of evaluation episodes -->" in text and "<!-- ppo, seed 3 -->" in text


def test_a_run_that_has_no_such_number_yet_is_named_and_hides_no_other(tmp_path: Path) -> None:
    runs = group(tmp_path) + group(tmp_path, "trpo", seeds=1) + group(tmp_path, "npg", seeds=2)
    for run, text in zip(runs[2:], ("", "", '{"steps": 5, "return": null}\n', '{"steps": 9}\n'), strict=True):
        (run / "metrics.jsonl").write_text(text)
    assert labels(runs, tmp_path) == {"ppo (2 seeds)", *(f"{name}, seed 0 (no value yet)" for name in ("trpo", "npg"))}
    assert labels(runs[4:5], tmp_path) == {"npg, seed 0 (no value yet)"}


def test_a_folder_of_runs_is_all_its_runs(tmp_path: Path, call: Any) -> None:
    runs = group(tmp_path / "runs", seeds=2)
    svg = tmp_path / "a.svg"
    call("plot", str(tmp_path / "runs"), str(runs[0]), "--out", str(svg))
    assert "<!-- ppo (2 seeds) -->" in svg.read_text()


def test_the_bootstrap_of_two_runs_is_their_range_and_of_equal_ones_their_value() -> None:
    low, high = bootstrap(np.array([[1.0, 5.0, 2.0], [3.0, 5.0, -2.0]]))
    assert low.tolist() == [1.0, 5.0, -2.0] and high.tolist() == [3.0, 5.0, 2.0]


def test_the_bootstrap_is_the_quantile_of_all_resamples_and_scipys() -> None:
    samples = np.array([0.3, 1.0, 2.1, 4.7, 9.2])
    means = np.array(list(itertools.product(samples, repeat=5))).mean(1)
    low, high = bootstrap(samples, draws=40_000)
    exact = np.quantile(means, [0.025, 0.975])
    np.testing.assert_allclose([low, high], exact, atol=0.06)
    peer = scipy.stats.bootstrap(
        (samples,), np.mean, n_resamples=40_000, method="percentile", rng=np.random.default_rng(1)
    )
    np.testing.assert_allclose([low, high], peer.confidence_interval, atol=0.1)
    assert bootstrap(samples) == bootstrap(samples)
    wide = bootstrap(samples, level=0.99)
    assert wide[0] < low and wide[1] > high


def test_what_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    run, out = written(tmp_path, [1.0]), tmp_path / "x.png"

    def told(**how: Any) -> str:
        with pytest.raises(logpi.LogpiError) as wrong:
            plot([run], **({"out": out} | how))
        return str(wrong.value)

    for y, near in (("retrun", "return"), ("kll", "kl")):
        assert told(y=y) == f"{run} has no {y!r} in its metrics. Did you mean {near}?"
    assert told(x="kl") == "The x-axis cannot be 'kl': there is steps, seconds and iteration."
    assert told(out=tmp_path / "x.pdf") == f"The picture {tmp_path / 'x.pdf'} must end in .png or .svg."
    (run / "metrics.jsonl").write_text("")
    assert told() == f"{run} has no finished iteration to plot."
    (run / "metrics.jsonl").write_text('{"steps": 1}\nbroken\n')
    with pytest.raises(logpi.LogpiError, match=r"Line 2 of .* is not JSON"):
        list(rows(run))
    assert not out.exists()


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(logpi.LogpiError) as wrong:
        plot([written(tmp_path, [1.0])], tmp_path / "x.png")
    assert str(wrong.value) == 'Plots need matplotlib: pip install "logpi[plot]".'


def test_the_config_is_toml_whatever_the_names(tmp_path: Path) -> None:
    import tomllib

    settings = Settings(env='./my "env"\\é😀.py:Env', hidden=(3, 4))
    folder = RunFolder.create(str(tmp_path), settings.env, "ppo", 0)
    asked = {"method": {"lr": 1e-5}, "run": dataclasses.asdict(settings)}
    folder.describe(dump(asked), "native", ["train", "ppo"])
    folder.close()
    config = tomllib.loads((folder.path / "config.toml").read_text())
    assert config["run"]["env"] == settings.env and config["run"]["hidden"] == [3, 4] and config["method"]["lr"] == 1e-5


def test_two_runs_of_one_second_have_two_folders(tmp_path: Path) -> None:
    made = [RunFolder.create(str(tmp_path), "a/b", "ppo", 0) for _ in range(3)]
    for folder in made:
        folder.close()
    assert len({f.path for f in made}) == 3 and {f.path.parent for f in made} == {tmp_path / "a_b" / "ppo"}


ROOMS = {"psi": psi, "objective": objective, "average": average, "kl": kl, "gradient": gradient, "natural": natural}


def factors() -> dict[str, str]:
    """Every public function of the factor rooms and its source."""
    return {
        f"{room}.{name}": re.sub(TWIN, "", inspect.getsource(f).rstrip())
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
