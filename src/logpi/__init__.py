"""logpi: every policy-gradient method in one tested definition.

theta <- step( average over actions of objective( log pi_theta(a|s), Psi ) )

Nothing heavy is imported until a name below is used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = (
    "average",
    "batch",
    "critic",
    "envs",
    "kl",
    "loop",
    "methods",
    "now",
    "objective",
    "page",
    "policy",
    "psi",
    "rollout",
    "run",
    "step",
)
_NAMES = {
    "METHODS": "logpi.methods",
    "learn": "logpi.run.setup",
    "load": "logpi.run.load",
    "recipe": "logpi.run.recipes",
    "resume": "logpi.run.resume",
    "Batch": "logpi.batch",
    "LogpiError": "logpi.errors",
}
__all__ = [
    "METHODS",
    "Batch",
    "LogpiError",
    "average",
    "kl",
    "learn",
    "load",
    "objective",
    "psi",
    "recipe",
    "resume",
    "step",
]


def __dir__() -> list[str]:
    return [*globals(), *_NAMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    if name in _ROOMS:
        return import_module(f"logpi.{name}")
    raise AttributeError(f"module 'logpi' has no attribute {name!r}")
