"""Recipes and --config: page defaults < recipe < what --init was trained in < --config < flags, and it is said out loud."""

import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import logpi
from logpi import METHODS, LogpiError
from logpi.lm.tasks import TASKS
from logpi.run import cli, config, recipes
from logpi.run.language import Text
from logpi.run.setup import Settings
from logpi.run.track import rows

QUICK = "--envs 2 --length 16 --steps 64 --hidden 8 --evaluate 0 --no-plot"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """The command in this process, in a folder of its own: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["logpi", *shlex.split(line)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    return run


def trained(call: Any, line: str) -> tuple[dict, str]:
    """(the sections of the new run's config.toml, what was printed)"""
    before = set(Path().glob("runs/*/*/*"))
    code, out, err = call(f"train {line}")
    assert (code, err) == (0, "")
    (run,) = set(Path().glob("runs/*/*/*")) - before
    return tomllib.loads((run / "config.toml").read_text()) | {"folder": run}, out


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_says_what_differs_from_the_defaults_and_where_it_was_measured(name):
    env, method = name.split("/")
    file = Path(logpi.__file__).parent / "recipes" / f"{name}.toml"
    another = env.startswith("like-")  # not tuned: another library's details
    assert file.read_text().startswith("# stable-baselines3 " if another else "# Measured by ")
    found, sections = recipes.choose(name if another else "auto", method, env)
    assert found == name and sections
    for title, record in (("method", METHODS[method]()), ("run", Text() if env in TASKS else Settings())):
        filled = config.fill(record, sections.get(title, {}), name)
        assert another or all(getattr(filled, key) != getattr(record, key) for key in sections.get(title, {}))
        assert all(getattr(record, key) is not None for key in sections.get(title, {})), "a config could not undo it"


def test_the_recipes_are_those_at_the_top_of_the_checkout():
    top = Path(logpi.__file__).parents[2] / "recipes"
    assert sorted(f"{f.parent.name}/{f.stem}" for f in top.glob("*/*.toml")) == recipes.names()


def test_keywords_for_learn():
    found = recipes.recipe("trpo", "Pendulum-v1")
    assert found["gamma"] == 0.9 and found["normalise_obs"] is True
    assert not {"steps", "seed", "out", "env"} & found.keys()
    record = next(iter(logpi.learn("trpo", "Pendulum-v1", **found | {"length": 16, "hidden": (8,)}, steps=64)))
    assert record.steps == 64
    assert recipes.recipe("ppo", "CartPole-v1") == {}
    with pytest.raises(LogpiError, match=r"^There is no method 'trop'\. Did you mean trpo\?$"):
        recipes.recipe("trop", "Pendulum-v1")


def test_a_recipe_is_used_and_said_out_loud(call):
    found, out = trained(call, f"trpo --env Pendulum-v1 {QUICK} --gamma 0.5")
    assert found["method"]["delta"] == 0.03 and found["run"]["normalise_obs"] is True
    assert found["method"]["gamma"] == 0.5 and found["method"]["envs"] == 2, "flags win"
    assert found["train"]["recipe"] == "Pendulum-v1/trpo"
    said = "recipe Pendulum-v1/trpo: lam 0.95, delta 0.03, critic_epochs 15, critic_minibatches 32, normalise_obs true"
    assert out.splitlines()[0] == f"{said} (--recipe none leaves it)"
    _, out = trained(call, f"trpo --env Pendulum-v1 {QUICK} --quiet")
    assert "recipe" not in out


def test_a_recipe_can_be_left_and_another_taken(call):
    found, out = trained(call, f"trpo --env Pendulum-v1 {QUICK} --recipe none")
    assert found["method"]["delta"] == 0.01 and found["train"]["recipe"] == "none" and "recipe" not in out
    found, out = trained(call, f"ppo {QUICK} --recipe Pendulum-v1/ppo")
    assert found["method"]["gamma"] == 0.9 and "recipe Pendulum-v1/ppo: gamma 0.9" in out
    Path("own.toml").write_text("[method]\nlr = 0.01\n[run]\nnormalise_obs = true\n")
    found, out = trained(call, f"ppo {QUICK} --recipe own.toml")
    assert "recipe own.toml: lr 0.01, normalise_obs true (" in out and found["method"]["lr"] == 0.01
    found, out = trained(call, f"ppo {QUICK}")
    assert found["train"]["recipe"] == "none" and "recipe" not in out


def test_help_shows_the_values_that_would_be_used(call):
    assert "(default: 0.03)" in call("train trpo --env Pendulum-v1 --help")[1]
    Path("my.toml").write_text("[method]\ndelta = 0.0625\n")
    assert "(default: 0.0625)" in call("train trpo --env Pendulum-v1 --config my.toml --help")[1]


def test_a_runs_own_config_repeats_it(call):
    first, _ = trained(call, f"trpo --env Pendulum-v1 {QUICK} --seed 3")
    second, out = trained(call, f"trpo --config {first['folder']}/config.toml")
    assert "recipe" not in out, "the file says everything"
    strip = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows(x["folder"])] for x in (first, second)]
    assert strip[0] == strip[1] and len(strip[0]) == 2
    assert {k: first[k] for k in ("method", "run", "train")} == {k: second[k] for k in ("method", "run", "train")}


