"""A task and a policy over tokens -> Batch: a row is a prompt with its completion, padded on the right."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from logpi.batch import Batch
from logpi.errors import LogpiError
from logpi.lm.correction import Correction
from logpi.lm.draws import seeds_for
from logpi.lm.engine import Engine, Own, Probed
from logpi.lm.episodes import Episodes, play
from logpi.lm.generate import Completions, rooms
from logpi.lm.rewards import Rewards, of_all
from logpi.lm.tasks.task import Task, draw
from logpi.now import Now, answers, reference_log_prob
from logpi.policy.tokens import Tokens

ROUNDS = 8  # of prompts at most, where groups without a signal are replaced
RECENT = 100  # completions of which the return is told, at least


class Language:
    """Collects for one page: `prompts` of the task an iteration, each answered `group` times in turns of up to `limit` tokens.

    engine: what samples in the place of logpi's own; what it draws is corrected for.
    """

    note = ""

    def __init__(
        self,
        task: Task,
        rewards: Rewards,
        rows: str,
        prompts: int,
        group: int,
        limit: int,
        generator: torch.Generator,
        seed: int,
        micro: int,
        refill: bool = False,
        engine: Engine | None = None,
        correction: Correction = Correction(),  # noqa: B008
    ) -> None:
        self.task, self.rewards, self.rows, self.generator, self.seed = task, rewards, rows, generator, seed
        self.prompts, self.group, self.limit, self.micro = prompts, group, limit, micro
        self.refill = refill and group > 1
        self.room = rooms()
        self.engine: Engine = engine or Own(self.room)
        self.correction = correction
        self.backend = self.source = self.engine.name
        self.version = self.drawn = self.finished = 0  # iterations; prompts; completions
        self.recent: deque[tuple[float, int]] = deque(maxlen=max(RECENT, prompts * group))
        self.told: dict[str, float] = {}
        self.failures: list[Any] = []

    def __call__(self, policy: Tokens, critic: nn.Module | None) -> Batch:
        policy.remember()
        self._sync(policy)
        found = [self._round(policy)]
        while self.refill and int(sum(x.signal.sum() for x in found)) < self.prompts and len(found) < ROUNDS:
            found.append(self._round(policy))
        batch = self._rows(found)
        batch = self._corrected(policy, batch) if isinstance(self.engine, Probed) else batch
        batch = batch if critic is None else self._judged(policy, critic, batch)
        self.version += 1
        return batch.map(lambda x: x.unflatten(0, (-1, self.group))) if self.rows == "groups" else batch

    def _sync(self, policy: Tokens) -> None:
        """The engine has the policy's weights, and where they are not the same tensors it shows so for the task's first prompt."""
        if type(self.engine) not in (Own, Probed):
            self.engine = Probed(self.engine, policy.encode(draw(self.task, "train", self.seed, 0)["prompt"]))
        self.engine.sync(policy, self.version)

    def _corrected(self, policy: Tokens, b: Batch) -> Batch:
        """log pi is the trainer's own, and log mu what the engine drew with."""
        trainers: Any = policy
        log_pi, log_mu = reference_log_prob(trainers, trainers, b, self.micro), b.log_pi
        self.told |= self.correction.told(log_pi, log_mu, b.mask) | {"probe_deviation": self.engine.deviation}  # type: ignore[attr-defined]
        return b.with_(log_pi=log_pi, log_mu=log_mu, correction=self.correction.weights(log_pi, log_mu, b.mask))

    def _round(self, policy: Tokens) -> "Round":
        """The next prompts, each answered by its group."""
        examples = [draw(self.task, "train", self.seed, self.drawn + k) for k in range(self.prompts)]
        self.drawn += self.prompts
        seeds = seeds_for(self.prompts * self.group, self.generator)
        found = play(self.engine, policy, self.task, examples, seeds, self.limit, self.group)
        reward = self.rewards(found.examples, found.texts)
        groups = reward.view(self.prompts, self.group)
        return Round(found, reward, (groups != groups[:, :1]).any(1), self.rewards.told)

    def _rows(self, rounds: "list[Round]") -> Batch:
        """The batch, and what is told of it; of several rounds the groups that have a signal, the first so many of them."""
        self._count(rounds)
        if len(rounds) == 1:
            return rounds[0].rows()
        left, kept = self.prompts, list[Batch]()
        for x in rounds:
            groups = x.signal.nonzero()[:left, 0]
            left -= len(groups)
            rows = (groups[:, None] * self.group + torch.arange(self.group)).flatten()
            kept.append(x.rows()[rows])
        if left == self.prompts:
            raise LogpiError(
                f"In {len(rounds)} rounds of {self.prompts} prompts every group got equal rewards, so there is nothing to"
                " learn from: change --level, give a larger --group, or begin with a warm-up."
            )
        longest = max(x.mask.shape[1] for x in kept)
        return joined([x.map(lambda t: pad(t, longest)) for x in kept if len(x)])

    def _judged(self, policy: Tokens, critic: nn.Module, b: Batch) -> Batch:
        """With V before each of our tokens and behind it: 0 where a text was cut, for its reward was paid for all of it."""
        trainers: Any = policy
        value = answers(b, lambda part: Now(trainers, critic, part).value, self.micro, trainers.pack(b.obs))
        following = torch.nn.functional.pad(value[:, 1:], (0, 1))
        return b.with_(value=value, value_next=torch.where(b.truncated, 0.0, following))

    def _count(self, rounds: "list[Round]") -> None:
        reward, length, ended = (
            torch.cat(x) for x in zip(*((r.reward, r.found.length, r.found.said.ended) for r in rounds), strict=True)
        )
        self.recent.extend(zip(reward.tolist(), length.tolist(), strict=True))
        self.finished += len(reward)
        self.told = {
            "reward": float(reward.mean()),
            "truncated": float((~ended).double().mean()),
            "tokens": float(length.sum()),
        } | of_all([r.told for r in rounds])
        if "turns" in rounds[0].found.examples[0]:
            turns = [len(x["turns"]) for r in rounds for x in r.found.examples]
            self.told["turns"] = sum(turns) / len(turns)
        if self.group > 1:
            self.told["groups_without_signal"] = 1 - float(torch.cat([r.signal for r in rounds]).double().mean())

    def metrics(self) -> dict[str, float]:
        """Mean reward and length of the last completions, and of this iteration what else is worth a look."""
        n = len(self.recent)
        mean = [sum(x) / n for x in zip(*self.recent, strict=True)] if n else [float("nan")] * 2
        return {"return": mean[0], "length": mean[1], "episodes": float(self.finished)} | self.told

    def settle(self, policy: Tokens) -> None:
        """Nothing is normalised."""

    def close(self) -> None:
        self.rewards.close()

    def state(self) -> dict[str, Any]:
        own = {k: getattr(self, k) for k in ("version", "drawn", "finished")}
        return own | {"recent": [*self.recent], "room": self.room.size, "envs": {}}

    def load_state(self, state: dict[str, Any]) -> None:
        self.version, self.drawn, self.finished = (state[k] for k in ("version", "drawn", "finished"))
        self.room.size = state["room"]
        self.recent.extend((float(r), int(n)) for r, n in state["recent"])


