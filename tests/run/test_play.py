"""`logpi play`: films that are read back frame by frame, windows without a screen, and what cannot be shown."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import imageio.v2 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
import torch

from logpi.errors import LogpiError
from logpi.policy import build_policy
from logpi.run import cli
from logpi.run.play import environment, film, play

QUICK = "--envs 2 --length 16 --steps 64 --hidden 4 --evaluate 0 --quiet --no-plot"
SQUARE = """
import gymnasium, numpy as np

class Square(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 10}
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2, start=1)
    over = ()

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.age, self.colour = 0, self.np_random.integers(200)
        return self.observation_space.high * 0.1, {}

    def step(self, action):
        assert action in (1, 2) and not isinstance(action, np.ndarray), action
        self.age += 1
        return self.observation_space.high * 0.1 * self.age, float(action), self.age == 6, False, {}

    def render(self):
        return np.full((21, 33, 3), self.colour + self.age, np.uint8)

class Blind(Square):
    def __init__(self):
        self.render_mode = None

class Grey(Square):
    def render(self):
        return np.zeros((4, 4))

class Sized(Square):
    def __init__(self, render_mode):
        if render_mode:
            raise TypeError("no pictures today")
        self.render_mode = render_mode
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A trained run on CartPole, on Chain, and on an environment of the user's own."""
    out = tmp_path_factory.mktemp("trained")
    (out / "mine.py").write_text(SQUARE)
    found = {}
    for name, env in {"cartpole": "CartPole-v1", "chain": "Chain", "mine": f"{out}/mine.py:Square"}.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                sys, "argv", ["logpi", "train", "ppo", *QUICK.split(), "--env", env, "--out", f"{out}/{name}"]
            )
            with pytest.raises(SystemExit) as end:
                cli.main()
        assert not end.value.code
        (run,) = (out / name).glob("*/*/*")
        found[name] = str(run)
    return found | {"file": f"{out}/mine.py"}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def run(*line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["logpi", "play", *line])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    return run


