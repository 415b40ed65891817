"""`logpi tokens`: an iteration of a language model's run, made again from a checkpoint, and what became of each of its tokens."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from logpi.batch import Batch
from logpi.errors import LogpiError
from logpi.loop import Parts, loop, update
from logpi.now import Now
from logpi.policy.tokens import Tokens
from logpi.run import checkpoint, config
from logpi.run.folder import finite
from logpi.run.folder import rows as logged
from logpi.run.resume import fresh, reopen
from logpi.run.train import Options

COLUMNS = {  # what is told of a token: its heading, and what it means
    "log_pi": ("log π", "when it was drawn"),
    "now": ("now", "log π after the update"),
    "rho": ("ratio", "π now over π when it was drawn"),
    "psi": ("Ψ", "its credit"),
    "weight": ("weight", "what Ψ counts in the gradient after the update; 0: clipped"),
    "reward": ("reward", "the task's, which followed it"),
    "value": ("V", "what the critic said before it"),
    "target": ("target", "what the critic should have said"),
    "log_mu": ("log μ", "log of what the engine drew it with, which is not the trainer's"),
    "correction": ("π/μ", "what it counts for as the engine drew it and not the policy, cut"),
    "k1": ("π/ref", "log π - log π_ref when it was drawn"),
    "entropy": ("H", "entropy of the distribution that drew it"),
    "kl_old": ("KL old", "KL(π_old || π now), exact"),
    "kl_ref": ("KL ref", "KL(π now || π_ref), exact"),
}
SAME = 1e-3  # weights that differ by less are the same


@dataclass(frozen=True)
class Token:
    """figures: by column; none where it is not the model's own."""

    text: str
    figures: dict[str, float]
    why: str  # it counts for nothing, or for another amount; "" where nothing is to be said


@dataclass(frozen=True)
class Row:
    """A prompt and its completion."""

    number: int  # in the batch
    made_of: str  # what its Psi comes from, in words
    tokens: list[Token]
    group: tuple[float, ...] = ()  # the returns of its group; none where rows are alone
    place: int = 0  # of this one among them


@dataclass(frozen=True)
class Rollout:
    """What is shown."""

    title: str
    iteration: int
    origin: str  # which iteration, from which checkpoint, and whether the log agrees
    metrics: dict[str, float]
    columns: list[str]
    rows: list[Row]


def tell(run: Path, number: int | None, rows: int, own: dict[str, Any]) -> Rollout:
    """Iteration `number` of a run (None: its last), or of a checkpoint (None: the next): so many rows, those with a signal first."""
    parts, number, origin = before(run, number, own)
    with contextlib.closing(parts.collect):
        batch = parts.collect(parts.policy, parts.critic)
        chosen = signal_first(batch)[:rows]
        with torch.no_grad():
            entropy = Now(parts.policy, None, picked(batch, chosen)).entropy
        parts.state["steps"] += int(batch.mask.sum())
        batch, info = update(parts, batch)
    metrics = {k: v for k, v in info.items() if isinstance(v, float)} | parts.collect.metrics()
    told = figures(parts, picked(batch, chosen)) | {"entropy": entropy}
    found = [row(parts, batch, told, k, n) for k, n in enumerate(chosen.tolist())]
    name, task = parts.config["method"]["name"], parts.config["run"]["data"] or parts.config["run"]["task"]
    columns = [x for x in COLUMNS if x in told]
    return Rollout(f"{name} on {task}", number, f"{origin}{agreement(run, number, metrics)}", metrics, columns, found)


