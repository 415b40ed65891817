"""Networks in NumPy, forward and back. The rows of a batch are the last axis everywhere.

A layer is one matrix [out, in + 1] with the bias in its last column, on activations [in + 1, n] whose last row is 1: a
product does both, and so does that of the gradient. The calls of a pass over n rows are bound to its arrays once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from logpi.batch import Batch
from logpi.fast.arrays_math import Normal, Softmax
from logpi.fast.cover import stacks
from logpi.fast.program import NotCovered
from logpi.policy import Policy
from logpi.policy.categorical import Categorical
from logpi.policy.gaussian import Gaussian

HEADS: dict[type, Any] = {Categorical: Softmax, Gaussian: Normal}
WIDTHS = 8  # numbers of rows whose passes are kept
Call = Callable[[], Any]
SMALL = (
    2**17
)  # multiplications; above it NumPy's products may start threads of their own, torch's only those it was given


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Call:
    """out = a b, bound."""
    if a.shape[0] * a.shape[1] * b.shape[1] <= SMALL:
        return partial(np.dot, a, b, out=out)
    return partial(torch.mm, torch.from_numpy(a), torch.from_numpy(b), out=torch.from_numpy(out))


def activation(kind: type, x: np.ndarray) -> Call:
    """x <- tanh x, or x where it is positive."""
    return partial(np.tanh, x, x) if kind is nn.Tanh else partial(np.maximum, x, np.float32(0), out=x)


def flattened(kind: type, y: np.ndarray, d: np.ndarray) -> list[Call]:
    """d <- d times the slope of an activation whose value is y."""
    slope = np.empty_like(y)
    if kind is nn.Tanh:
        steps = [partial(np.multiply, y, y, slope), partial(np.subtract, np.float32(1), slope, slope)]
    else:
        steps = [partial(np.greater, y, np.float32(0), slope)]
    return [*steps, partial(np.multiply, d, slope, d)]


class Pass:
    """n rows through a stack of layers: `x` [in + 1, n] -> `out`; the slopes `d` of out -> the layers' gradients."""

    def __init__(
        self, weights: list[np.ndarray], grads: list[np.ndarray], kinds: list[type | None], x: np.ndarray
    ) -> None:
        self.up, self.down = list[Call](), list[Call]()
        n, values, slopes = x.shape[1], [x], list[np.ndarray]()
        for w, kind in zip(weights, kinds, strict=True):
            y = torch.ones(len(w) + 1, n).numpy()  # torch's memory begins at 64 bytes: products round by that, too
            self.up.append(product(w, values[-1], y[:-1]))
            if kind is not None:
                self.up.append(activation(kind, y[:-1]))
            values.append(y)
            slopes.append(torch.zeros(len(w), n).numpy())
        self.x, self.out, self.d = x, values[-1][:-1], slopes[-1]
        for k in reversed(range(len(weights))):
            self.down.append(product(slopes[k], values[k].T, grads[k]))
            if k:
                self.down.append(product(weights[k][:, :-1].T, slopes[k], slopes[k - 1]))
                kind = kinds[k - 1]
                self.down += flattened(kind, values[k][:-1], slopes[k - 1]) if kind is not None else []

    def forward(self) -> np.ndarray:
        for call in self.up:
            call()
        return self.out

    def backward(self) -> None:
        for call in self.down:
            call()


