"""A policy, a critic, or both, laid out for the fused kernels; and the data rows of a batch for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from logpi.batch import Batch
from logpi.fast import heads, network, passes, tape, update, warm
from logpi.fast.compiled import compile_whole
from logpi.fast.cover import stacks
from logpi.fast.heads import BETA, BLOCK, CATEGORICAL, GAUSSIAN, SQUASHED
from logpi.fast.program import ANSWERS, NotCovered, Program
from logpi.policy import Policy
from logpi.policy.beta import Beta
from logpi.policy.categorical import Categorical
from logpi.policy.gaussian import Gaussian, SquashedGaussian

HEADS = {Categorical: CATEGORICAL, Gaussian: GAUSSIAN, SquashedGaussian: SQUASHED, Beta: BETA}
KINDS = {None: network.LINEAR, nn.Tanh: network.TANH, nn.ReLU: network.RELU}
COUNTING = np.arange(BLOCK)


class Machine:
    """One set of parameters that moves together: the floats `x`, and the integers `plan` that say where they lie.

    `parameters` are torch's own: a kernel reads them at its start and writes them at its end.
    """

    _loaded: tuple[Any, "Loaded"] | None = None
    _weights: Any = None
    laid = 0  # parameters that have their place

    def __init__(self, policy: Policy | None, critic: nn.Module | None, beside: "Machine | None" = None) -> None:
        """beside: whose data rows it shares."""
        places, plan = network.Places(), np.zeros(update.HEADER, np.int64)
        stacked = stacks(policy, critic)
        self.inputs = listed(next(x for x in stacked if x)[0][0])[0].in_features
        head, self.outputs, self.params, self.actions, box = head_of(policy)
        if beside is not None:
            self.params, self.actions = beside.params, beside.actions
        log_std = getattr(policy.head, "log_std", None) if policy is not None else None
        owned = [p for stack in stacked if stack for g in stack[0] for x in listed(g) for p in (x.weight, x.bias)]
        size = sum(p.numel() for p in owned) + (0 if log_std is None else log_std.numel())
        theta, grad, m, v = (places.take(size + network.PAD) for _ in range(4))  # a tile reads beyond the last row
        ld = network.pad(self.inputs)
        plan[[update.X, update.LD_X]] = places.take((BLOCK + 8) * ld), ld
        plan[[update.THETA, update.GRAD, update.M, update.V, update.SIZE]] = theta, grad, m, v, size
        self.pieces: list[tuple[Tensor, int]] = []  # a parameter, where it begins in theta
        nets = [self.lay(stack, places, theta, grad) for stack in stacked]
        plan[update.LOG_STD], spread = theta + self.laid, 0 if log_std is None else log_std.numel()
        if log_std is not None:
            self.put(log_std)
        room = 2 * (self.params + 2) * BLOCK if head == CATEGORICAL else 0
        know = places.take(spread + len(box) + room)
        plan[[update.HEAD, update.N_LOG_STD, update.KNOW, update.KNOWN]] = head, spread, know, spread + len(box)
        plan[[update.ACTION, update.OLD]] = places.take(BLOCK * self.actions), places.take(BLOCK * self.params)
        plan[[update.N_OBS, update.N_ACTION, update.N_OLD]] = self.inputs, self.actions, self.params
        plan[[update.POLICY, update.POLICY_DEPTH]] = update.HEADER, len(nets[0])
        plan[[update.CRITIC, update.CRITIC_DEPTH]] = update.HEADER + nets[0].size, len(nets[1])
        plan[update.VALUE_H] = -1
        if critic is not None:
            last, column = (nets[1][-1], 0) if len(nets[1]) else (nets[0][-1], self.outputs)
            plan[[update.VALUE_H, update.VALUE_D]] = last[network.H] + column, last[network.D] + column
            plan[update.VALUE_LD] = last[network.LD_OUT]
        self.plan = np.concatenate([plan, nets[0].ravel(), nets[1].ravel()])
        self.x = aligned(places.size + network.PAD)
        self.x[know + spread : know + spread + len(box)] = box
        self.grad = self.x[grad : grad + size]
        self.parameters = [p for p, _ in self.pieces]
        self.places = np.array([[begin, p.numel()] for p, begin in self.pieces])
        self.plan[[update.REFRESH, update.FORWARD]] = update.renew.address, network.forward.address
        self.here = address(self.plan), address(self.x)
        self.pieces_at = address(self.places), len(self.places)

    def lay(self, stack: Any, places: network.Places, theta: int, grad: int) -> np.ndarray:
        """The table of one network; layers side by side share their rows."""
        if stack is None:
            return np.zeros((0, network.COLUMNS), np.int64)
        groups = [listed(x) for x in stack[0]]
        sizes = [groups[0][0].in_features, *(sum(x.out_features for x in g) for g in groups)]
        net = network.table(sizes, [KINDS[x] for x in stack[1]], places, BLOCK, theta + self.laid, grad + self.laid)
        for group in groups:
            for part in ("weight", "bias"):
                for layer in group:
                    self.put(getattr(layer, part))
        return net

    def put(self, parameter: Tensor) -> None:
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu" or not parameter.is_contiguous():
            raise NotCovered(f"its parameters are {parameter.dtype} on {parameter.device}")
        self.pieces.append((parameter, self.laid))
        self.laid += parameter.numel()

    def own(self, tensors: np.ndarray) -> tuple[int, ...]:
        """What the kernels begin with: the machine, and torch's `tensors` that it stands for."""
        return *self.here, address(tensors), *self.pieces_at

    def answers(self) -> None:
        """For measurements: what the head says."""
        if self.plan[update.POLICY_DEPTH] and not self.plan[update.ANSWER]:
            self.plan[update.ANSWER] = heads.SAYS[self.plan[update.HEAD]][0].address

    def link(self) -> None:
        """For updates: what they call, which another process may still be compiling; what it leaves out is compiled meanwhile."""
        if self.plan[update.BACKWARD]:
            return
        if warm.at_work():
            compile_whole(passes.report)
            warm.wait()
        self.answers()
        if self.plan[update.POLICY_DEPTH]:
            self.plan[update.PULL] = heads.SAYS[self.plan[update.HEAD]][1].address
        self.plan[[update.EVALUATE, update.DIFFERENTIATE]] = tape.evaluate.address, tape.differentiate.address
        self.plan[update.BACKWARD] = network.backward.address

    def tensors(self, *kept: list[Tensor]) -> np.ndarray:
        """Where the parameters, and what an optimiser keeps for each, lie."""
        return np.array([x.data_ptr() for group in (self.parameters, *kept) for x in group])

    def loaded(self, program: Program, fields: tuple[str, ...]) -> "Loaded":
        """The program in its registers, made once for each."""
        key = (program.tape.tobytes(), program.constants.tobytes(), program.data, fields)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = key, Loaded(program, fields)
        return self._loaded[1]

    def weights(
        self, average: Callable[[Tensor], Tensor], mask: Tensor, sizes: list[int], epochs: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(the weight of each row in its minibatch, where minibatches begin), of rows that are all ours; made once."""
        key = (*sizes, epochs)
        if self._weights is None or self._weights[0] != key:
            one = np.concatenate([average(mask[:size]).float().numpy() for size in sizes])
            self._weights = key, np.tile(one, epochs), np.cumsum([0, *sizes * epochs])
        return self._weights[1:]


class Columns:
    """A batch's actions as the kernels take them: `data` [M, observation | action | parameters | fields]."""

    def __init__(self, machine: Machine, b: Batch, fields: tuple[str, ...]) -> None:
        self.fields = fields
        record = [b.obs, b.action, b.params] if machine.plan[update.POLICY_DEPTH] else [b.obs]
        parts = [b.ours(x) for x in (*record, *(getattr(b, name) for name in fields))]
        rows = len(parts[0])
        at, places, kept = 0, [], []
        for i, x in enumerate(parts):
            x = x if x.dtype == torch.float32 or x.dtype == torch.long else x.float()
            kept.append(x := x.contiguous())
            width = x.numel() // rows
            places += [x.data_ptr(), x.dtype == torch.long, width, at]
            at += width if i or len(record) > 1 else width + machine.actions + machine.params
        self.data = np.zeros((rows, at), np.float32) if len(record) == 1 else np.empty((rows, at), np.float32)
        where = np.array(places)
        passes.pack(address(where), len(parts), address(self.data), rows, at)


def address(x: np.ndarray) -> int:
    """Of an array that outlives the call."""
    return x.__array_interface__["data"][0]


def aligned(n: int) -> np.ndarray:
    """n zeros that begin with a cache line: vectors of a line's length, read across two, take twice as long."""
    x = np.zeros(n + 16, np.float32)
    begin = -address(x) % 64 // 4
    return x[begin : begin + n]


def listed(x: Any) -> list[Any]:
    return x if isinstance(x, list) else [x]


def head_of(policy: Policy | None) -> tuple[int, int, int, int, np.ndarray]:
    """(kind, network outputs, numbers in a parameter record, in an action, what the head knows of its Box)."""
    nothing = np.zeros(0, np.float32)
    if policy is None:
        return CATEGORICAL, 0, 1, 1, nothing
    head: Any = policy.head
    if type(head) not in HEADS:
        raise NotCovered(f"its head is a {type(head).__name__}")
    if isinstance(head, Categorical):
        return CATEGORICAL, head.outputs, head.outputs, 1, nothing
    d = head.action_shape[0]
    if getattr(head, "log_std", d) is None:
        raise NotCovered("its log-std depends on the state")
    if type(head) is Gaussian:
        return GAUSSIAN, d, 2 * d, d, nothing
    width = (head.high - head.low).float().log().numpy()
    return (
        (BETA, 2 * d, 2 * d, d, width)
        if isinstance(head, Beta)
        else (SQUASHED, d, 2 * d, d, width - np.float32(np.log(2)))
    )


class Loaded:
    """A program in its registers: answers, columns of data, constants, results; slopes behind them."""

    def __init__(self, program: Program, fields: tuple[str, ...]) -> None:
        begin = len(ANSWERS)
        constants = begin + len(fields)
        first, count = constants + len(program.constants), len(program.tape)
        moved = np.concatenate(
            [
                np.arange(begin),
                [begin + fields.index(x) for x in program.data],
                constants + np.arange(first - constants + count),
            ]
        ).astype(np.int64)
        lines = np.zeros((count, tape.LINE), np.int64)
        lines[:, 0], lines[:, 1:4] = program.tape[:, 0], moved[program.tape[:, 1:]]
        lines[:, 4] = program.live[program.first :]
        kl = bool(program.asked & {"kl_old", "kl_new"})
        self.ints = np.concatenate([[len(fields), count, first, kl], lines.ravel()])
        self.registers = np.zeros((2 * (first + count), BLOCK), np.float32)
        self.registers[constants:first] = program.constants[:, None]
        self.here = address(self.ints), address(self.registers)
