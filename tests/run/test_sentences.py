"""What is refused, and in which words, where no other test says it in this process."""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import logpi
from logpi.run import checkpoint, cli, evaluate, folder, play, resume, seeds, track
from logpi.run.commands.variance import main as variance
from logpi.run.setup import Settings, assemble
from logpi.run.train import Options


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> str:
        monkeypatch.setattr(sys, "argv", ["logpi", *shlex.split(line)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2
        return capsys.readouterr().err

    return run


QUICK = "--envs 2 --length 8 --steps 64 --hidden 4 --quiet --no-plot --evaluate 0"
FAILS = """
import gymnasium as gym

class Fails(gym.Wrapper):
    def step(self, action):
        raise ValueError("the robot fell")

def Env():
    return Fails(gym.make("CartPole-v1"))
"""


def test_the_command_line_says_so(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(FAILS)
    lines = {
        "methods --import no_such_module": "logpi: --import no_such_module: No module named 'no_such_module'.\n",
        "resume nowhere --steps 0": "logpi: --steps is 0: allowed is a whole number 1 or more.\n",
        "track --to tensorboard": "logpi: logpi track needs at least one run folder.\n",
        "track nowhere --to": "logpi: logpi track needs a view: --to tensorboard, wandb or trackio.\n",
        "resume one two": "logpi: logpi resume does not take 'two' too: one is enough. See logpi resume --help.\n",
        "lab nosuch": "logpi: logpi lab does not take 'nosuch'. See logpi lab --help.\n",
        f"train ppo --reference nowhere {QUICK}": "logpi: This page has no KL to a reference policy: ppo, grpo and rloo with --kl above 0 do.\n",
    }
    for line, words in lines.items():
        assert refused(line) == words
    said = refused(f"train ppo --env ./fails.py:Env {QUICK}")
    assert said.startswith(
        "logpi: Environment 0 (CartPole-v1) raised ValueError in step: the robot fell. Its own traceback is in "
    )
    assert "the robot fell" in Path(said.rpartition(" is in ")[2].strip().rstrip(".")).read_text()


class Endless(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        return self.observation_space.sample() * 0, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        return self.observation_space.sample() * 0, 0.0, False, False, {}


def test_an_episode_without_an_end_is_given_up_wherever_it_is_played(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = assemble(logpi.METHODS["ppo"](envs=1), Settings(env="custom", hidden=(2,)), Endless).policy
    monkeypatch.setattr(evaluate, "LONGEST", 20)
    monkeypatch.setattr(play, "LONGEST", 20)
    words = "An episode has not ended after 20 steps: give it a limit, --wrap 'gymnasium.wrappers:TimeLimit(max_episode_steps=1000)'."
    for attempt in (
        lambda: evaluate.evaluate(policy, Endless, 1),
        lambda: list(play.play(policy, Endless(), "Endless", 1, True, 0)),
    ):
        with pytest.raises(logpi.LogpiError) as said:
            attempt()
        assert str(said.value) == words


def test_what_is_no_run_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(logpi.LogpiError, match="has no config.toml that names its environment: pass --env"):
        evaluate.environment_of(tmp_path)
    with pytest.raises(logpi.LogpiError, match="is not a run folder: it has no metrics.jsonl"):
        list(folder.rows(tmp_path))
    monkeypatch.setattr(folder, "range", lambda *_: [2, 3], raising=False)
    monkeypatch.setattr(folder.time, "strftime", lambda _: "now")
    for _ in range(3):
        folder.RunFolder.create(str(tmp_path), "a", "b", 0).close()
    with pytest.raises(logpi.LogpiError, match="already has a thousand runs of this second: choose another folder"):
        folder.RunFolder.create(str(tmp_path), "a", "b", 0)


@dataclasses.dataclass(frozen=True)
class Taken:
    """A page with a field that every run has."""

    seed: int = 1
    psi = objective = average = step = rows = critic = None


def test_python_is_told_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(logpi.LogpiError, match=r"Neither PPO nor the run's settings have 'clpi'. Did you mean clip\?"):
        logpi.learn("ppo", clpi=0.1)
    with pytest.raises(logpi.LogpiError, match="An environment is given by its constructor, as several are made"):
        logpi.learn("ppo", gym.make("CartPole-v1"))
    with pytest.raises(
        logpi.LogpiError, match="Taken.seed is the name of a setting of every run: give the field another"
    ):
        logpi.learn(Taken)


def test_the_best_checkpoint_can_be_evaluated_and_played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def here(line: str) -> None:
        monkeypatch.setattr(sys, "argv", ["logpi", *shlex.split(line)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code

    monkeypatch.chdir(tmp_path)
    here(f"train ppo {QUICK.replace('64', '192')} --eval-every 64 --keep 1 --save-every 64")
    (run,) = Path("runs").glob("*/*/*")
    found = checkpoint.best(run / "checkpoints")
    assert found is not None
    here(f"eval {run} --best --episodes 2")
    (file,) = (run / "eval").iterdir()
    assert file.name.startswith(found.name)
    here(f"play {run} --best --video a.gif")
    here(f"train ppo {QUICK} --seed 5")
    (other,) = Path("runs").glob("*/*/5-*")
    with pytest.raises(
        logpi.LogpiError, match="has no best checkpoint: that takes 100 finished episodes, or --eval-every"
    ):
        checkpoint.best_of(other)


def test_other_versions_are_told_to_python_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = next(logpi.learn("ppo", steps=64, envs=2, length=8)).save(tmp_path)
    assert checkpoint.verify(folder)["versions"]["torch"]
    monkeypatch.setattr(resume, "versions", lambda: {"torch": "99"})
    with pytest.warns(UserWarning, match=r"not the versions this run began with, numbers may differ: torch \S+ -> 99"):
        logpi.resume(folder)


def test_seeds_that_fail_are_counted(tmp_path: Path) -> None:
    options = Options(seeds=2, out=str(tmp_path), quiet=True, plot=False)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch, pytest.raises(logpi.LogpiError, match=r"2 of 2 seeds failed \(0, 1\): see above\."):
        patch.setattr(sys, "argv", ["logpi", "train", "ppo", "--env", "Nowhere-v0"])
        seeds.train("ppo", logpi.METHODS["ppo"](), Settings(env="Nowhere-v0"), options)


def test_wandb_online_asks_for_a_login_beforehand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    with pytest.raises(
        logpi.LogpiError, match="WANDB_MODE is online, and there is no login: wandb login first, or leave"
    ):
        track.wandb(tmp_path, {})


def test_a_policy_with_a_memory_is_not_looked_at_step_by_step(tmp_path):
    *_, record = logpi.learn("ppo", "CartPoleNoVel-v1", steps=512, envs=4, length=128, memory="gru")
    folder = record.save(tmp_path)
    with pytest.raises(logpi.LogpiError, match="has a memory: it has no answer for it"):
        variance([str(folder)])
