"""The models beside a language policy: what V reads, and the reference policy."""

import copy
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from logpi.critic import V
from logpi.errors import LogpiError
from logpi.lm.after import After
from logpi.page import option
from logpi.policy.networks import orthogonal
from logpi.policy.tokens import Tokens, Vocabulary

if TYPE_CHECKING:
    from logpi.run.language import Text


def critic_for(method: Any, settings: "Text", policy: Tokens, seed: int) -> nn.Module | None:
    """The critic: a line, which says 0 at first, on the model's hidden states or on those of a model of its own."""
    where = settings.value_model
    if method.critic is None:
        if where:
            raise LogpiError(
                f"{type(method).__name__} has no critic, so --value-model means nothing: ppo, a2c and trpo have one."
            )
        return None
    if method.critic != "v":
        raise LogpiError(f"A language model has a critic V or none, not {method.critic!r}: --credit td, nstep or gae.")
    reads = another(settings, policy, None if where == "copy" else where, True) if where else policy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        like = policy.head.project.weight
        line = orthogonal(nn.Linear(reads.width, 1), 1e-3).to(like.device, like.dtype)
    if reads is policy:
        return V(line)
    policy.shared = False
    reads.model.set_output_embeddings(line)  # type: ignore[operator]
    reads.head = Vocabulary(line, 1.0, After())  # V is no logit: what the model does to those is left out
    return V(reads)


def another(settings: "Text", policy: Tokens, where: str | None, headless: bool = False) -> Tokens:
    """A model beside the policy, of the same tokens: that of a folder or of the hub; None: a copy of the policy."""
    if where is None:
        return copy.deepcopy(policy)
    from logpi.lm import pretrained

    model, tokenizer = pretrained.load(where, headless=headless)
    if tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise LogpiError(f"{where} has other tokens than the model: give one of its family.")
    like = policy.head.project.weight
    found = Tokens(model.eval(), tokenizer, settings.temperature, settings.bf16)
    found.fast = policy.fast
    found.place(like.device, like.dtype)
    if found.context and found.context < (policy.context or found.context + 1):
        warnings.warn(f"{where} reads {found.context} tokens: that is the model's context in this run.", stacklevel=2)
        policy.context = found.context
    return found


def reference_policy(method: Any, settings: "Text", policy: Tokens) -> Any:
    """pi_ref, frozen, for a page that asks for one."""
    if not option(method, "reference"):
        if settings.reference:
            raise LogpiError(
                f"{type(method).__name__} has no KL to a reference policy: ppo, grpo and rloo with --kl above 0 do."
            )
        return None
    if settings.reference is None and policy.adapter is not None:
        from logpi.lm.lora import Without

        return Without(policy)
    return another(settings, policy, settings.reference).requires_grad_(False)
