"""CleanRL's single files as they are; only their TensorBoard writer is replaced by one that reads the clock.

With `until` the run ends when its last 100 episodes average that return.
"""

import io
import runpy
import sys
from collections import deque
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import torch
from clock import Clock, asked, tell

torch.set_num_threads(asked["threads"])
clock = Clock(asked["steps"])
returns: deque[float] = deque(maxlen=100)


class Solved(Exception):  # noqa: N818
    pass


class Writer:
    """In the place of SummaryWriter: what CleanRL tells it at the ends of episodes and iterations."""

    def __init__(self, *_: object) -> None:
        pass

    def add_text(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if name == "charts/SPS":  # the last line of an iteration
            clock.tick(step)
        elif name == "charts/episodic_return":
            returns.append(float(value))
            if "until" in asked and len(returns) == 100 and sum(returns) >= 100 * asked["until"]:
                clock.last = step
                raise Solved


stand_in = ModuleType("torch.utils.tensorboard")
stand_in.SummaryWriter = Writer  # type: ignore[attr-defined]
sys.modules["torch.utils.tensorboard"] = stand_in
file = "ppo_continuous_action.py" if asked.get("continuous") else "ppo.py"
flags = {
    "seed": asked["seed"] + 1,
    "env-id": asked["env"],
    "total-timesteps": asked["steps"],
    "num-envs": asked["envs"],
    "num-steps": asked["length"],
    "update-epochs": asked["epochs"],
    "num-minibatches": asked["minibatches"],
    "learning-rate": asked["lr"],
    "ent-coef": asked["entropy"],
}
sys.argv = [file, *(f"--{name}={value}" for name, value in flags.items()), "--no-cuda"]
solved = False
with redirect_stdout(io.StringIO()):
    try:
        runpy.run_path(str(Path(asked["source"]) / file), run_name="__main__")
    except Solved:
        solved = True
assert solved or "until" not in asked, "not solved"
tell(
    None if solved else clock.rate(),  # None: the wall time of this process
    "torch numpy gymnasium mujoco",
    steps=clock.last,
    score=sum(returns) / max(len(returns), 1),
)
