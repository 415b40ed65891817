"""What the twins can prove that they cover, whatever they compute with: layers, an optimiser, an objective. No numba here."""

import abc
import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from logpi.batch import Batch, Rows
from logpi.critic import V
from logpi.envs.cartpole import CARTPOLE
from logpi.envs.native import Native
from logpi.fast.program import NotCovered, Program, Reads, written
from logpi.policy import Policy
from logpi.policy.networks import Layers

WIDEST = 512  # of a layer that pays: beyond it torch's own products are as good
OVERRIDDEN = {"forward", "features", "params", "sample", "noise", "log_prob", "entropy", "kl"}
KINDS = (nn.Tanh, nn.ReLU)  # what may follow a layer
AGREE = 1e-3  # |a twin's - plain gradient| of a parameter over the plain one's length, in float32


class Covering(abc.ABC):
    """`reasons` says what is left to the plain path, each once; the caller tells and empties it."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.told: set[str] = set()
        self.agreed: set[tuple[str, bytes]] = set()  # programs whose first gradient was the plain one
        self.main: Any = None  # the machine of the policy, with its critic where they are fitted together
        self.fit: Any = None  # that of a critic with a fit of its own
        self.programs: dict[str, tuple[Program, Reads, Any]] = {}  # by what they move; the page that they are of

    def cover(self, make: Callable[[], Any]) -> Any:
        """What it makes, or None and the reason."""
        try:
            return make()
        except NotCovered as why:
            if str(why) not in self.told:
                self.told.add(str(why))
                self.reasons.append(str(why))
            return None

    @property
    def moves_policy(self) -> bool:
        """Does it move the policy, by a gradient or a natural step that agreed with the plain one?"""
        return self.main is not None and any(moves != "critic" for moves, _ in self.agreed)

    @abc.abstractmethod
    def ready(self, machine: Any) -> bool:
        """Is there one, of modules as they were made?"""

    @abc.abstractmethod
    def ascent(self, machine: Any, surrogate: Any, rows: Rows, *how: Any) -> Any:
        """One ascent, ready to run (`key`, `agrees`, `run`, `info`), or NotCovered."""

    @abc.abstractmethod
    def _columns(self, b: Batch, fields: tuple[str, ...]) -> Any:
        """The batch as the twins take it, with these fields."""

    @abc.abstractmethod
    def divergence(self, machine: Any, rows: Rows) -> float:
        """The mean KL(old || pi) of all rows."""

    def ascend(
        self,
        surrogate: Any,
        rows: Rows,
        optimizer: torch.optim.Optimizer,
        epochs: int = 1,
        minibatches: int = 1,
        max_grad_norm: float | None = None,
        kl: Any = None,
        target_kl: float | None = None,
        rescale: Any = None,
        refresh: Any = None,
    ) -> dict[str, float] | None:
        """`step.gradient.ascend`, or None where it is not covered."""
        machine = self.main if surrogate.moves == "policy" else self.fit
        if not self.ready(machine) or self.cover(lambda: as_it_is(rescale)) is None:
            return None
        ascent = self.cover(lambda: self.ascent(machine, surrogate, rows, optimizer, max_grad_norm))
        if ascent is None:
            return None
        if ascent.key not in self.agreed:
            if self.cover(lambda: ascent.agrees(minibatches)) is None:  # and it is not tried again
                self.main, self.fit = (None, self.fit) if machine is self.main else (self.main, None)
                return None
            self.agreed.add(ascent.key)
        if target_kl is None and refresh is None:
            ascent.run(0, epochs, minibatches)
            return ascent.info()
        for epoch in range(epochs):
            if epoch and refresh is not None:
                refresh()
                ascent.data = self._columns(rows.batch, ascent.fields).data
            ascent.run(epoch, 1, minibatches)
            if target_kl is not None and self.divergence(machine, rows) > target_kl:
                break
        return ascent.info()

    def program(self, surrogate: Any, b: Batch) -> Program:
        """Its objective, read again where the state it asked for has changed."""
        program, reads, page = self.programs.get(surrogate.moves, (None, None, None))
        state, own = getattr(surrogate, "state", {}), getattr(surrogate, "method", None)
        if program is None or reads is None or page is not own or not reads.still(state):
            asking = copy.copy(surrogate)
            asking.state = reads = Reads(state)
            program = written(asking.gain, b)
            self.programs[surrogate.moves] = program, reads, own
        return program


def as_it_is(rescale: Any) -> bool:
    """True; NotCovered, where each minibatch has a psi of its own."""
    if rescale is not None:
        raise NotCovered("its minibatches rescale psi, each by itself")
    return True


def apart(policy: Policy) -> bool:
    """True; NotCovered, where a critic's own fit would need the features of the policy's trunk."""
    if policy.shared:
        raise NotCovered("its critic reads the policy's trunk and has a fit of its own")
    return True


def layers(module: nn.Module) -> tuple[list[nn.Linear], list[type | None]]:
    """The linear layers of a plain stack, and what follows each."""
    if isinstance(module, nn.Sequential) and type(module).forward not in (nn.Sequential.forward, Layers.forward):
        raise NotCovered(f"its network is a {type(module).__name__}")
    linear: list[nn.Linear] = []
    kinds: list[type | None] = []
    for part in module if isinstance(module, nn.Sequential) else [module]:
        if type(part) is nn.Linear and part.bias is not None and part.out_features <= WIDEST:
            linear.append(part)
            kinds.append(None)
        elif type(part) in KINDS and kinds and kinds[-1] is None:
            kinds[-1] = type(part)
        else:
            raise NotCovered(f"its network has a layer {str(part)[:60]}")
    return linear, kinds


def untouched(modules: list[nn.Module]) -> bool:
    """True; NotCovered, where somebody put hooks or methods of his own on one of them, now or before."""
    for x in modules:
        if x._forward_hooks or x._forward_pre_hooks or x._backward_hooks:
            raise NotCovered(f"its {type(x).__name__} has hooks")
        if not OVERRIDDEN.isdisjoint(vars(x)):
            raise NotCovered(f"its {type(x).__name__} has a method of its own")
    return True


def stacks(policy: Policy | None, critic: nn.Module | None) -> list[Any]:
    """[(layers, kinds) of the policy's network, of the critic's]; a shared trunk carries both, a list, on its last layer."""
    if critic is not None and type(critic) is not V:
        raise NotCovered(f"its critic is a {type(critic).__name__}")
    for what, has in (("it has a memory", "memory"), ("it rules actions out", "mask")):
        if getattr(policy, has, None) is not None:
            raise NotCovered(what)
    if policy is not None and policy.seen is not None and policy.seen.of("picture"):
        raise NotCovered("it looks at pictures")
    own = layers(policy.network) if policy is not None else None
    other = layers(critic.network) if critic is not None else None
    if policy is None or own is None or not policy.shared:
        return [own, other]
    trunk = layers(policy.trunk)
    if len(own[0]) != 1 or (other is not None and len(other[0]) != 1):
        raise NotCovered("its trunk carries more than one layer each")
    return [([*trunk[0], own[0] + (other[0] if other else [])], [*trunk[1], None]), None]


def adam_of(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(its one group, its state for each parameter, made as torch makes it)."""
    group = optimizer.param_groups[0]
    plain = not (group.get("weight_decay") or group.get("amsgrad") or group.get("maximize"))
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) > 1 or not plain:
        raise NotCovered(f"its optimiser is {type(optimizer).__name__}")
    if {*map(id, group["params"])} != {*map(id, parameters)}:
        raise NotCovered("its optimiser moves other parameters")
    if any(not p.requires_grad or p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters):
        raise NotCovered("its parameters are frozen or have hooks")
    states = [optimizer.state[p] for p in parameters]
    for p, state in zip(parameters, states, strict=True):
        if not state:
            zero = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
            state.update({"step": torch.zeros((), dtype=torch.float32), **zero})
        if state["step"].dtype != torch.float32:
            raise NotCovered("its optimiser counts steps in another type than float32")
    return group, states


