"""What the machine allows: environments in processes of their own, each stepped without a word to anybody."""

import multiprocessing
import time
from importlib import import_module

from clock import asked, tell

SECONDS = 4.0


def stepped(name, begin, told):
    module, _, kind = name.rpartition(":")
    env = getattr(import_module(module), kind)()
    env.reset(seed=0)
    begin.wait()
    steps, until = 0, time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        truncated = env.step(0)[3]
        if truncated:
            env.reset()
        steps += 1
    told.put(steps)


if __name__ == "__main__":
    context, n = multiprocessing.get_context("spawn"), asked["sides"]
    begin, told = context.Barrier(n), context.Queue()
    sides = [context.Process(target=stepped, args=(asked["env"], begin, told)) for _ in range(n)]
    for side in sides:
        side.start()
    steps = sum(told.get() for _ in sides)
    for side in sides:
        side.join()
    tell(steps / SECONDS, "gymnasium numpy")