def film_of(file: Path) -> tuple[dict[str, Any], np.ndarray]:
    """(what it says of itself, frames [F, H, W, 3]) of an mp4."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the reader leaves its pipes to the collector
        read = imageio_ffmpeg.read_frames(str(file))
        about = next(read)
        width, height = about["size"]
        frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in read]
        del read
    return about, np.stack(frames)


def steps_of(out: str) -> list[int]:
    return [int(x) for x in re.findall(r"in (\d+) steps", out)]


def test_a_film_has_the_start_and_a_frame_for_each_step(runs: dict[str, str], call: Any, tmp_path: Path) -> None:
    code, out, err = call(runs["cartpole"], "--video", "new/a.mp4", "--episodes", "2", "--sampled")
    assert (code, err) == (0, "")
    *episodes, last = out.splitlines()
    for number, line in enumerate(episodes, 1):
        assert re.fullmatch(rf"episode {number}: return (\d+)\.0 in \1 steps \(start \d+\)", line)
    assert len(episodes) == 2 and last == "written to new/a.mp4"
    about, frames = film_of(tmp_path / "new" / "a.mp4")
    assert frames.shape == (sum(steps_of(out)) + 2, 400, 600, 3) and about["fps"] == 50
    assert [x.name for x in (tmp_path / "new").iterdir()] == ["a.mp4"]


def test_one_seed_is_one_film_and_another_is_another(runs: dict[str, str], call: Any, tmp_path: Path) -> None:
    said = [
        call(runs["cartpole"], "--video", f"{i}.mp4", "--sampled", "--seed", seed, "--fps", "20")[1].splitlines()[0]
        for i, seed in enumerate(("5", "5", "6"))
    ]
    films = [film_of(tmp_path / f"{i}.mp4") for i in range(3)]
    assert said[0] == said[1] != said[2] and films[0][0]["fps"] == 20
    assert np.array_equal(films[0][1], films[1][1])
    assert films[0][1].shape != films[2][1].shape or (films[0][1] != films[2][1]).any()


def test_the_pictures_are_the_environments_own(runs: dict[str, str], call: Any, tmp_path: Path) -> None:
    """Of a size that H.264 does not take: a row and a column are doubled."""
    code, out, err = call(runs["mine"], "--env", f"{runs['file']}:Square", "--video", "a.mp4", "--seed", "3")
    assert (code, err) == (0, "") and "in 6 steps" in out
    about, frames = film_of(tmp_path / "a.mp4")
    assert frames.shape == (7, 22, 34, 3) and about["fps"] == 10
    start = int(re.findall(r"start (\d+)", out)[0])
    colour = np.random.Generator(np.random.PCG64(np.random.SeedSequence(start))).integers(200)
    np.testing.assert_allclose(frames.mean((1, 2, 3)), colour + np.arange(7), atol=3)
    sampled = call(runs["mine"], "--env", f"{runs['file']}:Square", "--video", "a.mp4", "--sampled", "--seed", "3")[1]
    rewards = [float(re.findall(r"return ([\d.]+)", text)[0]) for text in (out, sampled)]
    assert rewards[0] in (6, 12) and 6 < rewards[1] < 12  # one action for one observation; now this one, now that


def test_a_gif(runs: dict[str, str], call: Any, tmp_path: Path) -> None:
    assert call(runs["mine"], "--env", f"{runs['file']}:Square", "--video", "a.GIF", "--episodes", "2")[0] == 0
    with imageio.get_reader(tmp_path / "a.GIF") as read:
        frames = [np.asarray(frame) for frame in read]
        about = read.get_meta_data()
    assert len(frames) == 14 and frames[0].shape[:2] == (21, 33) and about["duration"] == 100 and about["loop"] == 0


def test_a_window_shows_the_episodes(runs: dict[str, str], call: Any) -> None:
    code, out, err = call(runs["cartpole"], "--fps", "1000", "--sampled")
    assert (code, err) == (0, "") and re.fullmatch(r"episode 1: return \d+\.0 in \d+ steps \(start \d+\)\n", out)
    film = call(runs["cartpole"], "--video", "a.mp4", "--sampled")[1]
    assert film.startswith(out)


CANNOT = {
    "cartpole --episodes 0": "--episodes is 0: allowed is a whole number 1 or more.",
    "cartpole --fps 0": "--fps is 0: allowed is a number from 1 to 1000.",
    "cartpole --video a.mp4 --record": "--record writes a film into the run folder itself: leave --video away.",
    "cartpole --video a.avi": "The film a.avi must end in .mp4 or .gif.",
    "cartpole --env CartPole-v7": "There is no environment 'CartPole-v7'. Did you mean CartPole-v1?",
    "cartpole --env Acrobot-v1": "The environment's observations are Box(",
    "chain --video a.mp4": "Chain draws no pictures: logpi eval tells what a policy reaches in it.",
    "mine": "This run used an environment of yours ({file}:Square): pass it again, --env {file}:Square.",
    "mine --env {file}:Blind --video a.mp4": "{file}:Blind draws no pictures: its constructor needs to take"
    " render_mode='rgb_array' and set self.render_mode.",
    "mine --env {file}:Grey --video a.mp4": "{file}:Grey.render() must give a picture [height, width, 3] of uint8,"
    " not float64 of shape (4, 4).",
    "mine --env {file}:Sized --video a.mp4": "{file}:Sized could not be made with render_mode='rgb_array': no pictures today.",
    "nowhere": "nowhere",
}


@pytest.mark.parametrize("line", CANNOT)
def test_what_cannot_be_shown_is_told_in_one_sentence(
    line: str, runs: dict[str, str], call: Any, tmp_path: Path
) -> None:
    name, *rest = line.format(**runs).split()
    code, _, err = call(runs.get(name, name), *rest)
    sentence = CANNOT[line].format(**runs)
    assert code == 2 and err.startswith(f"logpi: {sentence}") and err.count("\n") == 1
    assert err == f"logpi: {sentence}\n" or not sentence.endswith(".")
    assert not list(tmp_path.iterdir())


def test_where_no_display_is_a_film_is_proposed(
    runs: dict[str, str], call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pygame

    pygame.display.quit()
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    cure = "): write a film with --video out.mp4.\n"
    code, out, err = call(runs["cartpole"])
    assert (code, out, err) == (2, "", f"logpi: CartPole-v1 cannot be shown here (there is no display{cure}")
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    code, out, err = call(runs["cartpole"])
    assert (code, out) == (2, "") and err.startswith("logpi: CartPole-v1 cannot be shown here (") and err.endswith(cure)


def test_mujoco_without_a_display_is_told_what_to_set(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    code = """if True:
        from logpi.policy import build_policy
        from logpi.run.play import environment, play
        for mode, show in (("human", None), ("rgb_array", print)):
            try:
                env = environment("HalfCheetah-v5", "HalfCheetah-v5", mode)
                next(play(build_policy(env.observation_space, env.action_space), env, "HalfCheetah-v5", 1, True, 0, show))
            except ValueError as wrong:
                print(wrong)
    """
    shown = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "MUJOCO_GL")
    where = {name: value for name, value in os.environ.items() if name not in shown}
    line = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, env=where, cwd=tmp_path)  # MuJoCo leaves a log there
    assert done.returncode == 0
    human, picture = done.stdout.splitlines()
    assert human == "HalfCheetah-v5 cannot be shown here (there is no display): write a film with --video out.mp4."
    assert picture.startswith("HalfCheetah-v5 cannot be shown here (an OpenGL platform library has not been loaded")
    assert picture.endswith("): set MUJOCO_GL=egl or osmesa.")


EXTRAS = {
    "pygame": 'CartPole-v1 cannot be drawn (pygame is not installed): pip install "logpi[classic]".',
    "imageio.v2": 'Films need imageio and imageio-ffmpeg: pip install "logpi[video]".',
    "imageio_ffmpeg": 'Films need imageio and imageio-ffmpeg: pip install "logpi[video]".',
}


@pytest.mark.parametrize("module", EXTRAS)
def test_a_missing_extra_is_named(
    module: str, runs: dict[str, str], call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = call(runs["cartpole"], "--video", "a.mp4")
    assert (code, out, err) == (2, "", f"logpi: {EXTRAS[module]}\n") and not list(Path().iterdir())


def test_mujocos_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(LogpiError, match=r'^HalfCheetah-v5 cannot be drawn \(.*\): pip install "logpi\[mujoco\]"\.$'):
        environment("HalfCheetah-v5", "HalfCheetah-v5", "rgb_array")


def test_a_film_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    out.write_text("the one before")
    with pytest.raises(KeyboardInterrupt), film(out, 10) as show:
        show(np.zeros((16, 16, 3), np.uint8))
        assert out.read_text() == "the one before"
        raise KeyboardInterrupt
    assert [x.name for x in tmp_path.iterdir()] == ["a.mp4"] and out.read_text() == "the one before"


def test_the_policy_acts_through_its_normaliser(tmp_path: Path) -> None:
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        policy = build_policy(env.observation_space, env.action_space, hidden=(4,), normalise_obs=True).eval()
    policy.requires_grad_(False)
    assert policy.normaliser is not None
    seen: list[Any] = []
    policy.normaliser.register_forward_hook(lambda module, given, result: seen.append(given[0].clone()))
    (played,) = play(policy, env, "CartPole-v1", 1, True, 0)
    assert len(seen) == played.steps == played.reward
    env.close()
    obs = gymnasium.make("CartPole-v1").reset(seed=played.seed)[0]
    np.testing.assert_array_equal(seen[0].numpy(), obs)