@dataclass(frozen=True)
class Round:
    """B episodes and what they are worth; `signal` [P]: do the rewards of a group differ? `told`: of the rewards."""

    found: Episodes
    reward: Tensor
    signal: Tensor
    told: dict[str, float]

    def rows(self) -> Batch:
        return rows_of(self.found.prompts, self.found.said, self.reward, self.found.version, self.found.ours)


def pad(x: Tensor, length: int) -> Tensor:
    """A tensor [B, T, ...] with zeros behind, as long as asked; [B] as it is."""
    return x if x.dim() < 2 else nn.functional.pad(x, (0, length - x.shape[1]))


def joined(batches: Sequence[Batch]) -> Batch:
    """Rows of equal length, one under the other."""
    first = batches[0]
    names = [f.name for f in fields(first) if isinstance(getattr(first, f.name), Tensor)]
    return first.with_(**{name: torch.cat([getattr(b, name) for b in batches]) for name in names})


def rows_of(
    prompts: Sequence[Sequence[int]],
    said: Completions,
    reward: Tensor,
    version: int | Tensor,
    ours: Tensor | None = None,
) -> Batch:
    """Rows of prompt and completion, [B, T]: obs[t] is token t, action[t] token t + 1; a row's last token is only seen.

    The reward stands at the last token said, where the row is terminated by an end token, or truncated at the limit.
    ours [B, L]: False where what was said is not the model's own; None: all of it is.
    """
    device = said.tokens.device
    before = torch.tensor([len(p) for p in prompts], device=device)
    total = before + said.length
    longest = int(total.max()) + 1
    ids = torch.tensor([[*p, *[0] * (longest - len(p))] for p in prompts], device=device)
    slot = torch.arange(ids.shape[1] - 1, device=device).expand(len(prompts), -1)
    behind = (slot >= before[:, None] - 1) & (slot < total[:, None] - 1)
    spoken = torch.arange(said.tokens.shape[1], device=device) < said.length[:, None]

    def placed(x: Tensor) -> Tensor:
        return x.new_zeros(behind.shape).masked_scatter(behind, x[spoken])

    log_pi = placed(said.log_pi)
    ids[:, 1:][behind] = said.tokens[spoken]
    last = slot == total[:, None] - 2
    ended = said.ended[:, None]
    return Batch(
        obs=ids[:, :-1],
        action=ids[:, 1:],
        log_pi=log_pi,
        params=None,
        reward=torch.where(last, reward.to(log_pi)[:, None], 0.0),
        terminated=last & ended,
        truncated=last & ~ended,
        mask=behind if ours is None else placed(ours),
        version=placed(version) if isinstance(version, Tensor) else torch.full(behind.shape, version, device=device),
        start=torch.zeros(len(prompts), dtype=torch.long, device=device),
    )
