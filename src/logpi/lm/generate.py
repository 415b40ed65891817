"""The generation engine: text goes on token by token. It knows nothing of learning.

Each prompt is read once, and so is whatever several of its copies say alike; rows that are done leave; every row draws from a
seed of its own, so that what it says does not depend on its company; log pi is that of what was drawn, under the
distribution that drew it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from logpi.device import give_back, widest
from logpi.errors import LogpiError
from logpi.fast.decoding import decoder_for
from logpi.lm.cache import cache_for, rows_may_change, select
from logpi.lm.draws import uniform
from logpi.policy.tokens import Tokens
from logpi.room import Room, slices

CROWDED = 0.85  # rows leave once fewer than this share go on: moving keys and values has its price


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen. Cut-offs are for evaluation: training draws from the whole distribution."""

    greedy: bool = False
    top_k: int = 0  # only so many of the likeliest; 0: all
    top_p: float = 1.0  # only the likeliest that together have this probability

    def log_p(self, logits: Tensor) -> Tensor:
        """The logarithms [n, V] of what is drawn from."""
        if self.top_k:
            least = logits.topk(min(self.top_k, logits.shape[-1])).values[..., -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p < 1.0:
            ordered, place = logits.sort(descending=True)
            before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
            logits = logits.masked_fill((before >= self.top_p).gather(-1, place.argsort(-1)), -torch.inf)
        return logits.log_softmax(-1)


TRAINING = Sampling()


@dataclass(frozen=True)
class Completions:
    """What was said after each prompt, copies of a prompt side by side; 0 behind the end."""

    tokens: Tensor  # [B, L]
    log_pi: Tensor  # [B, L]
    length: Tensor  # [B]  tokens said, an end token included
    ended: Tensor  # [B] bool  by an end token; False: at the limit


def generate(
    policy: Tokens,
    prompts: Sequence[Sequence[int]],
    seeds: Tensor,
    limit: int,
    ends: Sequence[int],
    copies: int = 1,
    how: Sampling = TRAINING,
    room: Room | None = None,
) -> Completions:
    """Up to `limit` tokens after each prompt (ids), `copies` times, until a token of `ends`; seeds [B], one for each row.

    room: rows side by side; they say the same however few there are, for each has its own seed.
    """
    must_fit(policy, prompts, limit)
    give_back()
    room = room or rooms()

    def said() -> list[tuple[Tensor, ...]]:
        each = copies if copies <= (room.size or len(seeds)) else 1  # a prompt is read once for so many of its copies
        asked = [p for p in prompts for _ in range(copies // each)]
        return [
            Speech(policy, asked[k], seeds[k.start * each : k.stop * each], limit, ends, each, how).run()
            for k in slices(len(asked), room.size and room.size // each)
        ]

    with torch.inference_mode():
        tokens, log_pi, length, ended = (torch.cat(x) for x in zip(*room(said, len(seeds)), strict=True))
        found = [x[:, : int(length.max())] for x in (tokens, log_pi)]
    return Completions(*(x.clone() for x in (*found, length, ended)))  # which a gradient may pass


def rooms() -> Room:
    """For all answers at once, as long as memory holds them."""
    return Room(None, "answer", "use a smaller --max-tokens, or a smaller model")


def must_fit(policy: Tokens, prompts: Sequence[Sequence[int]], limit: int) -> None:
    """Refuse empty prompts, and those that with their answers are longer than the model's context."""
    if not prompts or not all(prompts):
        raise LogpiError("A prompt is empty: it must have one token at least.")
    longest = max(map(len, prompts))
    if policy.context is not None and longest + limit > policy.context:
        raise LogpiError(
            f"A prompt of {longest} tokens and an answer of up to {limit} are longer than the model's context of"
            f" {policy.context}: use shorter prompts or a smaller --max-tokens."
        )


class Speech:
    """Rows that go on: `row` says which of all B each is, `text` which of the texts that were read it has said so far.

    Rows that have said the same share a text until they part, so what a model is asked grows with what differs.
    """

    def __init__(
        self,
        policy: Tokens,
        prompts: Sequence[Sequence[int]],
        seeds: Tensor,
        limit: int,
        ends: Sequence[int],
        copies: int,
        how: Sampling,
    ) -> None:
        like, self.policy, self.how, self.limit = policy.head.project.weight, policy, how, limit
        most = max(map(len, prompts)) + limit
        self.cache = cache_for(policy.model.config, most)
        if not rows_may_change(self.cache):  # then nothing can be shared
            prompts, copies = [p for p in prompts for _ in range(copies)], 1
        self.device, rows = like.device, len(prompts) * copies
        self.seeds, self.ends = seeds.to(self.device), torch.tensor(list(ends), device=self.device)
        self.tokens = torch.zeros(rows, limit, dtype=torch.long, device=self.device)
        self.log_pi = torch.zeros(rows, limit, dtype=torch.promote_types(like.dtype, torch.float32), device=self.device)
        self.length = torch.full((rows,), limit, device=self.device)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=self.device)
        self.row = torch.arange(rows, device=self.device)
        self.text = torch.arange(len(prompts), device=self.device).repeat_interleave(copies)
        self.shared = copies > 1  # by some rows
        self.position = torch.tensor([len(p) for p in prompts], device=self.device)  # of a text's next token
        self.hidden = self._read(prompts)  # of each text's last token
        self.decoder = decoder_for(policy, self.cache, most)  # of what comes after

    def _read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Every prompt once, the shorter ones behind padding: the hidden state of its last token, [P, H]."""
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + [*p] for p in prompts], device=self.device)
        slot = torch.arange(longest, device=self.device) - (longest - self.position)[:, None]
        self.seen = None if all(len(p) == longest for p in prompts) else slot >= 0  # [texts, tokens]
        return self._ask(ids, slot.clamp(min=0))[:, -1]

    def _ask(self, ids: Tensor, position: Tensor) -> Tensor:
        mask = {} if self.seen is None else {"attention_mask": self.seen.long()}
        more = {self.policy.cache_name: self.cache, "position_ids": position} | mask
        return self.policy.hidden(ids, **more)

    def run(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        for t in range(self.limit):
            token, log_pi = self._choose(t)
            self.tokens[self.row, t], self.log_pi[self.row, t] = token, log_pi
            over = torch.isin(token, self.ends)
            done, here = self.row[over], (~over).nonzero()[:, 0]
            self.length[done], self.ended[done] = t + 1, True
            if not len(here) or t + 1 == self.limit:
                break
            self.row, self.text = self.row[here], self.text[here]
            self._go_on(token[here])
        return self.tokens, self.log_pi, self.length, self.ended

    def _choose(self, t: int) -> tuple[Tensor, Tensor]:
        """(token, its log pi) of each row: the first whose cumulative probability exceeds the row's uniform number."""
        log_p = self.how.log_p(self.policy.head.logits(self.hidden))
        if self.how.greedy:
            token = log_p.argmax(-1)[self.text]
        else:
            below = log_p.exp().to(widest(self.device)).cumsum(-1)[self.text]
            at = uniform(self.seeds[self.row], t)[:, None] * below[:, -1:]
            token = torch.searchsorted(below, at, right=True)[:, 0].clamp(max=log_p.shape[-1] - 1)
        return token, log_p[self.text, token]

    def _go_on(self, token: Tensor) -> None:
        """Read each row's token; texts are parted where rows that shared one differ, and left where few are still said."""
        texts = len(self.position)
        if self.shared or (len(self.row) < CROWDED * texts and rows_may_change(self.cache)):
            size = self.policy.head.project.weight.shape[0]
            different, self.text = (self.text * size + token).unique(return_inverse=True)
            self.shared = len(different) < len(token)
            before, token = different // size, different % size
            self._keep(before)
        else:
            token = token.new_zeros(texts).index_put((self.text,), token)
        if self.seen is not None:
            self.seen = torch.nn.functional.pad(self.seen, (0, 1), value=True)
        if self.decoder is None:
            self.hidden = self._ask(token[:, None], self.position[:, None])[:, -1]
        else:
            self.hidden = self.decoder(token, self.position, self.cache, self.seen)
        self.position = self.position + 1

    def _keep(self, texts: Tensor) -> None:
        """These texts, in this order, may be several times."""
        if torch.equal(texts, torch.arange(len(self.position), device=self.device)):
            return
        select(self.cache, texts)
        self.position = self.position[texts]
        self.seen = None if self.seen is None else self.seen[texts]
