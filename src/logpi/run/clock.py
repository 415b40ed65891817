"""A clock that is put around functions from outside: each part's own seconds, and the multiply-adds in them."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Clock:
    """Seconds and multiply-adds of each part."""

    def __init__(self, wait: Callable[[], Any] | None = None) -> None:
        """wait: for a device, wherever one part ends and another begins."""
        self.wait = wait
        self.spent: dict[str, float] = defaultdict(float)
        self.calls: Counter[tuple[str, str]] = Counter()  # (part, in which part)
        self.flops: Counter[str] = Counter()
        self.stack: list[str] = []
        self.mark = 0.0

    def turn(self) -> None:
        if self.wait is not None:
            self.wait()
        now = time.perf_counter()
        self.spent[self.stack[-1]] += now - self.mark
        self.mark = now

    def timed(self, part: str, plain: Callable[..., Any], inside: str) -> Callable[..., Any]:
        """The same, as this part wherever it is called in the part `inside`."""
        stack, calls = self.stack, self.calls

        def either(*args: Any, **kwargs: Any) -> Any:
            if not stack or stack[-1] != inside:
                return plain(*args, **kwargs)
            self.turn()
            stack.append(part)
            try:
                return plain(*args, **kwargs)
            finally:
                self.turn()
                calls[stack.pop(), inside] += 1

        return either

    def lap(self, task: Callable[[], Any], part: str = "rest") -> Any:
        """What the task gives; its time is this part's, but for what is timed in it."""
        self.stack.append(part)
        self.mark = time.perf_counter()
        try:
            return task()
        finally:
            self.turn()
            self.stack.clear()

    def own(self) -> dict[str, float]:
        """Seconds of each part without those of the clock."""
        inner, outer = cost(self.wait)
        found = dict(self.spent)
        for (part, inside), times in self.calls.items():
            found[part] -= times * inner
            found[inside] -= times * outer
        return {part: max(0.0, seconds) for part, seconds in found.items()}


def cost(wait: Callable[[], Any] | None, times: int = 20_000) -> tuple[float, float]:
    """Seconds that the clock adds to what it times, and to who calls that."""
    clock = Clock(wait)
    nothing = clock.timed("timed", lambda: None, "rest")
    clock.lap(lambda: [nothing() for _ in range(times)])
    return clock.spent["timed"] / times, clock.spent["rest"] / times


class Counted(TorchDispatchMode):
    """Adds the multiply-adds of products and convolutions to the part in which they are."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, count = kwargs or {}, flop_registry.get(func._overloadpacket)
        if count is None:
            with self:  # in inference mode a layer comes whole
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        out = func(*args, **kwargs)
        if count is not None:
            self.clock.flops[self.clock.stack[-1]] += count(*args, **kwargs, out_val=out) // 2
        return out
