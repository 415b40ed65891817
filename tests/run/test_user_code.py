"""A page, an environment and a network of the user's own: by path through the command, as objects through `learn`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import logpi
from logpi import LogpiError, envs, methods
from logpi.loop import Parts, loop
from logpi.run import checkpoint, cli, paths
from logpi.run.evaluate import environment_of, evaluate
from logpi.run.plot import plot
from logpi.run.setup import Settings, assemble, find_method
from logpi.run.show import page_source

PAGE = '''
"""Mine: the score, weighed by the reward to go."""
from logpi import average, objective, psi
from logpi.page import Count, Positive, page
from logpi.step.gradient import ascend


@page
class MyMethod:
    """A page of one's own."""

    episodes: Count = 8  # whole episodes of each iteration
    lr: Positive = 0.02  # learning rate

    rows, critic = "episodes", None

    def psi(self, b, state):
        return psi.standardise(psi.reward_to_go(b.reward, b.ended), b.mask), None

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi)

    def average(self, mask):
        return average.weights("per_action", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer)


class Wordless:
    rows, critic = "episodes", None
'''
ENV = '''
import gymnasium as gym
import numpy as np


class MyEnv(gym.Env):
    """Say the sign that is shown, five times."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def _obs(self):
        self.sign = int(self.np_random.integers(2))
        return np.array([2 * self.sign - 1, 1], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return self._obs(), {}

    def step(self, action):
        reward, self.age = float(action == self.sign), self.age + 1
        return self._obs(), reward, False, self.age == 5, {}
'''
NET = """
from torch import nn


def build(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 6), nn.ReLU(), nn.Linear(6, outputs))
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("mine", PAGE), ("myenv", ENV), ("net", NET)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_page_an_environment_and_a_network_by_path_train_evaluate_and_plot(files: Path) -> None:
    def logpi_command(*line: str) -> str:
        env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, "-m", "logpi", *line], capture_output=True, text=True, cwd=files, env=env, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    own = ("--env", "./myenv.py:MyEnv", "--network", "./net.py:build")
    said = logpi_command("train", "./mine.py:MyMethod", *own, "--steps", "3000", "--lr", "0.03", "--evaluate", "5")
    assert "could not be evaluated" not in said and " plot runs" in said
    (run,) = (files / "runs").glob("*/mymethod/*")
    rows = [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["return"] > 4.5 > rows[0]["return"], "it must have learnt"
    (first,) = (run / "eval").iterdir()
    assert json.loads(first.read_text())["evaluations"][0]["mean"] > 4.5
    assert "over 7 episodes" in logpi_command("eval", str(run), "--episodes", "7", *own)
    assert plot([run], files / "mine.svg").is_file()
    assert "class MyMethod:" in page_source(paths.load_object("./mine.py:MyMethod"))


def test_a_network_of_ones_own_is_never_run_unasked(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def call(*line: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["logpi", *line])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr().err

    quick = ("--envs", "2", "--length", "8", "--steps", "16", "--evaluate", "0", "--quiet", "--no-plot")
    assert call("train", "ppo", "--network", "./net.py:build", *quick) == (0, "")
    (run,) = (files / "runs").glob("*/ppo/*")
    code, err = call("eval", str(run), "--episodes", "2")
    assert code == 2 and "--network ./net.py:build" in err and err.count("\n") == 1
    assert call("eval", str(run), "--episodes", "2", "--network", "./net.py:build") == (0, "")


def test_learn_takes_objects(files: Path) -> None:
    page, env, build = (paths.load_object(x) for x in ("./mine.py:MyMethod", "./myenv.py:MyEnv", "./net.py:build"))
    for method, fields in ((page, {"lr": 0.03}), (page(lr=0.03), {}), ("./mine.py:MyMethod", {"lr": 0.03})):
        records = list(logpi.learn(method, env, network=build, steps=2500, **fields))
        assert records[-1]["return"] > 4.5 and records[0]["return"] < 4
        policy = records[-1].policy
        assert isinstance(policy.network[1], torch.nn.ReLU), "the network must be the user's"
        assert policy.act(np.array([[1, 1], [-1, 1]], np.float32)).tolist() == [1, 0]
    assert evaluate(policy, env, episodes=20).mean > 4.5


def test_learn_by_paths_is_learn_by_objects(files: Path) -> None:
    objects = (paths.load_object("./myenv.py:MyEnv"), paths.load_object("./net.py:build"))
    runs = [list(logpi.learn("ppo", env, network=net, steps=200, envs=2, length=20))
            for env, net in (objects, ("./myenv.py:MyEnv", "./net.py:build"))]  # fmt: skip
    assert [str(r.metrics) for r in runs[0]] == [str(r.metrics) for r in runs[1]]


def test_a_run_with_ones_own_objects_is_saved_restored_and_loaded(files: Path) -> None:
    build = paths.load_object("./net.py:build")
    env = paths.load_object("./myenv.py:MyEnv")

    def make() -> Parts:
        return assemble(find_method("./mine.py:MyMethod"), Settings(env="custom", steps=400), env, build)

    parts = make()
    list(loop(parts))
    saved = checkpoint.save(parts, files / "saved")
    checkpoint.restore(fresh := make(), saved)
    obs = np.array([[1, 1], [-1, 1]], np.float32)
    assert np.array_equal(fresh.policy.act(obs), parts.policy.act(obs)) and fresh.state == parts.state
    loaded = logpi.load(saved, network=build)
    torch.testing.assert_close(
        loaded(torch.as_tensor(obs)), parts.policy(torch.as_tensor(obs)).detach(), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"clp": 0.1}, "have 'clp'. Did you mean clip?"),
        ({"clip": -1}, "clip is -1"),
        ({"hed": "beta"}, "'hed'"),
        ({"env": "CartPole-v"}, "Did you mean CartPole-v1?"),
        ({"steps": 0}, "steps is 0"),
        ({"dtype": "float16"}, "dtype is 'float16': allowed is float32, float64"),
    ],
)
def test_learn_refuses_what_it_does_not_know(fields: dict, words: str) -> None:
    with pytest.raises(LogpiError, match=words.replace("?", r"\?")):
        logpi.learn("ppo", **fields)


