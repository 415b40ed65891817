"""How the surrogate is raised: a gradient step, a natural step, a trust region."""

from logpi.step import gradient, natural

__all__ = ["gradient", "natural"]
