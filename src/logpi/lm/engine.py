"""The seam between learning and generation: an engine says completions, with the weights that it was last given.

logpi's own draws with the trainer's tensors. What stands behind the seam instead (a server, vLLM) has weights and numerics of
its own: it is probed after every sync, and what it draws is corrected for (`lm/correction.py`).
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from logpi.errors import LogpiError, short
from logpi.lm.generate import TRAINING, Completions, Sampling, generate
from logpi.policy.tokens import Tokens
from logpi.room import Room

STALENESS = 0  # iterations that the weights which draw may lie behind: none, generation is synchronous
PROBE = 16  # tokens of the text that is asked about after a sync


class Engine(Protocol):
    """What samples completions. Token ids go in and come out; texts are nothing that it is asked for."""

    name: str
    rounding: float  # how far its log pi may lie from the trainer's where the weights are the same

    @property
    def version(self) -> int:
        """Of the weights that it draws with: what `sync` was told."""
        ...

    def sync(self, policy: Tokens, version: int) -> None:
        """Draw with these weights from now on (an adapter's among them), and forget what was computed with older ones."""
        ...

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Tensor,
        limit: int,
        ends: Sequence[int],
        copies: int = 1,
        how: Sampling = TRAINING,
    ) -> Completions:
        """Up to `limit` tokens after each prompt, `copies` times side by side, until a token of `ends`, which is said, too.

        seeds [P x copies], one for each row. log_pi is the logarithm of what a token was drawn with.
        """
        ...

    def log_prob(self, ids: Sequence[int]) -> Tensor:
        """Of each token of a text after its first, [T - 1]: the logarithm of what it would be drawn with, as in `generate`."""
        ...


class Own:
    """logpi's own engine. Its weights are the trainer's tensors themselves: a sync moves nothing, nothing can be stale."""

    name, rounding, version = "own engine", 0.0, 0

    def __init__(self, room: Room | None = None) -> None:
        """room: for answers side by side."""
        self.room = room

    def sync(self, policy: Tokens, version: int) -> None:
        self.policy, self.version = policy, version

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Tensor,
        limit: int,
        ends: Sequence[int],
        copies: int = 1,
        how: Sampling = TRAINING,
    ) -> Completions:
        return generate(self.policy, prompts, seeds, limit, ends, copies, how, self.room)

    def log_prob(self, ids: Sequence[int]) -> Tensor:
        return log_prob(self.policy, ids)


@torch.no_grad()
def log_prob(policy: Tokens, ids: Sequence[int]) -> Tensor:
    """log pi of each token of a text after its first, [T - 1]."""
    text = torch.tensor(ids, device=policy.head.project.weight.device)
    return policy.head.log_prob(policy.hidden(text[None, :-1])[0], text[1:])


class Probed:
    """An engine that is not ours, which has to show after every sync that it serves the policy just trained.

    text: ids, whose log pi is asked of it and of the trainer. Errors: a sentence where they lie further apart than its
    `rounding` (weights that are stale, another temperature, a cut-off such as top-p: all of these are another policy), or where
    it draws with weights that are older than the bound allows.
    """

    def __init__(self, engine: Engine, text: Sequence[int]) -> None:
        self.engine, self.name, self.rounding = engine, engine.name, engine.rounding
        self.text = (list(text) * PROBE)[:PROBE]
        self.wanted = 0  # the version of the policy
        self.answer: Tensor | None = None  # to the last probe
        self.deviation = 0.0  # of that answer from the trainer's

    @property
    def version(self) -> int:
        return self.engine.version

    def sync(self, policy: Tokens, version: int) -> None:
        self._ask("sync", policy, version)
        self.wanted = version
        trainers, answer = log_prob(policy, self.text), self.log_prob(self.text)
        self.deviation = float((answer.to(trainers) - trainers).abs().max())
        if not self.deviation <= self.rounding:
            same = self.answer is not None and torch.equal(answer, self.answer)
            reason = (
                "its answer is that of the sync before, so it serves stale weights: sync must load the weights (an adapter's,"
                " too) and reset its caches"
                if same
                else "give it the trainer's weights and temperature, switch off its top-k, top-p, min-p and penalties, or"
                " declare a larger rounding"
            )
            raise LogpiError(
                f"The engine {self.name} does not serve the policy just trained, version {version}: log pi of the probe is off"
                f" by {self.deviation:.2g}, more than its rounding of {self.rounding:g}; {reason}."
            )
        self.answer = answer

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Tensor,
        limit: int,
        ends: Sequence[int],
        copies: int = 1,
        how: Sampling = TRAINING,
    ) -> Completions:
        said: Completions = self._ask("generate", prompts, seeds, limit, ends, copies, how)
        if not 0 <= self.wanted - self.version <= STALENESS:
            raise LogpiError(
                f"The engine {self.name} drew with version {self.version} of the weights, and the policy is version"
                f" {self.wanted}: it may lie {STALENESS} behind, so sync must not return before the weights are in use."
            )
        must_be_whole(said, self.name, len(prompts) * copies)
        return said

    def log_prob(self, ids: Sequence[int]) -> Tensor:
        said: Tensor = self._ask("log_prob", ids)
        return said

    def _ask(self, what: str, *given: Any) -> Any:
        """What the engine says; an error of its own code in one sentence."""
        try:
            return getattr(self.engine, what)(*given)
        except LogpiError:
            raise
        except Exception as wrong:
            raise LogpiError(
                f"The engine {self.name} raised {type(wrong).__name__} ({short(str(wrong))}) in {what}: mend it, or leave"
                " --engine away."
            ) from wrong


def must_be_whole(said: Completions, name: str, rows: int) -> None:
    """Refuse completions that are not one for each row, of a token at least, each with a finite log pi."""
    spoken = torch.arange(said.tokens.shape[-1], device=said.length.device) < said.length[:, None]
    fits = len(said.tokens) == rows == len(said.length) and bool((said.length > 0).all())
    if not fits or not bool(said.log_pi[spoken].isfinite().all()):
        raise LogpiError(
            f"The engine {name} returned {len(said.tokens)} completions for {rows} rows, or one that is empty or has no finite"
            " log pi: each row needs its tokens, the end token among them, and what each was drawn with."
        )
