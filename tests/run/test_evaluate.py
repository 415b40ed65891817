"""A run is evaluated in what it was trained on: backend, options and wrappers, and what is given over them is seen."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from logpi import LogpiError, envs
from logpi.methods import PPO
from logpi.run.evaluate import environment_of, evaluate
from logpi.run.paths import wrappers
from logpi.run.setup import Settings, assemble

QUICK = "--envs 2 --length 8 --steps 16 --hidden 4 --evaluate 0 --quiet --no-plot --out out"
Call = Callable[..., tuple[int, str, str]]


def trained(call: Call, *line: str) -> Path:
    assert call("train", "ppo", *QUICK.split(), *line)[0] == 0
    (run,) = Path("out").glob("*/ppo/*")
    return run


def test_what_envpool_alone_has_is_evaluated_through_envpool(call: Call) -> None:
    pytest.importorskip("envpool")
    run = trained(call, "--env", "Catch-v0", "--backend", "envpool")
    code, out, err = call("eval", str(run), "--episodes", "3")
    assert code == 0 and err == "" and "over 3 episodes" in out
    code, _, err = call("play", str(run), "--video", "a.mp4")
    assert (code, err) == (
        2,
        "logpi: Catch-v0 of envpool draws no pictures: logpi eval tells what a policy reaches in it.\n",
    )


def test_the_backend_is_the_runs_for_its_own_environment_alone(call: Call) -> None:
    run = trained(call, "--env", "CartPole-v1", "--backend", "sync")
    assert environment_of(run)[2] == "sync" and environment_of(run, "Acrobot-v1")[2] == "auto"
    (run / "config.toml").write_text((run / "config.toml").read_text().replace('"sync"', '"synk"'))
    with pytest.raises(LogpiError, match=r"no backend 'synk'\. Did you mean sync\?"):
        envs.make(environment_of(run)[1], 1, environment_of(run)[2])


def test_options_stand_over_the_runs_own(call: Call) -> None:
    run = trained(call, "--env", "FrozenLake-v1", "--env-options", "is_slippery=false", "map_name=4x4")
    assert dict(environment_of(run)[1].options) == {"is_slippery": False, "map_name": "4x4"}
    slippery = environment_of(run, env_options=["is_slippery=true"])[1]
    assert dict(slippery.options) == {"is_slippery": True, "map_name": "4x4"}
    steps = [
        re.findall(r"in (\d+) steps", call("play", str(run), "--video", "a.gif", "--seed", "3", *more)[1])
        for more in ((), ("--env-options", "is_slippery=true"))
    ]
    assert steps[0] != steps[1], "a loop on firm ice, and somewhere else on slippery"
    assert call("eval", str(run), "--episodes", "2", "--env-options", "is_slippery=true")[0] == 0


def test_another_question_in_an_environment_is_another_file_that_says_which(call: Call) -> None:
    run = trained(call, "--env", "FrozenLake-v1", "--env-options", "is_slippery=false", "map_name=4x4")
    Path("lake.py").write_text("import gymnasium\ndef Lake():\n    return gymnasium.make('FrozenLake-v1')\n")
    limit = ("--wrap", "gymnasium.wrappers:TimeLimit(max_episode_steps=3)")
    own = ("--env-options", "map_name=4x4", "is_slippery=true", "is_slippery=false")
    slippery, mine = ("--env-options", "is_slippery=true"), ("--env", "./lake.py:Lake")
    for more in ((), own, slippery, mine, (*mine, *limit)):
        assert call("eval", str(run), "--episodes", "2", *more)[0] == 0
    assert call("eval", str(min((run / "checkpoints").iterdir())), "--episodes", "2")[0] == 0
    found = {x.name.partition("-")[2]: json.loads(x.read_text()) for x in (run / "eval").iterdir()}
    first, slips, newest, short, lake = sorted(found)
    assert [x.partition("seed10000-2")[2] for x in (first, newest, lake)] == [".json"] * 3, "the run's own has no mark"
    assert slips.endswith("-2-env_options-is_slippery_true_map_name_4x4.json")
    assert short.endswith("-2-wrap-gymnasium.wrappers_TimeLimit_max_episode_steps_3.json")
    asked = [(found[x]["env_options"], found[x]["wrap"]) for x in (newest, slips, lake, short)]
    firm = "is_slippery=false", "is_slippery=true"
    assert asked == [*(([ice, "map_name=4x4"], []) for ice in firm), ([], []), ([], [limit[1]])]
    assert [max(found[x]["evaluations"][1]["lengths"]) <= 3 for x in (lake, short)] == [False, True]


def test_another_wrapper_than_the_runs_is_told(call: Call) -> None:
    Path("wrap.py").write_text("import gymnasium\nclass A(gymnasium.Wrapper): ...\nclass B(gymnasium.Wrapper): ...\n")
    run = trained(call, "--env", "CartPole-v1", "--wrap", "./wrap.py:A")
    other = "config.toml has other wrappers (./wrap.py:A) than ./wrap.py:B: pass --wrap ./wrap.py:A.\n"
    for line in (("eval", "--episodes", "1"), ("variance", "--episodes", "64")):
        assert call(line[0], str(run), *line[1:], "--wrap", "./wrap.py:B")[2].endswith(other)
    code, _, err = call("resume", str(run), "--steps", "32", "--wrap", "./wrap.py:B")
    assert code == 2 and "has other wrappers (./wrap.py:A) than ./wrap.py:B" in err
    Path("moved").mkdir()
    assert Path("wrap.py").rename("moved/wrap.py")
    assert call("eval", str(run), "--episodes", "1", "--wrap", "./moved/wrap.py:A")[0] == 0
    again = ("--episodes", "64", "--wrap", "./moved/wrap.py:A", "--psi", "to_go")
    assert call("variance", str(run), *again)[0] == 0, "which has the flag that its sentence names"
    assert "--wrap belongs to a run" in call("variance", "--env", "CartPole-v1", "--wrap", "wrap.py:A")[2]
    assert wrappers(["a.py:A"], ["b.py:A"], "x") == ["b.py:A"]
    with pytest.raises(LogpiError, match=r"x has other wrappers \(none\) than a.py:A: leave --wrap away"):
        wrappers([], ["a.py:A"], "x")


class Left(gymnasium.Env):
    """Knows whether it was closed."""

    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)
    closed = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        raise OSError("the simulator went away")

    def close(self) -> None:
        Left.closed += 1


def test_an_evaluation_that_fails_closes_its_environments() -> None:
    policy = assemble(PPO(envs=1), Settings(env="custom", hidden=(2,)), Left).policy
    before = Left.closed
    with pytest.raises(LogpiError, match="went away"):
        evaluate(policy, Left, 3)
    assert Left.closed == before + 3