def minibatches(
    rows: Rows, average: Callable[[Tensor], Tensor], epochs: int, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """[(which of our actions, their weights)] of so many epochs, drawn as `Rows.shuffled` draws them."""
    orders = [rows.order(count) for _ in range(epochs)]
    parts = [part for order, sizes in orders for part in np.split(order.numpy(), np.cumsum(sizes)[:-1])]
    mask = rows.batch.mask
    if mask.dim() == 1:  # all of them ours: weights depend on numbers alone
        one = {size: average(mask[:size]).float().numpy() for size in {*map(len, parts)}}
        return [(part, one[len(part)]) for part in parts]
    slots = (mask.flatten().cumsum(0) - 1).reshape(mask.shape)
    chosen = [torch.from_numpy(part) for part in parts]
    return [(slots[x][mask[x]].numpy(), average(mask[x])[mask[x]].float().numpy()) for x in chosen]


def agree(value: float, grads: list[Tensor], surrogate: Any, rows: Rows, count: int, parameters: list[Tensor]) -> bool:
    """True; NotCovered, where the surrogate of the next minibatch or a gradient is not the plain path's. Nothing is drawn.

    Of each parameter by itself, or a critic's would hide the policy's; the value shows what has no gradient yet.
    """
    before, asking = rows.generator.get_state(), copy.copy(surrogate)  # it keeps the first ratio that it is asked for
    mini = next(iter(rows.shuffled(count)))
    rows.generator.set_state(before)
    parts = list(asking(mini))
    found = [torch.autograd.grad(part, parameters, materialize_grads=True) for part in parts]
    plain, exact = (
        float(sum(part.detach() for part in parts)),
        [torch.stack(x).sum(0) for x in zip(*found, strict=True)],
    )
    length = torch.stack(torch._foreach_norm(exact))
    off = torch.stack(torch._foreach_norm([x - y for x, y in zip(grads, exact, strict=True)]))
    total = float(length.norm())
    if not math.isfinite(plain + total):
        return True  # the ascent will say so
    if not bool((off <= AGREE * length + 1e-5 * total + 1e-6).all()):
        raise NotCovered(f"its gradient differs from the plain one by {float(off.norm()) / max(total, 1e-30):.1e}")
    if not abs(value - plain) <= AGREE * abs(plain) + 1e-4:
        raise NotCovered(f"its surrogate is {value:.6g}, the plain one {plain:.6g}")
    return True


def native(envs: Any) -> bool:
    """Can these environments be rolled whole?"""
    plain = type(envs) is Native and envs.task is CARTPOLE and envs.device == "cpu" and envs.dtype == torch.float32
    return plain and not {"step", "reset"} & vars(envs).keys()
