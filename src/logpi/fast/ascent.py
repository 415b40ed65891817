"""One call of `step.gradient.ascend` in a fused kernel."""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logpi.batch import Rows
from logpi.fast import update, warm
from logpi.fast.machine import Columns, Machine, address
from logpi.fast.program import NotCovered, Program
from logpi.finite import check

AGREE = 1e-3  # |fused - plain gradient| over the plain one's length, in float32


class Ascent:
    """Ready to run, or NotCovered."""

    def __init__(
        self,
        machine: Machine,
        program: Program,
        columns: Columns,
        surrogate: Any,
        rows: Rows,
        optimizer: torch.optim.Optimizer,
        max_grad_norm: float | None,
    ) -> None:
        self.machine, self.surrogate, self.rows = machine, surrogate, rows
        self.data, self.loaded = columns.data, machine.loaded(program, columns.fields)
        self.key = (surrogate.moves, program.tape.tobytes())
        self.longest = np.inf if max_grad_norm is None else max_grad_norm
        self.group, self.state = adam_of(optimizer, machine.parameters)
        self.values, self.norms, self.steps = 0.0, 0.0, 0

    def minibatches(self, epochs: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows of the data, their weights, where each minibatch begins) of so many epochs."""
        orders = [self.rows.order(count) for _ in range(epochs)]
        mask, average = self.rows.batch.mask, self.surrogate.average
        if mask.dim() == 1:  # all of them ours: weights depend on numbers alone
            index = torch.cat([order for order, _ in orders]).numpy()
            return index, *self.machine.weights(average, mask, orders[0][1], epochs)
        slots = (mask.flatten().cumsum(0) - 1).reshape(mask.shape)
        parts = [part for order, sizes in orders for part in order.split(sizes)]
        index = torch.cat([slots[part][mask[part]] for part in parts]).numpy()
        weight = [average(mask[part])[mask[part]].float() for part in parts]
        return index, torch.cat(weight).numpy(), np.cumsum([0, *(len(x) for x in weight)])

    def agrees(self, count: int) -> bool:
        """True; NotCovered, where the fused gradient of a minibatch is not the plain path's. Nothing is drawn or moved."""
        before = self.rows.generator.get_state()
        index, weight, bounds = self.minibatches(1, count)
        self.rows.generator.set_state(before)
        mini = next(iter(self.rows.shuffled(count)))
        self.rows.generator.set_state(before)
        params = self.machine.parameters
        found = [torch.autograd.grad(part, params, materialize_grads=True) for part in copy.copy(self.surrogate)(mini)]
        self.call(index, weight, bounds[:2], lr=-1.0)
        grad, plain = self.machine.grad, np.zeros_like(self.machine.grad)
        for parts in found:
            for (_, at), g in zip(self.machine.pieces, parts, strict=True):
                plain[at : at + g.numel()] += g.flatten().numpy()
        off, length = float(np.linalg.norm(grad - plain)), float(np.linalg.norm(plain))
        if np.isfinite(length) and not off <= AGREE * length + 1e-6:
            raise NotCovered(f"its gradient differs from the plain one by {off / max(length, 1e-30):.1e}")
        return True

    def call(self, index: np.ndarray, weight: np.ndarray, bounds: np.ndarray, lr: float) -> tuple[int, np.ndarray]:
        """(steps taken, what the kernel found) over these minibatches; see `update.ascend`."""
        m, group, found = self.machine, self.group, np.zeros(5)
        tensors = m.tensors(*([s[name] for s in self.state] for name in ("exp_avg", "exp_avg_sq")))
        arrays = (m.plan, m.x, self.loaded.ints, self.loaded.registers, tensors, m.places)
        warm.wait()
        taken = update.ascend(
            *map(address, arrays), len(m.places), *map(address, (self.data, index, weight, bounds)), len(bounds) - 1,
            float(self.state[0]["step"]), lr, *group["betas"], group["eps"], self.longest, address(found),
        )  # fmt: skip
        return taken, found

    def run(self, epoch: int, epochs: int, count: int) -> None:
        """So many epochs; `epoch` is the first one's number."""
        index, weight, bounds = self.minibatches(epochs, count)
        taken, found = self.call(index, weight, bounds, float(self.group["lr"]))
        torch._foreach_add_([s["step"] for s in self.state], taken)
        if self.surrogate.moves == "policy" and self.surrogate.first_ratio is None:
            self.surrogate.first_ratio = float(torch.tensor(found[4]).expm1())
        self.values, self.norms, self.steps = self.values + found[0], self.norms + found[1], self.steps + taken
        if taken < len(bounds) - 1:
            pieces, grad = self.machine.pieces, torch.from_numpy(self.machine.grad)
            pairs = ((p, grad[at : at + p.numel()]) for p, at in pieces)
            done = {"epoch": epoch + taken // count + 1, "minibatch": taken % count + 1}
            check("gradient", torch.tensor(found[2] + found[3]), pairs, **done)

    def info(self) -> dict[str, float]:
        return {"surrogate": float(self.values / self.steps), "grad_norm": float(self.norms / self.steps)}


def adam_of(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(its one group, its state for each parameter, made as torch makes it)."""
    group = optimizer.param_groups[0]
    plain = not (group.get("weight_decay") or group.get("amsgrad") or group.get("maximize"))
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) > 1 or not plain:
        raise NotCovered(f"its optimiser is {type(optimizer).__name__}")
    if {*map(id, group["params"])} != {*map(id, parameters)}:
        raise NotCovered("its optimiser moves other parameters")
    for p in parameters:
        if not optimizer.state[p]:
            zero = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[p] = {"step": torch.zeros((), dtype=torch.float32), **zero}
    return group, [optimizer.state[p] for p in parameters]
