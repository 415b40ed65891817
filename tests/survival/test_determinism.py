"""Same seed, same numbers: in any process and folder, whoever watches, logs, evaluates, saves or steps the environments."""

from pathlib import Path

import pytest
from exams import command, differences, finish, here, log, state, the_run, train

import logpi
from logpi.run import checkpoint

PAGE = {"envs": 2, "length": 16, "epochs": 2}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain")
    finish(train("ppo", "discrete", 640, out))
    return the_run(out)


VARIANTS = {
    "a display": ("", {}),
    "another hash seed": ("", {"PYTHONHASHSEED": "123"}),
    "checkpoints of every iteration": ("--save-every 1 --keep 1", {}),
    "trackers": ("--track tensorboard", {}),
    "two threads for libraries that ask the environment": ("", {"OMP_NUM_THREADS": "2"}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_done_beside_training_changes_no_number(name, plain, tmp_path, monkeypatch):
    more, environment = VARIANTS[name]
    import exams

    monkeypatch.setattr(exams, "ENVIRONMENT", exams.ENVIRONMENT | environment)
    words = train("ppo", "discrete", 640, tmp_path, more)
    finish([w for w in words if w != "--quiet"] if "display" in name else words)
    assert differences(plain, the_run(tmp_path)) == []


def test_nor_does_evaluation(plain, tmp_path):
    here(train("ppo", "discrete", 640, tmp_path, "--eval-every 64"))
    run = the_run(tmp_path)
    rows = log(run)
    assert sum("eval_return" in row for row in rows) == 10 and "eval_return" in rows[1] and "eval_return" not in rows[0]
    assert [{k: v for k, v in row.items() if not k.startswith("eval")} for row in rows] == log(plain)
    assert state(run) == state(plain)


def test_nor_does_the_folder_from_which_it_is_called(plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here(train("ppo", "discrete", 640, Path("here")))
    assert differences(plain, the_run(tmp_path / "here")) == []


def test_python_gets_the_numbers_of_the_command(plain, tmp_path):
    settings = {"steps": 640, "hidden": (8,), "normalise_obs": True}
    *_, record = logpi.learn("ppo", "CartPole-v1", **settings, **PAGE)
    saved = record.save(tmp_path)
    for name in ("policy.safetensors", "config.toml"):
        assert (saved / name).read_bytes() == state(plain)[name]
    rows = [{"iteration": r.iteration, "steps": r.steps} | r.metrics for r in logpi.learn("ppo", **settings, **PAGE)]
    assert str(log(plain)) == str([{k: None if v != v else v for k, v in row.items()} for row in rows])


def test_workers_give_the_numbers_of_one_process(tmp_path):
    for backend in ("sync", "async --workers 2"):
        words = " ".join(train("ppo", "box", 960, tmp_path / backend[:4], "")[3:])
        here(command(words.replace("--backend sync", f"--backend {backend}").replace("--envs 2", "--envs 3")))
    one, two = (the_run(tmp_path / name) for name in ("sync", "asyn"))
    assert log(one) == log(two)
    for name, data in state(one).items():
        if name not in ("config.toml", "trainer.json", "trainer.safetensors"):
            assert data == state(two)[name], name


NOISY = '''
import random
import gymnasium as gym
import numpy as np

class Noisy(gym.Wrapper):
    """Draws from the generators of the whole process."""

    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        return obs + np.float32(0.01 * np.random.rand()), reward + random.random(), *rest

def Env():
    return Noisy(gym.make("CartPole-v1"))
'''


def test_an_environment_that_draws_from_the_global_generators_is_seeded_too_and_not_disturbed(tmp_path):
    (tmp_path / "noisy.py").write_text(NOISY)
    line = f"train ppo --env {tmp_path}/noisy.py:Env --envs 2 --length 16 --hidden 4 --steps 320 --quiet --no-plot --evaluate 0"
    for name, more in {"one": "", "two": "", "looked at": "--eval-every 64"}.items():
        here(command(f"{line} --out '{tmp_path}/{name}' {more}"))
    one, two, looked = (log(the_run(tmp_path / name)) for name in ("one", "two", "looked at"))
    assert one == two == [{k: v for k, v in row.items() if not k.startswith("eval")} for row in looked]
    manifest = checkpoint.verify(max((the_run(tmp_path / "one") / "checkpoints").glob("step-*")))
    assert manifest["environments"] == "restart their episodes", "replay cannot bring such an environment back"
