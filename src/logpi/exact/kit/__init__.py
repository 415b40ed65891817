"""The test kit: what must hold of psi, objective, average, kl and step, each a check with a name of its own.

Expectations over every trajectory against linear solves, identities between estimators, and plain torch or dense
algebra beside what the library does; float64, to 1e-10. `failures()` says in a second whether this installation holds.
"""

from logpi.exact.kit import average, baseline, credit, expected, kl, natural, objective, step
from logpi.exact.kit.holds import CHECKS

__all__ = ["CHECKS", "average", "baseline", "credit", "expected", "failures", "kl", "natural", "objective", "step"]


def failures() -> dict[str, str]:
    """{name: what it said} of the checks that do not hold, whatever they raised."""
    found = {}
    for name, check in CHECKS.items():
        try:
            check()
        except Exception as wrong:
            found[name] = str(wrong) if isinstance(wrong, AssertionError) else f"{type(wrong).__name__}: {wrong}"
    return found
