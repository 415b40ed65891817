"""`logpi bench`: the shares are those of loops whose limit is known, add up, and looking leaves nothing changed."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import logpi
from logpi.errors import LogpiError
from logpi.loop import loop
from logpi.run import bench, cli, floors
from logpi.run.clock import Clock
from logpi.run.commands import bench as command
from logpi.run.setup import Settings, assemble, find_method

SLOW = """
import time
import gymnasium
import numpy as np

class Slow(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.age = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        time.sleep(0.005)
        self.age += 1
        return np.zeros(3, np.float32), 1.0, False, self.age == 8, {}
"""


@pytest.fixture
def ask(monkeypatch, capsys, tmp_path):
    """The command in this process, in a hurry, its numbers; nothing is written where it is."""
    for module, name in ((bench, "TURN"), (bench, "WARM"), (floors, "TRIAL")):
        monkeypatch.setattr(module, name, 0.03)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(line: str) -> dict:
        cli.dispatch(["bench", *line.split(), "--seconds", "0.1", "--json"])
        found = json.loads(capsys.readouterr().out)
        assert not any(here.iterdir())
        for one in found["loops"]:
            assert [*one["share"]] == [*bench.PARTS] and sum(one["share"].values()) == pytest.approx(1)
            assert (
                sum(one["us_of"].values()) == pytest.approx(one["us"]) == pytest.approx(1e6 / one["steps_per_second"])
            )
        return found

    return run


def test_an_environment_that_sleeps_is_what_limits(ask, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    found = ask(f"--env {tmp_path}/slow.py:Slow --envs 2 --length 32 --epochs 1 --minibatches 1")
    assert found["limit"] == "environment" and all(one["share"]["environment"] > 0.8 for one in found["loops"])
    assert found["alone"]["seconds"] > 5e-3 and found["alone"]["at_work"] < 0.7
    assert "--backend async with 2 workers" in found["verdict"]


def test_wide_layers_and_a_native_environment_are_limited_by_the_network(ask) -> None:
    found = ask("ppo --hidden 512 512 --envs 4 --length 32")
    assert all(one["share"]["environment"] < 0.2 for one in found["loops"])
    assert all(sum(one["share"][x] for x in ("inference", "values", "update")) > 0.6 for one in found["loops"])
    assert found["limit"] == "update" and "of this machine's arithmetic" in found["verdict"]
    assert 0 < found["floors"]["update"] < found["loops"][0]["us_of"]["update"]


def test_processes_are_waited_for_and_plain_paths_say_why(ask, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    line = f"reinforce --env {tmp_path}/slow.py:Slow --episodes 2 --backend async --workers 2"
    found = ask(f"{line} --fast off")
    assert found["workers"] == 2 and found["ratio"] is None and len(found["loops"]) == 1 and found["notes"]
    share = found["loops"][0]["share"]
    assert share["environment"] + share["transfer"] > 0.5 and share["values"] == 0


def test_the_weights_of_a_run_are_measured(ask, tmp_path: Path, monkeypatch, capsys) -> None:
    line = f"train ppo --envs 2 --length 8 --steps 16 --seed 3 --out {tmp_path}/runs --quiet --no-plot --evaluate 0"
    cli.dispatch(line.split())
    capsys.readouterr()
    run, seen, course = next((tmp_path / "runs").glob("*/*/*")), [], bench.Course

    def begun(parts):
        seen.append([x.clone() for x in parts.policy.state_dict().values()])
        return course(parts)

    monkeypatch.setattr(bench, "Course", begun)
    ask(f"ppo --envs 2 --length 8 --init {run}")
    saved = [*logpi.load(run).state_dict().values()]
    assert seen and all(all(map(torch.equal, one, saved)) for one in seen)


def test_multiply_adds_are_counted_where_they_are() -> None:
    page = find_method("ppo", {"envs": 2, "length": 8, "epochs": 3, "minibatches": 2})
    course = bench.Course(assemble(page, Settings(fast="off")))
    per_step = course.count()
    policy, critic, fixed = 4 * 64 + 64 * 64 + 64 * 2, 4 * 64 + 64 * 64 + 64, 4 * 64  # no gradient of the observation
    assert per_step["inference"] == policy and per_step["values"] >= critic
    assert per_step["update"] == 3 * (3 * (policy + critic) - 2 * fixed)


def test_what_is_timed_is_there_and_is_put_back() -> None:
    course = bench.Course(assemble(find_method("ppo", {"envs": 2, "length": 8}), Settings()))
    found = [*bench.places(course.parts)]
    before = [vars(owner).get(name) for owner, name, *_ in found]
    if course.fused:
        assert {"act", "prepare", "value", "following", "cartpole"} <= {name for _, name, *_ in found}
    course.turn(course.clock, 0.0)
    assert before == [vars(owner).get(name) for owner, name, *_ in found]
    assert {"rest", "transfer", "update", "credit"} <= {*course.clock.spent} and not course.clock.stack


def test_a_clocked_loop_learns_the_same() -> None:
    page = find_method("ppo", {"envs": 2, "length": 8})
    course, parts = bench.Course(assemble(page, Settings())), assemble(page, Settings())
    parts.state["horizon"] = course.parts.state["horizon"]
    plain = loop(parts)
    for _ in range(2):
        course.turn(course.clock, 0.0)
        assert course.record["surrogate"] == next(plain)["surrogate"]


def test_a_part_has_its_own_time_alone(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr("logpi.run.clock.time", SimpleNamespace(perf_counter=lambda: now[0]))
    clock = Clock()

    def passes(seconds: float, then=lambda: None) -> None:
        now[0] += seconds
        then()

    inner = clock.timed("inner", lambda: passes(2.0), "outer")
    outer = clock.timed("outer", lambda: passes(3.0, inner), "rest")
    clock.lap(lambda: (outer(), inner(), passes(1.0)))  # inner counts in outer alone
    assert dict(clock.spent) == {"rest": 3.0, "outer": 3.0, "inner": 2.0}
    assert clock.calls == {("inner", "outer"): 1, ("outer", "rest"): 1}


def test_the_table_ends_in_a_sentence(monkeypatch, capsys) -> None:
    for module, name in ((bench, "TURN"), (bench, "WARM"), (floors, "TRIAL")):
        monkeypatch.setattr(module, name, 0.03)
    cli.dispatch(["bench", "--envs", "2", "--length", "16", "--seconds", "0.1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ppo on CartPole-v1: 2 native environments") and "steps/s" in lines[1]
    assert {*bench.PARTS} <= {line.split(" ")[0] for line in lines}
    assert lines[-1].startswith("The ") and lines[-1].endswith(".")


def machine_report(limit: str, **changes) -> bench.Report:
    """What was measured, where a part takes 90 % of 100 us."""
    share = dict.fromkeys(bench.PARTS, 0.1 / 6) | {limit: 0.9}
    one = {"share": share, "us_of": {part: 100 * x for part, x in share.items()}, "us": 100.0, "steps_per_second": 1e4}
    machine = {"threads": 1, "cores": 4, "gflops": 100.0, "copy_gb_per_s": 10.0, "multiply_adds_per_step": 1.0}
    given = {
        "fused": True,
        "loops": [one],
        "ratio": None,
        "floors": dict.fromkeys(bench.PARTS, 10.0),
        "machine": machine,
    }
    given |= {"alone": floors.Alone(90e-6, 1.0), "workers": 0, "envs": 8, "backend": "sync", "device": "cpu"}
    return bench.Report(**(given | changes))


SAYS = {
    "11,111 steps/s is all it gives on one core; --backend async with 6 workers may make the whole up to 3.1": (
        "environment",
        {},
    ),
    "--envs 8 --length 16 --backend async": ("environment", {"envs": 1}),
    "its steps are too short": ("environment", {"alone": floors.Alone(4e-6, 1.0)}),
    "steps in arrays already": ("environment", {"backend": "native"}),
    "2 workers share 4 cores: --workers 6 may help": ("environment", {"backend": "async", "workers": 2}),
    "--backend sync is likely faster": ("transfer", {"alone": floors.Alone(4e-6, 1.0), "workers": 2}),
    "answer later than": ("transfer", {"alone": floors.Alone(1e-3, 0.1), "workers": 8}),
    "because its optimiser is SGD": ("update", {"fused": False, "reasons": ["its optimiser is SGD"]}),
    "fused kernels are for float32 on the CPU": ("update", {"fused": False, "device": "cuda:0"}),
    'pip install "logpi[fast]"': ("rest", {"fused": False}),
    "runs at 11% of this machine's arithmetic, fused; more environments": ("inference", {}),
    "only fewer passes": ("update", {}),
    "runs at 22% of": ("update", {"lost": 0.5}),
}


@pytest.mark.parametrize("words", SAYS)
def test_the_verdict_says_what_would_help(words: str, monkeypatch) -> None:
    monkeypatch.setattr("logpi.workers.work.cores", lambda: 4)
    limit, changes = SAYS[words]
    settings = Settings(env="HalfCheetah-v5")
    found, sentence = command.verdict(machine_report(limit, **changes), settings, find_method("ppo"))
    assert found == limit and words in sentence


MISTAKES = {
    "pppo": "Did you mean ppo?",
    "--gama 1": "Did you mean --gamma?",
    "--seconds 0": "seconds is 0.0",
    "--env CartPole-v": "Did you mean CartPole-v1?",
    "--until 3": "no flag --until",
    "--task cpy": "cpy",
    "--task copy --hidden 8": "--hidden is for environments, and this is a language model",
    "--max-tokens 3": "--max-tokens is for language models: give --task or --data with it.",
    "--task copy --env CartPole-v1": "give one of them",
    "--task copy --correction masked": "--correction means nothing without --engine",
    "--task copy --until 1": "no flag --until",
    "--data no.jsonl": "no.jsonl",
    "--task copy --init no": "no has no config.toml: --init takes the folder of a run.",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_one_sentence(line: str) -> None:
    with pytest.raises(LogpiError) as told:
        cli.dispatch(["bench", *line.split()])
    assert MISTAKES[line] in str(told.value)


def test_a_page_may_not_use_our_own_words(tmp_path: Path) -> None:
    page = "from logpi.methods.ppo import PPO\nfrom logpi.page import page\n\n@page\nclass Mine(PPO):\n    seconds: float = 1.0\n"
    (tmp_path / "mine.py").write_text(page)
    with pytest.raises(LogpiError, match="has a field seconds, which logpi bench uses itself"):
        cli.dispatch(["bench", f"{tmp_path}/mine.py:Mine"])
