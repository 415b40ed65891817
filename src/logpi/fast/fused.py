"""The fast twins of one run: rollouts, values, an ascent and its measurements, in fused kernels.

Each covers what it can prove that it covers: a plain stack of layers, a known head, Adam, an objective that is elementwise
in our actions and whose gradient of the first minibatch is the plain path's. Everything else stays on the plain path, and
the reason is told once.
"""

from typing import Any

from torch import Tensor, nn

from logpi.batch import Batch, Rows
from logpi.envs.base import InArrays
from logpi.fast import acting, stepping, survey
from logpi.fast.ascent import Ascent
from logpi.fast.cover import Covering, apart, native, untouched
from logpi.fast.machine import Columns, Machine
from logpi.fast.region import Region
from logpi.policy import Policy
from logpi.step.natural import to_border


class Fused(Covering):
    """The twins of one policy and its critic, `joint` where they are fitted together."""

    def __init__(self, policy: Policy, critic: nn.Module | None, joint: bool) -> None:
        super().__init__()
        self.twins: dict[str, Any] = survey.TWINS  # of functions that do not ask this object
        self.region: tuple[Batch, Region | None] | None = None  # of the newest batch
        self.columns: tuple[Batch, Columns] | None = None  # of the newest batch
        self.modules = [*policy.modules(), *(critic.modules() if critic is not None else ())]
        self.watched = [
            x for m in self.modules for x in (vars(m), m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
        ]
        self.touched = self.attributes()
        self.main = self.cover(lambda: untouched(self.modules) and Machine(policy, critic if joint else None))
        self.fit = (
            None if critic is None or joint else self.cover(lambda: apart(policy) and Machine(None, critic, self.main))
        )
        self.critic = self.main if joint else self.fit

    def ready(self, machine: Machine | None) -> bool:
        return self._untouched() and machine is not None

    def _untouched(self) -> bool:
        """False where somebody has put a function of theirs, or a hook, on one of the modules: it would not be called."""
        if self.touched == (now := self.attributes()):
            return True
        if self.cover(lambda: untouched(self.modules)):
            self.touched = now
            return True
        self.main = self.fit = self.critic = None
        return False

    def attributes(self) -> int:
        """How many attributes and hooks the modules have: more, once something was put on one."""
        return sum(map(len, self.watched))

    def collect(self, control: Any, policy: Policy, critic: nn.Module | None) -> Batch | None:
        """A whole batch of segments; None where it is not covered."""
        if (
            not self._untouched()
            or self.main is None
            or not native(control.envs)
            or (critic is not None and self.critic is None)
        ):
            return None
        return acting.collect(control, self.main, self.critic, policy)

    def roll(
        self, control: Any, policy: Policy, noise: Tensor | None, steps: int, going: Tensor | None, before: int
    ) -> tuple[Tensor, dict[str, Tensor]] | None:
        """(the next observations, what happened in so many steps [n, T, *]); None where it is not covered."""
        if not self._untouched() or self.main is None:
            return None
        if native(control.envs):
            assert noise is not None
            obs, told = acting.cartpole(self.main, control.envs, policy, noise, control.rows != "segments", going)
            del told["log_pi"]  # asked of the head, as everywhere
            return obs, told
        if not isinstance(control.envs, InArrays):
            return None
        return stepping.roll(self.main, control, policy, noise, steps, going, before)

    def value(self, obs: Tensor) -> Tensor | None:
        """V of normalised observations [..., D], as the critic is now."""
        return None if not self._untouched() or self.critic is None else survey.value(self.critic, obs)

    def ascent(self, machine: Machine, surrogate: Any, rows: Rows, *how: Any) -> Ascent:
        program = self.program(surrogate, rows.batch)
        return Ascent(machine, program, self._columns(rows.batch, program.data), surrogate, rows, *how)

    def divergence(self, machine: Machine, rows: Rows) -> float:
        return survey.report(machine, self._columns(rows.batch, ()), 0.0, 0.0)["kl"]

    def natural_direction(
        self, surrogate: Any, kl: Any, rows: Rows, params: list[Tensor], fisher: str, *how: Any
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """`step.natural.natural_direction`, or None where it is not covered."""
        region = self._region(surrogate, rows, params) if fisher == "head" else None
        if region is None:
            return None
        before, g = region.gradient()
        if not bool(g.isfinite().all() & before.isfinite()):
            return None  # the plain path says where it comes from
        return to_border(region.product, g, *how), g, before

    def look(self, surrogate: Any, kl: Any, rows: Rows, side: str) -> tuple[Tensor, Tensor] | None:
        """`step.natural.look`, or None where it is not covered."""
        region = self._region(surrogate, rows, None if self.main is None else self.main.parameters)
        return None if region is None else region.gauge(side)

    def _region(self, surrogate: Any, rows: Rows, params: Any) -> Region | None:
        """Made once for a batch. Its gradient and its product have to be the plain path's the first time."""
        if not self._untouched() or self.main is None:
            return None
        if self.region is None or self.region[0] is not rows.batch:
            region = self.cover(lambda: self._whole(surrogate, rows, params))
            if region is not None and (key := ("natural", region.loaded.ints.tobytes())) not in self.agreed:
                if self.cover(lambda: region.agrees(surrogate, rows, params)) is None:
                    self.main = None
                    return None
                self.agreed.add(key)
            self.region = rows.batch, region
        return self.region[1]

    def _whole(self, surrogate: Any, rows: Rows, params: Any) -> Region:
        program = self.program(surrogate, rows.batch)
        return Region(self.main, program, self._columns(rows.batch, program.data), surrogate, rows, params)

    def _columns(self, b: Batch, fields: tuple[str, ...]) -> Columns:
        """The batch as the kernels take it, with these fields; made once."""
        if self.columns is None or self.columns[0] is not b or not {*fields} <= {*self.columns[1].fields}:
            measured = tuple(x for x in ("value", "target") if getattr(b, x) is not None)
            machine = self.main or self.fit
            assert machine is not None
            self.columns = b, Columns(machine, b, tuple(dict.fromkeys(("log_pi", *measured, *fields))))
        return self.columns[1]

    def measure(self, rows: Rows, low: float, high: float) -> dict[str, float] | None:
        """`loop.measure` of all rows: KL, clip fraction, entropy, and the critic's explained variance."""
        if not self._untouched() or self.main is None or rows.batch.q is not None:
            return None
        return survey.report(self.main, self._columns(rows.batch, ()), low, high)
