"""Where the time and the memory of a language model's loop go: as in run/bench.py, for each token sampled."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from logpi import critic as critics
from logpi import loop as looping
from logpi.batch import Batch
from logpi.device import pick
from logpi.loop import Parts
from logpi.run import floors
from logpi.run.bench import HIGH, Course, Place, beside, shared
from logpi.run.language import Text, must_have_transformers
from logpi.run.train import assembled
from logpi.workers import work

MEANS = {
    "sampling": "a pass over the prompts, then one for each token position",
    "reward": "the functions that judge the answers",
    "rows": "the rest of the rollout: prompts, letters, a task's replies, pi_old's weights",
    "values": "the critic on the rows, and log pi where another engine sampled",
    "reference": "the reference policy on the rows",
    "credit": "psi",
    "update": "forward, backward, optimiser",
    "measure": "KL, entropy and clipping after the update",
    "rest": "of the loop",
}
COMPUTED = ("values", "reference", "update", "measure")
SILENT = 0.5  # of the groups, from which on it is told that their rows are left out
FULL = 0.8  # of the machine's memory
FASTER = 1.3  # times the arithmetic of float32, from which on bfloat16 is worth a word
SIDE = {
    "groups": ("starts", "group"),
    "episodes": ("episodes",),
    "segments": ("envs",),
}  # a page's answers an iteration
NAMES = {
    "rows": "rest of the rollout",
    "values": "look of the critic at the rows",
    "credit": "credit (psi)",
    "measure": "measurement after the update",
    "rest": "rest of the loop",
}


def places(parts: Parts) -> Iterator[Place]:
    collect = parts.collect
    yield type(collect), "__call__", "rows", "rest"
    yield type(collect.engine), "generate", "sampling", "rows"
    yield type(collect.rewards), "__call__", "reward", "rows"
    yield from ((type(collect), name, "values", "rows") for name in ("_judged", "_corrected"))
    yield looping, "reference_log_prob", "reference", "rest"
    yield looping, "credited", "credit", "rest"
    yield looping, "measure", "measure", "rest"
    yield type(parts.method), "step", "update", "rest"
    yield critics, "fit", "update", "rest"


@dataclass
class Report:
    """Of one language model; times are microseconds for each token sampled, memory is in bytes."""

    loops: list[dict[str, Any]]  # of the loop that was asked for: speed and parts
    floors: dict[str, float | None]
    machine: dict[str, float]
    memory: dict[str, int]
    bound: str  # what makes the floor of sampling: arithmetic, or reading the weights
    answers: int  # of an iteration
    length: float  # tokens of them, on average
    reward_seconds: float  # of a call for so many
    engine: str | None  # what samples in the place of ours
    plain: str  # why our sampling is on the plain path, in the words that follow 'because'; empty: it is not
    micro: int
    halved: bool  # did memory give out?
    device: str
    lost: float = 0.0  # the share of the time in which other programs had this thread's core
    notes: list[str] = field(default_factory=list)


def measure(
    name: str, method: Any, settings: Text, seconds: float, say: Callable[[str], None], init: str | None
) -> Report:
    """The loop that `logpi train` would run."""
    must_have_transformers()
    from transformers import AutoModelForCausalLM  # noqa: F401  what libraries take is not the model's

    before = floors.peak(pick(settings.device))
    if settings.warmup and init is None:
        say(f"warm-up: up to {settings.warmup} supervised steps first (--warmup 0 leaves them out)")
    course = Course(assembled(name, method, settings, init)[0], places)
    with contextlib.closing(course.parts.collect):
        if (took := course.warm()) > seconds:
            say(f"an iteration takes {took:.3g} s: wait for some more")
        sums = course.count()
        counted, began = course.record.batch, time.perf_counter()
        while not course.pace or time.perf_counter() - began < seconds:
            course.turn()
            course.turn(course.clock)
        return report(course, sums, counted, before, settings)


def report(course: Course, sums: dict[str, float], counted: Batch, before: int, settings: Text) -> Report:
    """sums: multiply-adds of each part a token, in the iteration that made the batch `counted`."""
    parts, collect, batch = course.parts, course.parts.collect, course.record.batch
    policy: Any = parts.policy
    like, own = policy.head.project.weight, engine_of(parts) is None
    rate = floors.arithmetic(policy.body, floors.SQUARE, torch.bfloat16 if settings.bf16 else None)
    size, answers = read_at_once(policy), batch.mask.flatten(0, -2)
    reading, tokens = floors.reading(size, like), counted.mask.sum(-1)
    found: dict[str, float | None] = dict.fromkeys(MEANS)
    found |= {part: 1e6 * sums[part] / rate for part in COMPUTED if part in sums}
    bounds = {
        "arithmetic": 1e6 * sums.get("sampling", 0.0) / rate,
        "reading": 1e6 * size * int(tokens.max()) / int(tokens.sum()) / reading,
    }
    bound = max(bounds, key=lambda x: bounds[x])
    found["sampling"] = bounds[bound] if own else None
    machine = {"multiply_adds_per_token": sum(sums.values()), "weight_bytes": size, "gflops": 2e-9 * rate}
    machine |= {"read_gb_per_s": 1e-9 * reading, "bf16": floors.gain(like, torch.bfloat16)}
    machine |= {"threads": torch.get_num_threads(), "cores": work.cores(), "memory": floors.memory(str(like.device))}
    return Report(
        [shared(course, course.own(), [*MEANS])],
        found,
        machine,
        {"peak": floors.peak(str(like.device)), "before": before} | held(parts, counted),
        bound,
        len(answers),
        float(answers.sum(-1).double().mean()),
        course.clock.spent["reward"] / course.clock.calls["reward", "rows"],
        engine_of(parts),
        policy.plain if own else "",
        parts.state.get("micro", collect.micro),
        "micro" in parts.state or collect.room.size is not None,
        str(like.device),
        median(course.lost),
        [*notes(course)],
    )


def engine_of(parts: Parts) -> str | None:
    """What samples in the place of ours, by name; None: ours does."""
    from logpi.lm.engine import Own

    engine = parts.collect.engine
    return None if type(engine) is Own else engine.name


def read_at_once(policy: Any) -> int:
    """Bytes of the weights that every token position needs: no embeddings, and of experts none, for which is not known."""
    rows = {id(x.weight) for x in policy.modules() if isinstance(x, nn.Embedding)}
    body = [p for p in policy.body.parameters() if id(p) not in rows and p.dim() < 3]
    size = 2 if policy.bf16 else policy.head.project.weight.itemsize
    return sum(size * p.numel() for p in body) + policy.head.project.weight.nbytes


def held(parts: Parts, batch: Batch) -> dict[str, int]:
    """What has to be there at once in sampling, in bytes, and its sum: the floor of the peak."""
    policy: Any = parts.policy
    own = {p for x in (policy, parts.critic) if x is not None for p in x.parameters()}
    beside: Any = [] if parts.reference is None else parts.reference.parameters()
    states = [x.state for x in (parts.optimizer, parts.critic_optimizer) if x is not None]
    kept = {
        "weights": own,
        "gradients": [p.grad for p in own if p.grad is not None],
        "averages": [x for state in states for one in state.values() for x in one.values() if isinstance(x, Tensor)],
        "pi_old": policy.before.values(),
        "reference": {*beside} - own,
    }
    found = {name: sum(x.nbytes for x in tensors) for name, tensors in kept.items()}
    found["keys_and_values"] = 0 if engine_of(parts) else fullest(parts, batch) * of_a_token(policy)
    return found | {"floor": sum(found.values())}


def fullest(parts: Parts, batch: Batch) -> int:
    """Tokens of all texts at the moment when they are most: those that are still said then have one length."""
    mask = batch.mask.flatten(0, -2)
    length = (mask * torch.arange(1, mask.shape[-1] + 1, device=mask.device)).amax(-1)
    length = length.sort(descending=True).values[: parts.collect.room.size]
    return int((length * torch.arange(1, len(length) + 1, device=mask.device)).max())


@torch.inference_mode()
def of_a_token(policy: Any) -> int:
    """Bytes of the keys and values of a text of one token."""
    from logpi.lm.cache import cache_for

    cache, like = cache_for(policy.model.config, 1), policy.head.project.weight
    policy.hidden(torch.zeros(1, 1, dtype=torch.long, device=like.device), **{policy.cache_name: cache})
    kept = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
    fused = policy.plain == ""  # then they are in float32, whatever computes
    return sum(x.numel() * (like if fused else x).itemsize for x in kept if isinstance(x, Tensor))


def notes(course: Course) -> Iterator[str]:
    yield from beside(course)
    told = course.parts.collect.told
    if (silent := told.get("groups_without_signal", 0.0)) > SILENT:
        yield f"{silent:.0%} of the groups got equal rewards: where psi is all that moves a row, the update leaves them out"


def verdict(found: Report, settings: Text, method: Any) -> tuple[str, str]:
    """(the part that takes most, or memory where that gives out; a sentence: what limits, and what would help)."""
    if found.halved or found.memory["peak"] > FULL * found.machine["memory"]:
        return "memory", of_memory(found, settings)
    shares = found.loops[0]["share"]
    limit = max(shares, key=lambda part: shares[part])
    advise = {"reward": of_reward, "sampling": of_sampling}.get(limit, of_model if limit in COMPUTED else of_ours)
    return limit, f"The {NAMES.get(limit, limit)} takes {shares[limit]:.0%}: {advise(found, limit, settings, method)}."


def of_memory(found: Report, settings: Text) -> str:
    peak, least = (found.memory[x] / 2**30 for x in ("peak", "floor"))
    much = f"Memory: {peak:.3g} GiB at its peak, of which {least:.3g} are weights, what an optimiser keeps of them, and texts"
    gave = f"{much}; it gave out" if found.halved else much
    if 2 * least > peak:
        return (
            f"{gave}: {'' if settings.lora else '--lora 16, or '}a smaller model or fewer answers at once would help."
        )
    return f"{gave}: a --micro below {found.micro} would help."


def of_reward(found: Report, limit: str, settings: Text, method: Any) -> str:
    return f"a call for {found.answers} answers takes {found.reward_seconds:.3g} s, and the model waits: a faster function would help"


def of_sampling(found: Report, limit: str, settings: Text, method: Any) -> str:
    if found.engine:
        return f"{found.engine} says the answers, and how fast it does is its own"
    part = near(found, limit)
    what = "arithmetic" if found.bound == "arithmetic" else "reading of the weights"
    path = f"on the plain path because {found.plain}" if found.plain else "fused"
    less = stronger(found, settings)
    if part < HIGH or found.bound == "reading":
        less = [
            f"more answers side by side{flags(method)}",
            *(less if part > HIGH else []),
        ]
    less = less or ["only shorter answers, a smaller model or a faster processor"]
    return f"it runs at {100 * part:.2g}% of this machine's {what}, {path}; what may help: {', '.join(less)}"


def of_model(found: Report, limit: str, settings: Text, method: Any) -> str:
    part = near(found, limit)
    less = stronger(found, settings) if part > HIGH else []
    tokens = found.answers * found.length
    if part < HIGH and tokens > found.micro:
        less.append(f"a --micro above {found.micro}")
    elif part < HIGH:
        less.append(f"more answers an iteration{flags(method)}")
    if limit == "update" and getattr(method, "epochs", 1) > 1:
        less.append("fewer --epochs")
    if limit == "update" and part > HIGH and not settings.lora:
        less.append("--lora")
    less = less or ["only a smaller model or a faster processor"]
    return f"it runs at {100 * part:.2g}% of this machine's arithmetic; what may help: {', '.join(less)}"


def of_ours(found: Report, limit: str, settings: Text, method: Any) -> str:
    return f"it is Python around {found.answers} answers; more of them an iteration{flags(method)} share it"


def near(found: Report, limit: str) -> float:
    """How near a part is to its floor, on a core of its own."""
    return (found.floors[limit] or 0.0) / found.loops[0]["us_of"][limit] / (1 - min(0.9, found.lost))


def stronger(found: Report, settings: Text) -> list[str]:
    """Flags that let this machine compute faster."""
    more = [f"--threads {found.machine['cores']}"] if found.machine["threads"] < found.machine["cores"] else []
    if settings.bf16:
        return more + (["--no-bf16"] if found.machine["bf16"] < 1 else [])
    return more + (["--bf16"] if found.machine["bf16"] > FASTER and settings.dtype == "float32" else [])


def flags(method: Any) -> str:
    """The page's own fields that say how many answers there are, in brackets."""
    own = [f"--{name}" for name in SIDE[method.rows] if hasattr(method, name)]
    return f" ({', '.join(own)})" if own else ""