def test_a_config_wins_over_a_recipe_and_a_flag_over_both(call):
    Path("my.toml").write_text(
        '[method]\nname = "trpo"\ngamma = 0.8\ndelta = 0.02\n[run]\nenv = "Pendulum-v1"\n[train]\nevaluate = 0\n'
    )
    found, out = trained(call, f"trpo --config my.toml {QUICK} --delta 0.05")
    assert found["method"]["gamma"] == 0.8 and found["method"]["delta"] == 0.05 and found["method"]["lam"] == 0.95
    assert "gamma" not in out and "lam 0.95" in out and "config" not in found["train"]
    Path("my.toml").write_text('[train]\nrecipe = "none"\n')
    found, _ = trained(call, f"trpo --env Pendulum-v1 --config=my.toml {QUICK}")
    assert found["method"]["delta"] == 0.01


def test_settings_of_the_weights_that_a_run_starts_from_are_inherited(call):
    first, _ = trained(call, f"ppo {QUICK} --normalise-obs --no-normalise-reward --shared --lr 0.5")
    second, _ = trained(call, f"ppo --init {first['folder']} --envs 2 --length 16 --steps 32 --evaluate 0 --no-plot")
    inherited = {"hidden": [8], "normalise_obs": True, "normalise_reward": False, "shared": True, "env": "CartPole-v1"}
    assert {k: second["run"][k] for k in inherited} == inherited
    assert second["run"]["steps"] == 32 and second["method"]["lr"] == 1e-3, "the rest is not"
    assert second["train"]["init"] == str(first["folder"])


MISTAKES = {
    "train ppo --recipe Pendulum-v1/pp": "There is no recipe 'Pendulum-v1/pp'. Did you mean Pendulum-v1/ppo? A file of yours ends in .toml.",
    "train ppo --recipe own.toml": "'own.toml' cannot be read (No such file or directory): give a TOML file.",
    "train ppo --recipe steps.toml": "The recipe steps.toml sets steps: that is for a --config, or a flag.",
    "train ppo --recipe train.toml": "The recipe train.toml has a section [train]: that is for a --config, or a flag.",
    "train ppo --recipe delta.toml": "the recipe delta.toml has no 'delta'.",
    "train ppo --config own.toml": "'own.toml' cannot be read (No such file or directory): give a TOML file.",
    "train ppo --config trpo.toml": "trpo.toml is of the method 'trpo', and ppo was asked for: take one or the other.",
    "train ppo --config chain.toml": "chain.toml: [train] config names another file, which only --config may.",
    "train ppo --config code.toml": "code.toml: network is code of yours (./x.py:build): pass it again, --network ./x.py:build.",
    "train ppo --config env.toml": "env.toml: env is code of yours (os:system-v0): pass it again, --env os:system-v0.",
    "train ppo --config number.toml": "number.toml: env is 3: allowed is a text that is not empty.",
    "train ppo --config gama.toml": "gama.toml has no 'gama'. Did you mean gamma?",
    "train ppo --init nowhere": "nowhere has no config.toml: --init takes the folder of a run.",
    "train ppo --config": "--config",
}
TOML = {
    "steps": "[run]\nsteps = 3\n",
    "train": "[train]\nkeep = 3\n",
    "delta": "[method]\ndelta = 3\n",
    "trpo": '[method]\nname = "trpo"\n',
    "chain": '[train]\nconfig = "other.toml"\n',
    "code": '[run]\nnetwork = "./x.py:build"\n',
    "env": '[run]\nenv = "os:system-v0"\n',
    "number": "[run]\nenv = 3\n",
    "gama": "[method]\ngama = 3\n",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_in_one_sentence(line, call):
    for name, text in TOML.items():
        Path(f"{name}.toml").write_text(text)
    code, out, err = call(line)
    assert (code, out) == (2, "") and err.startswith("logpi: ") and err.count("\n") == 1
    assert MISTAKES[line] in err and not Path("runs").exists()


def test_code_that_a_config_names_runs_once_it_is_typed_again(call):
    Path("net.py").write_text("import torch\ndef build(i, o): return torch.nn.Linear(i, o)\n")
    first, _ = trained(call, f"ppo {QUICK} --network ./net.py:build")
    second, _ = trained(call, f"ppo --config {first['folder']}/config.toml --network ./net.py:build")
    assert second["run"] == first["run"]


def test_a_page_with_a_field_that_the_config_uses_itself_is_refused(call):
    Path("mine.py").write_text(
        "from logpi import METHODS\nfrom logpi.page import page\n@page\nclass Mine(METHODS['ppo']):\n    name: str = 'x'\n"
    )
    assert call("train ./mine.py:Mine")[2] == (
        "logpi: ./mine.py:Mine has a field name, which logpi train uses itself: give it another name.\n"
    )
