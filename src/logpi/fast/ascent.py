"""One call of `step.gradient.ascend` in a fused kernel."""

from typing import Any

import numpy as np
import torch

from logpi.batch import Rows
from logpi.fast import update
from logpi.fast.cover import adam_of, agree
from logpi.fast.machine import Columns, Machine, address
from logpi.fast.program import Program
from logpi.finite import check


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
        self.data, self.fields, self.loaded = columns.data, columns.fields, machine.loaded(program, columns.fields)
        self.key = (surrogate.moves, program.tape.tobytes())
        self.longest = np.inf if max_grad_norm is None else float(max_grad_norm)
        self.group, self.state = adam_of(optimizer, machine.parameters)
        machine.link()
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
        found = self.call(index, weight, bounds[:2], lr=-1.0)[1]
        grad = torch.from_numpy(self.machine.grad.copy())
        grads = [grad[at : at + p.numel()].view_as(p) for p, at in self.machine.pieces]
        return agree(float(found[2]), grads, self.surrogate, self.rows, count, self.machine.parameters)

    def call(self, index: np.ndarray, weight: np.ndarray, bounds: np.ndarray, lr: float) -> tuple[int, np.ndarray]:
        """(steps taken, what the kernel found) over these minibatches; see `update.ascend`."""
        m, group, found = self.machine, self.group, np.zeros(5)
        tensors = m.tensors(*([s[name] for s in self.state] for name in ("exp_avg", "exp_avg_sq", "step")))
        taken = update.ascend(
            *m.here, *self.loaded.here, address(tensors), *m.pieces_at,
            *map(address, (self.data, index, weight, bounds)), len(bounds) - 1,
            float(self.state[0]["step"]), lr, *group["betas"], group["eps"], self.longest, address(found),
        )  # fmt: skip
        return taken, found

    def run(self, epoch: int, epochs: int, count: int) -> None:
        """So many epochs; `epoch` is the first one's number."""
        index, weight, bounds = self.minibatches(epochs, count)
        taken, found = self.call(index, weight, bounds, float(self.group["lr"]))
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
