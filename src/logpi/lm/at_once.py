"""How many tokens go through a language model at once."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

HELD = {"cpu": 3 * 2**26}  # bytes that a pass forward keeps for the one backward, at most
ELSEWHERE = 2**32  # on an accelerator
LONGER = 64  # tokens of the longer of the two texts that are measured; the other has half of them


def tokens_at_once(policy: Any) -> int:
    """As many as `HELD` bytes are kept for, by what two short texts keep: more would only take more memory."""
    long = min(LONGER, policy.context or LONGER)
    short = long // 2
    each = (kept(policy, long) - kept(policy, short)) / (long - short)
    device = policy.head.project.weight.device.type
    return max(1, int(HELD.get(device, ELSEWHERE) / max(each, 1.0)))


@torch.enable_grad()
def kept(policy: Any, tokens: int) -> int:
    """Bytes that log pi of so many tokens keeps for its gradient, parameters included."""
    there: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        there[x.untyped_storage().data_ptr()] = x = x.detach()  # x itself would hold the graph that holds it, for ever
        return x

    ids = torch.zeros(1, tokens, dtype=torch.long, device=policy.head.project.weight.device)
    with saved_tensors_hooks(keep, lambda x: x):
        said = policy.head.log_prob(policy.hidden(ids)[0], ids[0])
    del said
    return sum(x.untyped_storage().nbytes() for x in there.values())