def before(run: Path, number: int | None, own: dict[str, Any]) -> tuple[Parts, int, str]:
    """(a run as it was when this iteration began, its number, where that comes from)."""
    if checkpoint.is_checkpoint(run):
        checkpoint.verify(run)
        must_be_text(run)
        parts, _, _ = reopen(run, config.read(run / "config.toml"), **own)
        begun = parts.state["iteration"]
        if number is not None and number <= begun:
            raise LogpiError(f"{run} was saved after iteration {begun}: --step must be more, not {number}.")
        return forward(parts, number or begun + 1, run.name)
    must_be_text(run)
    steps = {row["iteration"]: row["steps"] for row in logged(run)}
    if not steps:
        raise LogpiError(f"{run} has done no iteration yet: there is nothing to show.")
    number = number or max(steps)
    if number not in steps:
        raise LogpiError(f"{run} has done {max(steps)} iterations: --step is one of them, not {number}.")
    asked, began = config.read(run / "config.toml"), steps.get(number - 1, 0)
    for folder in earlier(run, began):
        return forward(reopen(folder, asked, **own)[0], number, folder.name)
    options = config.fill(Options(), asked.get("train", {}), str(run / "config.toml"))
    return forward(fresh(run, asked, options, own)[0], number, "the start of the run")


def must_be_text(run: Path) -> None:
    """Refuse what is no run of a language model."""
    if not (run / "config.toml").is_file():
        raise LogpiError(f"{run} is not a run folder: it has no config.toml.")
    if "task" not in config.read(run / "config.toml").get("run", {}):
        raise LogpiError(f"{run} is not the run of a language model: only those have tokens.")


def earlier(run: Path, steps: int) -> Iterator[Path]:
    """Checkpoints of no more steps than these that are whole, the newest first."""
    for folder in sorted((run / "checkpoints").glob("step-*"), reverse=True):
        if folder.name <= f"step-{steps:012d}":
            with contextlib.suppress(LogpiError):
                checkpoint.verify(folder)
                yield folder


def forward(parts: Parts, number: int, where: str) -> tuple[Parts, int, str]:
    """The iterations between a checkpoint and the one asked for are done again."""
    between = number - 1 - parts.state["iteration"]
    records = loop(parts)
    for _ in range(between):
        if next(records, None) is None:
            parts.collect.close()
            raise LogpiError(f"The run ends with iteration {parts.state['iteration']}: --step is less than {number}.")
    again = f", {between} iteration{'s' if between > 1 else ''} later" if between else ""
    return parts, number, f"iteration {number}, made again from {where}{again}"


def agreement(run: Path, number: int, metrics: dict[str, float]) -> str:
    """Whether the log has the same figures."""
    folder = checkpoint.run_of(run)
    if not (folder / "metrics.jsonl").is_file():
        return ""
    row: dict[str, Any] = next((x for x in logged(folder) if x["iteration"] == number), {})
    mine = finite(metrics)
    other = sorted(k for k in {*mine} & {*row} if mine[k] != row[k])
    if not row:
        return "; it is not in the log"
    return f"; the log has another {', '.join(other)}" if other else "; the log has the same figures, to the bit"


def flattened(batch: Batch) -> Batch:
    return batch.with_(start=None).map(lambda x: x.flatten(0, batch.mask.dim() - 2))


def picked(batch: Batch, rows: Tensor) -> Batch:
    """These rows, cut to the longest."""
    found = flattened(batch)[rows]
    longest = int(found.mask.any(0).nonzero().max()) + 1
    return found.map(lambda x: x[:, :longest] if x.dim() > 1 else x)


def signal_first(batch: Batch) -> Tensor:
    """The numbers of all rows: those of groups with unequal rewards first, else in their order."""
    ret = torch.where(batch.mask, batch.reward, 0.0).sum(-1)
    equal = (ret == ret[..., :1]).all(-1, keepdim=True).expand_as(ret) if ret.dim() > 1 else torch.zeros_like(ret)
    return torch.sort(equal.flatten().byte(), stable=True).indices


