"""logpi play RUN"""

import contextlib
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import tyro

from logpi import envs
from logpi.errors import LogpiError
from logpi.policy import Policy
from logpi.run import play as room
from logpi.run.checkpoint import best_of, choose
from logpi.run.evaluate import environment_of
from logpi.run.flags import parse
from logpi.run.load import load_actor
from logpi.run.paths import load_object


@dataclass
class Play:
    """A saved policy at play: in a window, with --video in a film, with --record for the lab."""

    run: tyro.conf.Positional[Path]  # a run folder, or checkpoints/step-* of one
    episodes: int = 1  # to play
    video: Path | None = None  # out.mp4 or out.gif; else a window opens
    record: bool = False  # into RUN/video, for the lab: a film, and what was done at each step
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
    if given.video and given.record:
        raise LogpiError("--record writes a film into the run folder itself: leave --video away.")
    if given.video or given.record:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # a film needs no screen, and pygame complains of none
    run = best_of(given.run) if given.best else given.run
    policy = load_actor(run, given.network)
    name, construct, backend = environment_of(run, given.env, given.wrap, given.env_options)
    if given.record:
        recorded(given, run, policy, name, construct, backend)
        return
    if backend == "envpool" and name not in gymnasium.registry:
        raise LogpiError(f"{name} of envpool draws no pictures: logpi eval tells what a policy reaches in it.")
    env = room.environment(name, construct, "rgb_array" if given.video else "human", given.fps)
    with contextlib.closing(env), filmed(given.video, env) as show:
        for number, episode in enumerate(
            room.play(policy, env, name, given.episodes, not given.sampled, given.seed, show), 1
        ):
            print(f"episode {number}: {episode}")
    if given.video:
        print(f"written to {given.video}")


def filmed(out: Path | None, env: Any) -> AbstractContextManager[Any]:
    return nullcontext() if out is None else room.film(out, env.metadata.get("render_fps") or 30)


def recorded(given: Play, run: Path, policy: Policy, name: str, construct: Any, backend: Any) -> None:
    """The film, where the environment draws one, and what was done at each step: into the run folder, for the lab."""
    from logpi.run import episode

    file, blind = episode.place(run, name, given.seed, not given.sampled), ""
    critic = episode.critic_of(run, policy, given.network and load_object(given.network))
    tell = episode.Recorder(policy, critic)
    try:
        room.filming(".mp4")
        env: Any = room.environment(name, construct, "rgb_array", given.fps)
    except LogpiError as wrong:
        env, blind = episode.Alone(envs.make(construct, 1, backend)), str(wrong)
    out, played = None if blind else file.with_suffix(".mp4"), []
    with contextlib.closing(env), filmed(out, env) as show:
        for number, one in enumerate(
            room.play(policy, env, name, given.episodes, not given.sampled, given.seed, show, tell), 1
        ):
            print(f"episode {number}: {one}")
            played.append(tell.take(one))
    told = {"env": name, "checkpoint": choose(run)[0].name, "deterministic": not given.sampled, "seed": given.seed}
    told |= {"film": out and out.name, "fps": None if blind else env.metadata.get("render_fps") or 30}
    episode.write(file.with_suffix(".json"), told, played)
    if blind:
        print(f"no film: {blind}")
    print(f"written to {file.with_suffix('.json')}{'' if blind else ' and .mp4'}: logpi lab shows it")
