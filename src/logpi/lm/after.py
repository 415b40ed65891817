"""What a causal LM makes of its logits behind the projection: nothing, a scale (Granite, Cohere), or a soft cap (Gemma).

logpi computes logits itself, a chunk at a time, and does the same to them; a model that does something else is refused.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from logpi.errors import LogpiError

FACTORS, DIVISORS = ("logit_scale", "lm_head_multiplier"), ("logits_scaling",)  # names in a model's config
CAPS = ("final_logit_softcapping", "logits_soft_cap")
WIDE = 50.0  # caps are about 30


@dataclass(frozen=True)
class After:
    """logits -> cap tanh(factor logits / cap), element by element; without a cap factor logits."""

    factor: float = 1.0
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        logits = logits if self.factor == 1.0 else logits * self.factor
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def after(model: Any) -> After:
    """What a model does, seen by putting other logits in its projection's place: a name in its config may mean nothing."""
    project, ids = model.get_output_embeddings(), torch.tensor([[0, 1]], device=model.device)
    shown = torch.linspace(-WIDE, WIDE, len(project.weight), dtype=project.weight.dtype, device=ids.device)
    projected: list[Tensor] = []

    def instead(_: Any, given: tuple[Tensor], said: Tensor) -> Tensor:
        projected.append(given[0])
        return shown.expand_as(said)

    with torch.no_grad():
        with project.register_forward_hook(instead):
            said = model(input_ids=ids).logits[0, -1]
        hidden = model.get_decoder()(input_ids=ids).last_hidden_state
    if len(projected) == 1 and near(projected[0], hidden):
        for change in claimed(model.config.get_text_config()):
            if near(change(shown), said):
                return change
    raise LogpiError(
        f"{type(model).__name__} changes its logits behind the projection, or what it projects, in a way that logpi does not"
        " know: use another model."
    )


def claimed(config: Any) -> list[After]:
    """Whatever the names in a config may mean, nothing first."""
    factors = [1.0, *numbers(config, FACTORS), *(1 / x for x in numbers(config, DIVISORS))]
    return [After(*x) for x in product(factors, [None, *numbers(config, CAPS)])]


def numbers(config: Any, names: tuple[str, ...]) -> list[float]:
    found = [getattr(config, name, None) for name in names]
    return [float(x) for x in found if isinstance(x, int | float) and x]


def near(a: Tensor, b: Tensor) -> bool:
    """Equal, but for the rounding of the type that a model computes in."""
    loose = 16 * torch.finfo(a.dtype).eps
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=loose, atol=loose)
