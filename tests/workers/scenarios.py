"""Workers killed, stopped and broken, as often as is asked for; each raises AssertionError, or tells what it measured."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from breaking import WAYS, Fragile, Healthy

from logpi import envs
from logpi.envs.workers import Workers
from logpi.methods import A2C, Reinforce
from logpi.run.setup import Settings, assemble


def async_envs(env: Any = Fragile, n: int = 6, **how: Any) -> Workers:
    made = envs.make(env, n, "async", **{"workers": 2, "on_failure": "restart", "step_timeout": 30.0} | how)
    assert isinstance(made, Workers)
    return made


def pids(made: Workers) -> list[int]:
    return [worker.process.pid for worker in made.workers]


def gone(pid: int) -> bool:
    """No such process, or only its entry is left for its parent to read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(holds: Any, seconds: float) -> float:
    """How long it took to hold; AssertionError after `seconds`."""
    began = time.perf_counter()
    while not holds():
        assert time.perf_counter() - began < seconds, "waited in vain"
        time.sleep(0.005)
    return time.perf_counter() - began


def collector(env: Any, method: Any, **settings: Any) -> Any:
    how = {"workers": 2, "on_failure": "restart", "dtype": "float64", "hidden": (4,), "backend": "async"}
    return assemble(method, Settings(**{"env": "custom"} | how | settings), env)


def check(batch: Any, seen: set, carried: dict) -> int:
    """Full rows, no transition twice, no two episodes joined, flags where they belong. Returns the actions."""
    for row in range(len(batch)):
        mark, age = carried.get(row, (None, -1))
        for t in range(batch.mask.shape[1]):
            if not batch.mask[row, t]:
                mark = None if batch.truncated[row, t] else mark
                continue
            now = tuple(batch.obs[row, t].tolist())
            assert now not in seen, "a transition twice"
            seen.add(now)
            assert now == (mark, age + 1) if mark is not None else now[1] == 0, "two episodes joined"
            assert float(batch.reward[row, t]) == now[0]
            mark, age = (None, -1) if batch.ended[row, t] else now
        carried[row] = (mark, age)
    return int(batch.mask.sum())


def kills(count: int, seed: int = 0, env: Any = Healthy, **settings: Any) -> dict[str, float]:
    """SIGKILL workers at random moments of a training rollout; found within 1 s, every batch full, nothing twice."""
    draw, rows, length = random.Random(seed), 6, 16
    parts = collector(env, A2C(envs=rows, length=length), normalise_reward=False, **settings)
    made, seen, carried, killed, found = parts.collect.envs, set[Any](), dict[int, Any](), 0, 0
    slowest, broken = 0.0, 0
    try:
        while found < count:
            victim, moment = draw.choice(pids(made)), draw.uniform(0, 0.004)
            timer = threading.Timer(moment, os.kill, (victim, signal.SIGKILL))
            timer.start()
            began = time.perf_counter()
            batch = parts.collect(parts.policy, parts.critic)
            timer.join()
            killed += 1
            actions = check(batch, seen, carried)
            if not made.failures:  # it fell behind the rollout's last step: the next rollout finds it
                batch = parts.collect(parts.policy, parts.critic)
                actions = check(batch, seen, carried)
            slowest = max(slowest, time.perf_counter() - began)
            assert len(made.failures) == 1 and "was killed by signal 9" in str(made.failures[0])
            assert batch.mask.shape == (rows, length) and actions == rows * length - int((~batch.mask).sum())
            found += 1
            made.failures.clear()
            broken += int((~batch.mask).sum())
        assert parts.collect.broken == broken == 3 * count
        assert slowest < 1 + 1, "a rollout with a kill and a new process took longer than it may"
    finally:
        made.close()
    return {"kills": killed, "found": found, "rollout with the longest repair, s": slowest}


def hangs(count: int, timeout: float = 0.3) -> dict[str, float]:
    """SIGSTOP; found after step_timeout, the process replaced."""
    made, slowest = async_envs(step_timeout=timeout), 0.0
    try:
        made.reset(list(range(6)))
        for i in range(count):
            made.step(torch.zeros(6, dtype=torch.long))
            pid = pids(made)[i % 2]
            os.kill(pid, signal.SIGSTOP)
            began = time.perf_counter()
            step = made.step(torch.zeros(6, dtype=torch.long))
            slowest = max(slowest, time.perf_counter() - began)
            assert step.broken is not None and step.broken.tolist() == [i % 2 == 0] * 3 + [i % 2 == 1] * 3
            assert gone(pid) and f"gave no answer for {timeout:g} s" in str(made.failures.pop())
        assert slowest < timeout + 1
    finally:
        made.close()
    return {"hangs": count, "slowest, s": slowest}


