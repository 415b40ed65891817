"""How many tokens go through a language model at once."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

HELD = {"cpu": 2**26}  # bytes that a pass forward keeps for the one backward
ELSEWHERE = 2**32  # on an accelerator
SHARE = 1.0  # of the weights' bytes more: each pass casts them, and adds to the gradients of those that move
LONGER = 64  # tokens of the longer of the two texts that are measured; the other has half of them


def tokens_at_once(read: Callable[[Tensor], Tensor], model: nn.Module, context: int | None) -> int:
    """As many as memory is kept for, by what two short texts keep: more would only take more memory.

    read: ids [1, T] -> what is differentiated, hidden states of a policy or a reward.
    """
    long, weights = min(LONGER, context or LONGER), [*model.parameters()]
    device = weights[0].device
    held = HELD.get(device.type, ELSEWHERE) + SHARE * sum(p.nbytes for p in weights)
    texts = [torch.zeros(1, n, dtype=torch.long, device=device) for n in (long // 2, long)]
    few, many = (kept(read, text) for text in texts)
    return max(1, int(held * (long - long // 2) / max(many - few, 1)))


@torch.enable_grad()
def kept(read: Callable[[Tensor], Tensor], ids: Tensor) -> int:
    """Bytes that it keeps for its gradient, parameters included."""
    there: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        there[x.untyped_storage().data_ptr()] = x = x.detach()  # x itself would hold the graph that holds it, for ever
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        said = read(ids)
    del said
    return sum(x.untyped_storage().nbytes() for x in there.values())
