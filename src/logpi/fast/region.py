"""What a natural step asks of a whole batch, in fused kernels: the gradient, Fisher products, and trial points."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from logpi.batch import Rows
from logpi.fast import curvature, update
from logpi.fast.cover import AGREE
from logpi.fast.machine import COUNTING, Columns, Machine, address
from logpi.fast.program import NotCovered, Program
from logpi.now import Divergence
from logpi.step.natural import flat, gradient, like


class Region:
    """All rows of a batch under one surrogate; flat vectors are in the order of `params`."""

    def __init__(
        self, machine: Machine, program: Program, columns: Columns, surrogate: Any, rows: Rows, params: list[Tensor]
    ) -> None:
        places = {id(p): (at, p.numel()) for p, at in machine.pieces}
        if [*places] != [*map(id, params)] and {*places} != {*map(id, params)}:
            raise NotCovered("its natural step moves other parameters")
        if any(not p.requires_grad or p._backward_hooks for p in params):
            raise NotCovered("its parameters are frozen or have hooks")
        machine.link()
        self.machine, self.loaded, self.data = machine, machine.loaded(program, columns.fields), columns.data
        self.order = np.concatenate([np.arange(at, at + n) for at, n in (places[id(p)] for p in params)])
        self.surrogate, mask = surrogate, rows.batch.mask
        self.weight = surrogate.average(mask)[mask].float().numpy()
        self.fields = len(columns.fields)

    def arrays(self) -> tuple[int, ...]:
        """The addresses that every kernel begins with, and how many tensors there are."""
        m, self.tensors = self.machine, self.machine.tensors()
        return (*m.here, *self.loaded.here, address(self.tensors), *m.pieces_at)

    def gradient(self) -> tuple[Tensor, Tensor]:
        """(the surrogate, its gradient)."""
        m, n = self.machine, len(self.data)
        index, bounds, found = np.arange(n), np.array([0, n]), np.zeros(5)
        tensors = m.tensors(m.parameters, m.parameters)  # nothing is moved
        more = (self.data, index, self.weight, bounds)
        update.ascend(
            *m.here, *self.loaded.here, address(tensors), *m.pieces_at, *map(address, more), 1,
            0.0, -1.0, 0.9, 0.999, 1e-8, np.inf, address(found),
        )  # fmt: skip
        if self.surrogate.first_ratio is None:
            self.surrogate.first_ratio = float(torch.tensor(found[4]).expm1())
        return torch.tensor(found[2], dtype=torch.float32), self.flat()

    def agrees(self, surrogate: Any, rows: Rows, params: list[Tensor]) -> bool:
        """True; NotCovered, where gradient or Fisher product are not the plain path's."""
        before = surrogate.first_ratio
        plain = gradient(surrogate(rows.batch), params)
        kl = Divergence(surrogate.policy, rows)
        v = plain / plain.norm().clamp(min=1e-12)
        curved: Any = sum(flat(x) for x in kl.fisher(rows.batch, like(v, params)))
        pairs = {"gradient": (self.gradient()[1], plain), "Fisher product": (self.product(v), curved)}
        for what, (found, true) in pairs.items():
            off, length = float((found - true).norm()), float(true.norm())
            if np.isfinite(length) and not off <= AGREE * length + 1e-6:
                raise NotCovered(f"its {what} differs from the plain one by {off / max(length, 1e-30):.1e}")
        surrogate.first_ratio = before  # is measured in what is done, not in what was tried
        return True

    def flat(self) -> Tensor:
        """What stands in the machine's gradient."""
        return torch.from_numpy(self.machine.grad[self.order])

    def product(self, v: Tensor) -> Tensor:
        """F v."""
        plan, x, _, registers, tensors, places, count = self.arrays()
        along = np.zeros(len(v) + 16, np.float32)  # a tile reads beyond the last row
        along[self.order] = v.numpy()
        n = len(self.data)
        data, row = address(self.data), address(COUNTING)
        curvature.fisher(plan, x, registers, tensors, places, count, data, row, n, self.fields, address(along))
        return self.flat()

    def gauge(self, side: str) -> tuple[Tensor, Tensor]:
        """(the surrogate, the mean KL) where the parameters are now."""
        found, n = np.zeros(3), len(self.data)
        more = (self.data, COUNTING, self.weight)
        curvature.gauge(*self.arrays(), *map(address, more), n, address(found))
        value, divergence = found[0], found[1 if side == "old_new" else 2] / n
        return torch.tensor(value, dtype=torch.float32), torch.tensor(divergence, dtype=torch.float32)
