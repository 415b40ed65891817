"""logpi play RUN"""

import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import tyro

from logpi.errors import LogpiError
from logpi.run import play as room
from logpi.run.checkpoint import best_of
from logpi.run.evaluate import environment_of
from logpi.run.flags import parse
from logpi.run.load import load_actor


@dataclass
class Play:
    """A saved policy at play: in a window, or with --video in a film."""

    run: tyro.conf.Positional[Path]  # a run folder, or checkpoints/step-* of one
    episodes: int = 1  # to play
    video: Path | None = None  # out.mp4 or out.gif; else a window opens
    best: bool = False  # the best checkpoint, not the newest
    sampled: bool = False  # actions drawn from the policy; else its most likely ones
    seed: int = 10_000  # of the starts and the draws
    env: str | None = None  # another environment; else the run's own
    env_options: tuple[str, ...] = ()  # key=value, over the run's own
    wrap: tuple[str, ...] = ()  # wrappers, where the run used one of yours
    network: str | None = None  # ./file.py:build, where the run used one of yours
    fps: float | None = None  # frames per second; else the environment's own


def main(args: list[str]) -> None:
    given = parse(Play, args, "logpi play")
    if given.episodes < 1:
        raise LogpiError(f"--episodes is {given.episodes}: allowed is a whole number 1 or more.")
    if given.fps is not None and not 1 <= given.fps <= 1000:
        raise LogpiError(f"--fps is {given.fps:g}: allowed is a number from 1 to 1000.")
    if given.video:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # a film needs no screen, and pygame complains of none
    run = best_of(given.run) if given.best else given.run
    policy = load_actor(run, given.network)
    name, construct, backend = environment_of(run, given.env, given.wrap, given.env_options)
    if backend == "envpool" and name not in gymnasium.registry:
        raise LogpiError(f"{name} of envpool draws no pictures: logpi eval tells what a policy reaches in it.")
    env = room.environment(name, construct, "rgb_array" if given.video else "human", given.fps)
    try:
        fps = env.metadata.get("render_fps") or 30
        with room.film(given.video, fps) if given.video else nullcontext() as show:
            for number, episode in enumerate(
                room.play(policy, env, name, given.episodes, not given.sampled, given.seed, show), 1
            ):
                print(f"episode {number}: {episode}")
    finally:
        env.close()
    if given.video:
        print(f"written to {given.video}")
