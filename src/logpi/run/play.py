"""A saved policy at play: in a window, or in a film."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch

from logpi.envs import EXTRAS, NATIVE, spec_of
from logpi.errors import LogpiError
from logpi.policy import Decision, Policy
from logpi.rollout.control import LONGEST, never_ends
from logpi.workers.construct import Built, registered, takes
from logpi.workers.game import Game

Show = Callable[[np.ndarray], None]
Tell = Callable[[Decision, float, bool], None]
Mode = Literal["human", "rgb_array"]
PACKAGES = EXTRAS | {"pygame": "classic", "classic": "classic", "toy": "classic"}


@dataclass(frozen=True)
class Played:
    """One episode."""

    seed: int
    steps: int
    reward: float

    def __str__(self) -> str:
        return f"return {self.reward:.1f} in {self.steps} steps (start {self.seed})"


def environment(name: str, construct: Any, mode: Mode, fps: float | None = None) -> gymnasium.Env:
    """One environment that draws itself: Gymnasium's of that id, or what the user's constructor makes."""
    asked = construct if isinstance(construct, Built) else Built(construct)
    if isinstance(asked.base, str):
        if asked.base in NATIVE and asked.base not in gymnasium.registry:
            raise LogpiError(f"{asked.base} draws no pictures: logpi eval tells what a policy reaches in it.")
        asked = replace(asked, base=registered(spec_of(asked.base), dict(asked.options)))
    with _explained(name, mode):
        whole = {"life_loss_info": False} if isinstance(asked.base, Game) else {}  # an episode is what is counted
        env = asked(render_mode=mode, **whole) if takes(asked, "render_mode") else asked()
    if getattr(env, "render_mode", None) != mode:
        env.close()
        raise LogpiError(
            f"{name} draws no pictures: its constructor needs to take render_mode={mode!r} and set self.render_mode."
        )
    if fps is not None:
        env.unwrapped.metadata = env.unwrapped.metadata | {"render_fps": fps}
    return env


@torch.no_grad()
def play(
    policy: Policy,
    env: Any,
    name: str,
    episodes: int,
    deterministic: bool,
    seed: int,
    show: Show | None = None,
    tell: Tell | None = None,
) -> Iterator[Played]:
    """Episodes from seeded starts. `show` gets each frame [H, W, 3] uint8: the start's, then one after each step.

    `tell` hears of each step: what was decided, its reward, whether it terminated the episode.
    """
    policy.must_fit(env.observation_space, env.action_space)
    generator = torch.Generator(next(policy.parameters()).device).manual_seed(seed)
    starts = torch.randint(2**31, (episodes,), generator=torch.Generator().manual_seed(seed)).tolist()
    for start in starts:
        policy.forget()
        with _explained(name, "human" if env.render_mode == "human" else "rgb_array"):
            obs, _ = env.reset(seed=start)
            _picture(env, name, show)
        reward, steps, ended = 0.0, 0, False
        while not ended:
            if steps == LONGEST:
                raise LogpiError(never_ends(LONGEST))
            decision = policy.decide(obs, deterministic, generator)
            action = decision.action
            own = isinstance(action, dict | tuple | torch.Tensor)
            action = action if own else action.astype(env.action_space.dtype)[()]
            obs, gained, terminated, truncated, _ = env.step(action)
            _picture(env, name, show)
            if tell is not None:
                tell(decision, float(gained), bool(terminated))
            reward, steps, ended = reward + float(gained), steps + 1, bool(terminated or truncated)
        yield Played(start, steps, reward)


def filming(kind: str) -> Any:
    """imageio, where it can write films of this kind."""
    try:
        if kind == ".mp4":
            importlib.import_module("imageio_ffmpeg")
        return importlib.import_module("imageio.v2")
    except ModuleNotFoundError as missing:
        raise LogpiError('Films need imageio and imageio-ffmpeg: pip install "logpi[video]".') from missing


@contextmanager
def film(out: Path, fps: float) -> Iterator[Show]:
    """`with film(out, fps) as show: show(frame)`: an .mp4 or .gif that is there whole at the end, or not at all."""
    kind = out.suffix.lower()
    if kind not in (".mp4", ".gif"):
        raise LogpiError(f"The film {out} must end in .mp4 or .gif.")
    imageio = filming(kind)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.stem}.{os.getpid()}{kind}")
    how: dict[str, Any] = {"fps": fps, "macro_block_size": 1, "quality": 8}
    try:
        writer = imageio.get_writer(temporary, **(how if kind == ".mp4" else {"duration": 1000 / fps, "loop": 0}))
        try:
            yield lambda frame: writer.append_data(_even(frame) if kind == ".mp4" else frame)
        finally:
            writer.close()
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def _even(frame: np.ndarray) -> np.ndarray:
    """H.264 wants even sides: the last row or column twice."""
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")


def _picture(env: gymnasium.Env, name: str, show: Show | None) -> None:
    if show is None:
        return
    frame: Any = env.render()
    if not (isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8):
        raise LogpiError(f"{name}.render() must give a picture [height, width, 3] of uint8, not {_kind(frame)}.")
    show(frame)


def _kind(frame: Any) -> str:
    return f"{frame.dtype} of shape {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__


@contextmanager
def _explained(name: str, mode: Mode) -> Iterator[None]:
    """What making or starting an environment that draws may lack, in one sentence."""
    film = "write a film with --video out.mp4"
    try:
        if mode == "human" and _blind():  # SDL would draw where nobody sees it, GLFW would abort the process
            raise LogpiError(f"{name} cannot be shown here (there is no display): {film}.")
        yield
    except LogpiError:
        raise
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as missing:
        line = str(missing).strip().split("\n")[0].rstrip(".")
        extra = next((PACKAGES[word] for word in PACKAGES if word in line), None)
        cure = f'pip install "logpi[{extra}]"' if extra else "install what it names"
        raise LogpiError(f"{name} cannot be drawn ({line.split(', ')[0]}): {cure}.") from missing
    except (gymnasium.error.Error, TypeError, AttributeError) as wrong:
        raise LogpiError(f"{name} could not be made with render_mode={mode!r}: {wrong}.") from wrong
    except Exception as wrong:
        mujoco = type(wrong).__module__.startswith("mujoco")
        if not mujoco and not isinstance(wrong, RuntimeError):  # pygame.error is one
            raise
        cure = film if mode == "human" else "set MUJOCO_GL=egl or osmesa" if mujoco else "logpi eval needs no pictures"
        raise LogpiError(f"{name} cannot be shown here ({str(wrong).strip().rstrip('.')}): {cure}.") from wrong


def _blind() -> bool:
    """Whether no window can be seen: Linux without X or Wayland, unless a driver was asked for."""
    chosen = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return sys.platform.startswith("linux") and not any(os.environ.get(name) for name in chosen)