def figures(parts: Parts, b: Batch) -> dict[str, Tensor]:
    """What there is to say of each token, [B, T], after the update."""
    policy: Any = parts.policy
    with torch.no_grad():
        now = Now(policy, None, b)
        found = {"log_pi": b.log_pi, "now": now.log_pi, "rho": (now.log_pi - b.log_pi).exp(), "psi": b.psi}
        found |= {"reward": b.reward, "kl_old": now.kl_old}
        if parts.critic is not None:
            found |= {"value": b.value, "target": b.target}
        if b.log_mu is not None:
            found |= {"log_mu": b.log_mu} | ({} if b.correction is None else {"correction": b.correction})
        if parts.reference is not None:
            reference: Any = parts.reference
            there = policy.head.kl(now.params, Now(reference, None, b).params, reference.head.logits)
            found |= {"k1": b.log_pi - b.log_ref, "kl_ref": b.back(there)}  # type: ignore[operator]
    found["weight"] = torch.nan_to_num(pull(parts, b) / b.psi)  # type: ignore[operator]
    return found  # type: ignore[return-value]


def pull(parts: Parts, b: Batch) -> Tensor:
    """d objective / d log pi, [B, T]: as far as Psi is the cause of it."""

    def slope(psi: Any) -> Tensor:
        now = Now(parts.policy, parts.critic, b)
        log_pi = now.log_pi.detach().requires_grad_()
        vars(now)["log_pi"] = log_pi  # a leaf in the place of the answer
        gain = parts.method.objective(now, b.with_(psi=psi), parts.state)
        return torch.autograd.grad(gain.sum(), log_pi, materialize_grads=True, allow_unused=True)[0]

    return slope(b.psi) - slope(torch.zeros_like(b.log_pi))


def row(parts: Parts, batch: Batch, told: dict[str, Tensor], k: int, number: int) -> Row:
    """Row `number` of the batch, the k-th of those told: its tokens from the first of the prompt to the last said."""
    policy: Any = parts.policy
    whole, b = batch, flattened(batch)
    ours, ids = b.mask[number], [int(b.obs[number, 0]), *b.action[number].tolist()]
    last = int(ours.nonzero().max())
    ret = torch.where(whole.mask, whole.reward, 0.0).sum(-1)
    made_of, equal, group = f"return {float(ret.flatten()[number]):.4g}", False, ret[:0]
    if ret.dim() > 1:
        group = ret[number // ret.shape[1]]
        equal = bool((group == group[0]).all())
        spread = f"mean {float(group.mean()):.4g}, std {float(group.std(correction=0)):.4g}"
        made_of += f"; group {number // ret.shape[1] + 1} of {len(ret)}: {spread}"
    made_of += "" if bool(b.terminated[number, last]) else "; cut at the limit, without an end token"
    tokens = [Token(text_of(policy, ids[0]), {}, "prompt")]
    for t in range(last + 1):
        mine = {name: float(x[k, t]) for name, x in told.items()} if ours[t] else {}
        foreign = "prompt" if not ours[:t].any() else "not the model's own: masked"
        tokens.append(Token(text_of(policy, ids[t + 1]), mine, reason(mine, equal) if mine else foreign))
    return Row(number + 1, made_of, tokens, tuple(group.tolist()), number % max(1, len(group)))


def reason(x: dict[str, float], equal: bool) -> str:
    """Why a token of ours counts for nothing, or not for its ratio."""
    if x["psi"] == 0:
        return "no signal: all rewards of its group are equal" if equal else "no credit: Ψ is 0"
    if abs(x["weight"]) < SAME:
        return f"clipped at ratio {x['rho']:.2f}, Ψ {'>' if x['psi'] > 0 else '<'} 0"
    if min(abs(x["weight"] - x["rho"]), abs(x["weight"] - 1)) > SAME:
        return f"counts {x['weight']:.2f}, not its ratio"
    return ""


def text_of(policy: Tokens, token: int) -> str:
    """A token in letters that can be seen."""
    said = policy.tokenizer.decode([token])
    said = policy.tokenizer.convert_ids_to_tokens(token) if "�" in said or not said else said
    return str(said).replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
