"""Rows of a batch as one line of tokens: no padding, and a prompt that rows share stands there once.

All layers but attention read a token by itself; which of them it may look at is told to attention alone (fast/attention.py).
The plain twin is `policy.hidden` of rows side by side, each padded to the longest.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from logpi.fast import attention
from logpi.packing import alike, prompts_of

FEW = 128  # slots of a group, beyond which a shorter text begins another: each is some operations more in every layer


@dataclass
class Text:
    """Tokens of a row: all of them, the prompt that it shares, or what is said after that."""

    row: int
    begin: int
    end: int
    after: "Text | None" = None  # the prompt that it goes on from
    at: int = 0  # where it stands in the line

    def __len__(self) -> int:
        return self.end - self.begin

    @property
    def hears(self) -> int:
        """Tokens that its last one may look at."""
        return len(self) + (len(self.after) if self.after else 0)


@dataclass(frozen=True)
class Group:
    """Texts of about one length, which attend side by side; numbers are of tokens in the line."""

    own: Tensor  # [n, T]
    begin: int | None  # of the first, where all have one length: then they follow each other
    before: Tensor | None  # [n, K], of the prompts that they go on from
    sees: Tensor | None  # [n, 1, T, K + T] bool; None: all that stands before

    def asks(self, x: Tensor) -> Tensor:
        """What is said of their own tokens, [N, heads, size] -> [n, heads, T, size]."""
        own = _at(x, self.own) if self.begin is None else x[self.begin : self.begin + self.own.numel()]
        return own.unflatten(0, self.own.shape).transpose(1, 2)

    def hears(self, x: Tensor) -> Tensor:
        """What is said of all that they may look at, [N, heads, size] -> [n, heads, K + T, size]."""
        if self.before is None:
            return self.asks(x)
        before = _at(x, self.before).unflatten(0, self.before.shape).transpose(1, 2)
        return torch.cat([before, self.asks(x)], 2)


@dataclass(frozen=True)
class Line:
    token: Tensor  # [N]
    position: Tensor  # [N]  in its row
    ours: Tensor  # [M]  where the batch's own actions stand, row by row
    groups: list[Group]  # of the texts in their order
    back: Tensor | None  # [N]  which slot of the groups a token has; None: they have no others


def hidden(policy: Any, obs: Tensor, mask: Tensor) -> Tensor:
    """Hidden states of our tokens, [M, H], of rows [B, T]."""
    line = line_of(obs, mask)
    made = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=obs.device)  # or transformers would make a mask [N, N]
    said = policy.hidden(line.token[None], attention_mask=made, position_ids=line.position[None], line=line)
    return _at(said[0], line.ours)


def line_of(obs: Tensor, mask: Tensor) -> Line:
    rows, heads = texts_of(obs, mask)
    parts = [*_alike([*heads, *(x for _, x in rows if x.after is None)]), *_alike([x for _, x in rows if x.after])]
    texts, wide = [x for part in parts for x in part], obs.shape[1]
    for one, following in pairwise(texts):
        following.at = one.at + len(one)
    groups, at, slots = [_group(part, obs.device) for part in parts], list[tuple[int, int]](), 0
    for part, group in zip(parts, groups, strict=True):
        widest = group.own.shape[1]
        at += [(x.row * wide + x.begin - x.at, slots + k * widest - x.at) for k, x in enumerate(part)]
        slots += group.own.numel()
    lengths = torch.tensor([len(x) for x in texts], device=obs.device)
    moved = torch.tensor(at, device=obs.device).repeat_interleave(lengths, 0)
    source, slot = (moved + torch.arange(len(moved), device=obs.device)[:, None]).T
    token = obs.flatten()[source]
    return Line(token, source % wide, _ours(mask, rows), groups, slot if slots > len(slot) else None)


def _alike(texts: Sequence[Text]) -> list[list[Text]]:
    """Groups of about one length, and which hear about as much: all are as wide as the widest of a group."""

    def cut(part: Sequence[Text], size: Callable[[Text], int]) -> list[list[Text]]:
        part = sorted(part, key=size, reverse=True)
        return [part[here] for here in alike([size(x) for x in part], worth=FEW)]

    return [x for part in cut([x for x in texts if len(x)], len) for x in cut(part, lambda x: x.hears)]


def texts_of(obs: Tensor, mask: Tensor) -> tuple[list[tuple[Text, Text]], list[Text]]:
    """(of each row the text that it begins with, and the one that has the rest; the prompts that rows share)

    The two of a row are the same where no other row has its prompt.
    """
    end = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1).tolist()
    asked = prompts_of(obs, mask)
    count, heads, rows = Counter(kind for kind, _ in asked), dict[int, Text](), []
    for row, (kind, tokens) in enumerate(asked):
        last = max(tokens, end[row])
        if count[kind] == 1:
            head = own = Text(row, 0, last)
        else:
            head = heads.setdefault(kind, Text(row, 0, tokens))
            own = Text(row, tokens, last, head)
        rows.append((head, own))
    return rows, [heads[kind] for kind in sorted(heads)]


def _ours(mask: Tensor, rows: Sequence[tuple[Text, Text]]) -> Tensor:
    told = torch.tensor([(head.at, own.at - own.begin, own.begin) for head, own in rows], device=mask.device)
    head, own, begin = told.T[..., None]
    slot = torch.arange(mask.shape[1], device=mask.device)
    return (torch.where(slot < begin, head, own) + slot)[mask]


def _group(texts: Sequence[Text], device: torch.device) -> Group:
    """Texts that follow each other in the line; slots beyond a text are some other's, and nobody looks at them."""
    wide, last = max(map(len, texts)), texts[-1].at + len(texts[-1]) - 1
    slot, at = torch.arange(wide, device=device), torch.tensor([x.at for x in texts], device=device)
    own = (at[:, None] + slot).clamp(max=last)
    begin = texts[0].at if min(map(len, texts)) == wide else None
    heads = [x.after for x in texts if x.after]
    if not heads:
        return Group(own, begin, None, None)
    known, at = (torch.tensor([f(x) for x in heads], device=device)[:, None] for f in (len, lambda x: x.at))
    column = torch.arange(int(known.max()), device=device)
    seen = (column < known)[:, None].expand(-1, wide, -1)
    sees = torch.cat([seen, (slot <= slot[:, None]).expand(len(texts), -1, -1)], -1)
    return Group(own, begin, torch.where(column < known, at + column, at), sees[:, None])