@pytest.mark.parametrize("what", ["Wordless", "NoData", "Rows"])
def test_what_is_not_a_page_is_told(what: str, files: Path) -> None:
    more = "\n\nclass NoData(MyMethod.__mro__[0]):\n    rows = 'lines'\n\n\nRows = NoData\n"
    (files / "mine.py").write_text(PAGE + more)
    words = (
        "is not a method page: it needs to be a dataclass with psi" if what == "Wordless" else "NoData.rows is 'lines'"
    )
    with pytest.raises(LogpiError, match=words):
        find_method(f"./mine.py:{what}")


def test_a_file_of_ones_own_never_takes_the_place_of_a_module(files: Path) -> None:
    (files / "json.py").write_text("x = 1\n")
    (files / "sub").mkdir()
    (files / "sub" / "mine.py").write_text("x = 2\n")
    assert paths.load_object("./json.py:x") == 1 and sys.modules["json"] is json
    page = paths.load_object("./mine.py:MyMethod")
    assert paths.load_object("./sub/mine.py:x") == 2
    assert find_method(page, {"lr": 0.5}).lr == 0.5, "two files of one name must not mix"


def test_credit_of_a_wrong_shape_is_told(files: Path) -> None:
    (files / "mine.py").write_text(PAGE.replace("b.mask), None", "b.mask).sum(-1), None"))
    with pytest.raises(LogpiError, match=r"MyMethod.psi returned a psi of shape \(8,\): it must be \(8, "):
        next(logpi.learn("./mine.py:MyMethod"))


def test_a_path_that_is_no_python_file_is_told_in_words_of_ours() -> None:
    with pytest.raises(LogpiError, match=r"^\./README\.md:X does not name a Python file"):
        paths.load_object("./README.md:X")


def test_v_looked_at_anew_needs_a_page_that_says_so() -> None:
    class Anew(methods.A2C):
        def step(self, surrogate: Any, kl: Any, rows: Any, optimizer: Any) -> Any:
            surrogate.refresh()

    with pytest.raises(LogpiError, match="Anew asks for V anew: it needs a critic, and a field recompute that is True"):
        next(loop(assemble(Anew(envs=2, length=4), Settings(env="CartPole-v1"))))


def test_a_wrapper_of_ones_own_is_never_run_unasked(files: Path) -> None:
    text = "import gymnasium\n\nclass Same(gymnasium.Wrapper):\n    pass\n"
    (files / "wrap.py").write_text(text)
    line = "train ppo --env CartPole-v1 --wrap ./wrap.py:Same --steps 256 --envs 2 --evaluate 0 --no-plot --quiet --out out"
    cli.dispatch(line.split())
    (run,) = files.glob("out/*/*/*")
    with pytest.raises(
        LogpiError, match=r"names a wrapper of yours \(\./wrap\.py:Same\): pass it again, --wrap \./wrap"
    ):
        environment_of(run)
    name, construct, backend = environment_of(run, wrap=["./wrap.py:Same"])
    assert name == "CartPole-v1" and envs.make(construct, 1, backend).backend == "sync"
