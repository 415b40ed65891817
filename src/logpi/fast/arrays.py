"""The twins without a compiler: rollouts of CartPole, values, an ascent and its measurements in NumPy.

Where `fused` needs numba, this needs nothing, and does what most runs on a CPU are: plain stacks of layers, a categorical
or a Gaussian head, Adam. It has the interface of `Fused`; None means that the plain path has to do it.
"""

import inspect
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from logpi import psi, trace
from logpi.batch import Batch, Rows
from logpi.fast.arrays_acting import cartpole
from logpi.fast.arrays_math import Tape
from logpi.fast.arrays_net import Columns, Machine
from logpi.fast.cover import Covering, adam_of, agree, apart, minibatches, native, untouched
from logpi.fast.program import Program
from logpi.finite import check
from logpi.policy import Policy

QUIET = np.errstate(all="ignore")  # what is not finite is told by others
BLOCK = 512  # rows that go through the networks at once: what they leave behind stays in the cache


class Ascent:
    """One call of `step.gradient.ascend`, ready to run, or NotCovered."""

    def __init__(
        self, machine: Machine, program: Program, columns: Columns, surrogate: Any, rows: Rows,
        optimizer: torch.optim.Optimizer, max_grad_norm: float | None,
    ) -> None:  # fmt: skip
        self.machine, self.surrogate, self.rows = machine, surrogate, rows
        self.data, self.fields, self.tape, self.asked = columns.data, columns.fields, Tape(program), program.asked
        first = len(columns.data) - len(columns.fields)
        self.places = [first + columns.fields.index(name) for name in program.data]
        self.log_pi = first + columns.fields.index("log_pi")
        self.key = (surrogate.moves, program.tape.tobytes())
        self.longest = math.inf if max_grad_norm is None else max_grad_norm
        self.group, self.state = adam_of(optimizer, machine.parameters)
        self.kept = [machine.parameters, *([s[name] for s in self.state] for name in ("exp_avg", "exp_avg_sq"))]
        self.values, self.norms, self.steps = 0.0, 0.0, 0

    def minibatches(self, epochs: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return minibatches(self.rows, self.surrogate.average, epochs, count)

    def climb(self, index: np.ndarray, weight: np.ndarray) -> float:
        """The surrogate of a minibatch; its gradient in the machine."""
        total, grad, sums = 0.0, self.machine.flat[1], None
        for at in range(0, len(index), BLOCK):
            data, own = self.data.take(index[at : at + BLOCK], 1), weight[at : at + BLOCK]
            said = self.machine.said(data, self.asked)
            total += float(own @ self.tape.evaluate(said, [data[i] for i in self.places], len(own)))
            self.machine.pull(self.tape.differentiate(own), len(own))
            self._first(said, data)
            if len(index) > BLOCK:
                sums = grad.copy() if sums is None else sums + grad
        if sums is not None:
            grad[:] = sums
        return total

    def _first(self, said: dict[str, np.ndarray], data: np.ndarray) -> None:
        """The ratios of the first minibatch are 1."""
        if self.steps == 0 and self.fresh:
            worst = np.abs(np.expm1(said["log_pi"] - data[self.log_pi])).max()
            self.surrogate.first_ratio = max(self.surrogate.first_ratio or 0.0, float(worst))

    def agrees(self, count: int) -> bool:
        """True; NotCovered where the gradient of a minibatch is not the plain path's. Nothing is drawn or moved."""
        m, before = self.machine, self.rows.generator.get_state()
        index, weight = self.minibatches(1, count)[0]
        self.rows.generator.set_state(before)
        m.fetch(0, m.parameters)
        self.fresh = False
        value = self.climb(index, weight)
        return agree(value, m.grads(), self.surrogate, self.rows, count, m.parameters)

    def run(self, epoch: int, epochs: int, count: int) -> None:
        """So many epochs; `epoch` is the first one's number."""
        m = self.machine
        self.fresh = self.surrogate.moves == "policy" and self.surrogate.first_ratio is None
        for k, tensors in zip((0, 2, 3), self.kept, strict=True):
            m.fetch(k, tensors)
        counted = torch.tensor(float(self.state[0]["step"]))
        theta, grad, *moments = (torch.from_numpy(x) for x in m.flat)
        betas = {"beta1": self.group["betas"][0], "beta2": self.group["betas"][1], "eps": self.group["eps"]}
        more = betas | {"lr": float(self.group["lr"]), "weight_decay": 0.0, "amsgrad": False, "maximize": True}
        minis = self.minibatches(epochs, count)
        try:
            for k, mini in enumerate(minis):
                value, norm = self.climb(*mini), float(torch.linalg.vector_norm(grad))
                if not math.isfinite(value + norm):
                    e, number = divmod(k, len(minis) // epochs)
                    pairs = zip(m.parameters, m.grads(), strict=True)
                    check("gradient", torch.tensor(value + norm), pairs, epoch=epoch + e + 1, minibatch=number + 1)
                m.flat[1] *= np.float32(min(1.0, self.longest / (norm + 1e-6)))
                counted += 1  # the kernel below is what torch's own fused Adam calls
                torch._fused_adam_([theta], [grad], [moments[0]], [moments[1]], [], [counted], **more)
                self.values, self.norms, self.steps = self.values + value, self.norms + norm, self.steps + 1
        finally:
            for k, tensors in zip((0, 2, 3), self.kept, strict=True):
                m.give(k, tensors)
            for s in self.state:
                s["step"].copy_(counted)

    def info(self) -> dict[str, float]:
        return {"surrogate": self.values / self.steps, "grad_norm": self.norms / self.steps}


class Arrays(Covering):
    """The twins of one policy and its critic, `joint` where they are fitted together."""

    def __init__(self, policy: Policy, critic: nn.Module | None, joint: bool) -> None:
        super().__init__()
        self.twins: dict[str, Any] = TWINS
        self.columns: tuple[Batch, Columns] | None = None  # of the newest batch
        self.main: Any = self.cover(lambda: Machine(policy, critic if joint else None))
        self.fit: Any = None if critic is None or joint else self.cover(lambda: apart(policy) and Machine(None, critic))
        self.critic: Any = self.main if joint else self.fit

    def ready(self, machine: Any) -> bool:
        """Is there one, of modules as they were made?"""
        return machine is not None and self.cover(lambda: untouched(machine.modules)) is not None

    def collect(self, control: Any, policy: Policy, critic: nn.Module | None) -> None:
        """Nothing for whole batches: `roll` and `value` are most of it."""

    @QUIET
    def roll(
        self, control: Any, policy: Policy, noise: Tensor | None, steps: int, going: Tensor | None, before: int
    ) -> tuple[Tensor, dict[str, Tensor]] | None:
        """(the next observations, what happened in so many steps [n, T, *]); None where it is not covered."""
        if noise is None or not native(control.envs) or not self.ready(self.main):
            return None
        return cartpole(self.main, control.envs, policy, noise, control.rows != "segments", going)

    @QUIET
    def value(self, obs: Tensor) -> Tensor | None:
        """V of normalised observations [..., D], as the critic is now."""
        if not self.ready(self.critic):
            return None
        self.critic.fetch(0, self.critic.parameters)
        rows = obs.reshape(-1, obs.shape[-1]).numpy().T
        found = np.empty(rows.shape[1], np.float32)
        for at in range(0, len(found), BLOCK):
            found[at : at + BLOCK] = self.critic.value(rows[:, at : at + BLOCK])
        return torch.from_numpy(found).reshape(obs.shape[:-1])

    ascend = QUIET(Covering.ascend)

    def ascent(self, machine: Machine, surrogate: Any, rows: Rows, *how: Any) -> Ascent:
        program = self.program(surrogate, rows.batch)
        return Ascent(machine, program, self._columns(rows.batch, program.data), surrogate, rows, *how)

    def divergence(self, machine: Machine, rows: Rows) -> float:
        return report(machine, self._columns(rows.batch, ()).data, 0.0, 0.0)["kl"]

    def natural_direction(self, *_: Any) -> None:
        """Nothing for natural steps: theirs are few and large."""

    look = natural_direction

    def _columns(self, b: Batch, fields: tuple[str, ...]) -> Columns:
        """The batch with these fields; made once."""
        if self.columns is None or self.columns[0] is not b or not {*fields} <= {*self.columns[1].fields}:
            self.columns = b, Columns(b, tuple(dict.fromkeys(("log_pi", *fields))))
        return self.columns[1]

    @QUIET
    def measure(self, rows: Rows, low: float, high: float) -> dict[str, float] | None:
        """`loop.measure` of all rows: KL, clip fraction, entropy, and the critic's explained variance."""
        b = rows.batch
        if b.q is not None or not self.ready(self.main):
            return None
        info = report(self.main, self._columns(b, ()).data, low, high)
        if b.value is not None and b.target is not None:
            target, said = (b.ours(x).numpy().astype(np.float64) for x in (b.target, b.value))
            info["explained_variance"] = float(1 - (target - said).var() / max(target.var(), 1e-12))
        return info


def report(machine: Machine, data: np.ndarray, low: float, high: float) -> dict[str, float]:
    """Means over all rows of the KL to the old policy, of how often the ratio is out of range, and of the entropy."""
    machine.fetch(0, machine.parameters)
    names, sums, log_pi = ("kl", "clip_fraction", "entropy"), np.zeros(3), machine.inputs + sum(machine.record)
    for at in range(0, data.shape[1], BLOCK):
        part = data[:, at : at + BLOCK]
        said = machine.said(part, ("entropy", "kl_old"))
        change = np.expm1(said["log_pi"] - part[log_pi])
        outside = (change < -low) | (change > high)
        sums += [x.sum(dtype=np.float64) for x in (said["kl_old"], outside, said["entropy"])]
    return dict(zip(names, (sums / data.shape[1]).tolist(), strict=True))


@QUIET
def backward(x: Tensor, decay: Tensor) -> Tensor:
    """`psi.backward`, in log2 T passes: after each, y_t holds twice as many steps, and decay_t leads behind them."""
    y, d, k = x.to(decay.dtype, copy=True).numpy(), decay.expand_as(x).numpy().copy(), 1
    while k < y.shape[-1]:
        y[..., :-k] += d[..., :-k] * y[..., k:]
        d[..., :-k] *= d[..., k:].copy()
        d[..., -k:] = 0
        k *= 2
    return torch.from_numpy(y)


TWINS: dict[str, Any] = {"backward": backward} | {
    f.__name__: inspect.unwrap(f) for f in (psi.gae, psi.standardise, trace.finite)
}