class Machine:
    """One set of parameters that moves together, in `flat` [4, size]: themselves, their gradient, Adam's two moments.

    `parameters` are torch's own, fetched at the start of what uses them and given back at its end. `head` is None for a
    critic by itself.
    """

    def __init__(self, policy: Policy | None, critic: nn.Module | None) -> None:
        if policy is not None and type(policy.head) not in HEADS:
            raise NotCovered(f"its head is a {type(policy.head).__name__}")
        if policy is not None and getattr(policy.head, "log_std", 0) is None:
            raise NotCovered("its log-std depends on the state")
        self.modules = [part for x in (policy, critic) if x is not None for part in x.modules()]
        self.head = None if policy is None else HEADS[type(policy.head)](policy.head)
        self.values = critic is not None
        self.log_std: Any = None if policy is None else getattr(policy.head, "log_std", None)
        self.nets = [(self._groups(stack[0]), stack[1]) for stack in stacks(policy, critic) if stack]
        self.inputs = self.nets[0][0][0][0].in_features
        self.parameters = [p for groups, _ in self.nets for g in groups for x in g for p in (x.weight, x.bias)]
        self.parameters += [] if self.log_std is None else [self.log_std]
        if any(p.dtype != torch.float32 or p.device.type != "cpu" for p in self.parameters):
            raise NotCovered(f"its parameters are {self.parameters[0].dtype} on {self.parameters[0].device}")
        if len({*map(id, self.parameters)}) < len(self.parameters):
            raise NotCovered("its parameters are tied")
        self.flat = torch.zeros(4, sum(p.numel() for p in self.parameters)).numpy()
        self.cuts = [self._cut(row) for row in self.flat]
        self.passes: dict[int, list[Pass]] = {}
        self.record = (0, 0) if self.head is None else (self.head.actions, self.head.params)  # widths in a data row

    def _groups(self, linear: list[Any]) -> list[list[nn.Linear]]:
        return [x if isinstance(x, list) else [x] for x in linear]

    def _cut(self, row: np.ndarray) -> tuple[list[list[np.ndarray]], list[np.ndarray]]:
        """(the layers' matrices of each network, what belongs to each of `parameters`), views of a flat vector."""
        at, nets, pieces = 0, [], []
        for groups, _ in self.nets:
            nets.append(list[np.ndarray]())
            for group in groups:
                sides, width = [x.out_features for x in group], group[0].in_features + 1
                nets[-1].append(row[at : at + sum(sides) * width].reshape(-1, width))
                at += nets[-1][-1].size
                for block in np.split(nets[-1][-1], np.cumsum(sides)[:-1]):
                    pieces += [block[:, :-1], block[:, -1]]
        return nets, pieces + ([] if self.log_std is None else [row[at:]])

    def fetch(self, k: int, tensors: list[Tensor]) -> None:
        """Row k of `flat` from what torch keeps for each parameter."""
        for piece, x in zip(self.cuts[k][1], tensors, strict=True):
            piece[...] = x.detach().numpy()

    def give(self, k: int, tensors: list[Tensor]) -> None:
        for piece, x in zip(self.cuts[k][1], tensors, strict=True):
            x.detach().numpy()[...] = piece

    def grads(self) -> list[Tensor]:
        """The gradient of each parameter."""
        return [torch.from_numpy(np.ascontiguousarray(x)) for x in self.cuts[1][1]]

    def at(self, n: int) -> list[Pass]:
        """The networks for n rows; they read the same observations."""
        if n not in self.passes:
            if len(self.passes) == WIDTHS:
                self.passes.clear()
            x = torch.ones(self.inputs + 1, n).numpy()
            matrices = zip(self.cuts[0][0], self.cuts[1][0], self.nets, strict=True)
            self.passes[n] = [Pass(w, g, kinds, x) for w, g, (_, kinds) in matrices]
        return self.passes[n]

    def said(self, data: np.ndarray, asked: Any) -> dict[str, np.ndarray]:
        """What policy and critic say of data rows, columns of `data` [row, n]: log pi, and what is asked."""
        n, (actions, params) = data.shape[1], self.record
        nets, said = self.at(n), dict[str, np.ndarray]()
        nets[0].x[:-1] = data[: self.inputs]
        for net in nets:
            net.forward()
        if self.head is not None:
            first, last = self.inputs + actions, self.inputs + actions + params
            action, old = data[self.inputs : first], data[first:last]
            log_std = None if self.log_std is None else self.cuts[0][1][-1][:, None]
            said = self.head.say(nets[0].out[: self.head.outputs], log_std, action, old, asked)
        return said | {"value": nets[-1].out[-1]} if self.values else said

    def value(self, obs: np.ndarray) -> np.ndarray:
        """V of observations [D, n]."""
        net = self.at(obs.shape[1])[-1]
        net.x[:-1] = obs
        return net.forward()[-1]

    def pull(self, slopes: dict[str, np.ndarray], n: int) -> None:
        """The gradient, row 1 of `flat`, from the slopes of what was said last."""
        nets = self.at(n)
        if self.values:
            nets[-1].d[-1] = slopes.get("value", 0)
        if self.head is not None:
            spread = () if self.log_std is None else (self.cuts[1][1][-1][:, None],)
            self.head.pull(slopes, nets[0].d[: self.head.outputs], *spread)
        for net in nets:
            net.backward()


class Columns:
    """A batch's actions: `data` [observation | action | parameters | fields, M], and the fields' names."""

    def __init__(self, b: Batch, fields: tuple[str, ...]) -> None:
        self.fields = fields
        parts = [b.ours(x) for x in (b.obs, b.action, b.params, *(getattr(b, name) for name in fields))]
        self.data = np.concatenate([x.float().reshape(len(x), -1).numpy().T for x in parts])