def _at(x: Tensor, numbers: Tensor) -> Tensor:
    return x.index_select(0, numbers.flatten())


@torch.no_grad()
def begin(policy: Any) -> float:
    """Our attention from now on, where that says what the model's own says; of how long rows in a line it does, too.

    It is asked with two rows that share a prompt, and one that does not. Longer ones are side by side where a layer forgets.
    """
    from logpi.lm.cache import kept_whole  # of transformers, an extra and a second of every start

    device, own = policy.head.project.weight.device, policy.model.config._attn_implementation
    obs = torch.tensor([[0, 1, 1, 0, 1], [0, 1, 0, 0, 0], [1, 1, 0, 1, 0]], device=device)
    mask = torch.tensor([[0, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 1, 1, 1]], device=device).bool()

    def asked(how: Callable[[], Tensor]) -> Tensor:
        with policy.unrounded():
            return how()

    def same(how: Callable[[], Tensor]) -> bool:
        try:
            return bool((asked(how) - said).abs().max() <= torch.finfo(said.dtype).eps ** 0.5 * said.abs().max())
        except Exception:  # of a model's own code, which was not made for this
            return False

    said = asked(lambda: policy.hidden(obs)[mask])
    if not attention.use(policy.model, attention.OURS):
        return 0
    if not same(lambda: policy.hidden(obs)[mask]):
        policy.model.set_attn_implementation(own)
        return 0
    return whole if (whole := kept_whole(policy.model.config)) and same(lambda: hidden(policy, obs, mask)) else 0