def failures(way: str, count: int) -> dict[str, float]:
    """One environment breaks; it alone begins a new episode, its neighbours go on with theirs."""
    made, before = async_envs(), None
    try:
        obs = made.reset(list(range(6)))
        for i in range(count):
            victim = i * 5 % 6
            action = torch.zeros(6, dtype=torch.long)
            action[victim], before = WAYS.index(way), obs
            processes = pids(made)
            step = made.step(action)
            others = torch.arange(6) != victim
            assert step.broken is not None and torch.equal(step.broken, ~others)
            assert torch.equal(step.final[others, 1], before[others, 1] + 1)
            assert torch.equal(step.final[others, 0], before[others, 0]) and torch.equal(
                step.final[victim], before[victim]
            )
            assert step.obs[victim, 1] == 0 and step.obs[victim, 0] != before[victim, 0] and step.reward[victim] == 0
            failure = made.failures.pop()
            assert failure.number == victim and str(failure).startswith(f"Environment {victim} (Fragile) r")
            assert pids(made) == processes and not made.failures
            obs = made.step(torch.zeros(6, dtype=torch.long)).obs
    finally:
        made.close()
    return {way: count}


PARENT = """
import os, signal, sys
sys.path.insert(0, {here!r})

if __name__ == "__main__":
    import torch
    from breaking import WAYS, Fragile
    from logpi import envs
    made = envs.make(Fragile, 4, "async", workers=2)
    made.reset([0, 1, 2, 3])
    os.kill(made.workers[0].process.pid, signal.SIGSTOP)
    print(*(worker.process.pid for worker in made.workers), flush=True)
    made.step(torch.tensor([0, 0, 0, WAYS.index("hang")]))
"""


def descendants(pid: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | descendants(child)
    return found


def parent_deaths(count: int, folder: Path) -> dict[str, float]:
    """SIGKILL the parent of a stopped worker and of one in an endless loop: nothing of them is left after 2 s."""
    script, shm, slowest, left = folder / "parent.py", Path("/dev/shm"), 0.0, count
    script.write_text(PARENT.format(here=str(Path(__file__).parent)))
    while left > 0:
        before = set(shm.iterdir())
        command = [sys.executable, str(script)]
        parents = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(min(5, left))]
        for parent in parents:
            with parent:
                assert parent.stdout is not None
                told = {int(x) for x in parent.stdout.readline().split()}
                family = descendants(parent.pid)
                assert len(told) == 2 and told < family
                loop = Path(f"/proc/{max(told)}/stat")
                wait_until(lambda loop=loop: loop.read_text().rpartition(")")[2].split()[0] == "R", 5)
                parent.kill()
                slowest = max(slowest, wait_until(lambda family=family: all(map(gone, family)), 2.0))
        assert set(shm.iterdir()) <= before, "shared memory with a name"
        left -= len(parents)
    return {"parents": count, "slowest, s": slowest}


def whole_episodes(count: int, env: Any, method: Any = None) -> dict[str, float]:
    """Rollouts of whole episodes from environments that break: every row is one episode, from its start to its end."""
    parts = collector(env, method or Reinforce(episodes=6), normalise_reward=False)
    seen, broken = set[Any](), 0
    try:
        for _ in range(count):
            batch = parts.collect(parts.policy, parts.critic)
            rows = batch if batch.mask.dim() == 2 else batch.map(lambda x: x.flatten(0, 1))
            taken = rows.mask.sum(1)
            assert torch.equal(rows.mask, torch.arange(rows.mask.shape[1]) < taken[:, None])
            assert torch.equal(rows.ended.sum(1), torch.ones_like(taken)) and taken.max() == rows.mask.shape[1]
            assert rows.ended.gather(1, taken[:, None] - 1).all()
            if method is None:
                check(rows, seen, {})
            broken += len(parts.collect.envs.failures)
            parts.collect.envs.failures.clear()
        found = parts.collect.metrics()
        assert found["episodes"] == count * len(rows)
        assert found["broken_episodes"] > 0
    finally:
        parts.collect.envs.close()
    return {"rollouts": count, "failures": broken, "broken episodes": found["broken_episodes"]}
