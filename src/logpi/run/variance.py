"""`logpi variance`: the noise of gradient estimators, side by side on the same trajectories of a frozen policy.

A part, in the sense of `noise`, is a batch of N whole episodes: credit is computed on each batch alone, as it would be in
training, so that baselines made from the batch carry the noise of a batch of that size.
"""

import copy
import math
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from logpi import critic as critics
from logpi import envs, noise, psi
from logpi.batch import Batch, Rows
from logpi.errors import LogpiError
from logpi.exact.estimators import RETURNS, Baseline, Choice, Credit, Estimator
from logpi.loop import credited, loop
from logpi.now import row_scores
from logpi.policy import Policy
from logpi.rollout.control import Control
from logpi.run.setup import Settings, assemble, find_method

LESSON: list[tuple[Credit, Baseline]] = [
    ("total", "none"),
    ("to_go", "none"),
    ("to_go", "mean"),
    ("to_go", "time"),
    ("to_go", "leave_one_out"),
    ("to_go", "value"),
    ("gae", "none"),
    ("td", "none"),
]
UNBIASED: list[tuple[Credit, Baseline]] = [
    ("to_go", "value"),
    ("to_go", "leave_one_out"),
]  # V knows other episodes only
TOGETHER = 64  # episodes collected at once, or one batch where that is more
STEP = 0.01  # KL of the ascent after which the ess is taken, along the reference
FIT = critics.Fit(lr=3e-3, epochs=10, minibatches=64)


@dataclass(frozen=True)
class Measured:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Noise:
    """One estimator's line of the table; the unit is an episode."""

    estimator: str
    variance: Measured  # total: the trace of the covariance of one episode's gradient
    ratio: Measured  # of that variance to the first estimator's
    snr: Measured  # of the gradient of a batch
    cosine: Measured  # of the gradient of a batch to the reference over all other batches
    noise_scale: Measured  # the episodes whose SNR is 1
    ess: Measured  # share of a batch's actions that count after one ascent along its gradient
    own_scale: bool = False  # standardised: variance, ratio and ess do not compare, the others do


def estimators(choices: list[tuple[Credit, Baseline]], **others: Any) -> dict[str, Estimator]:
    """Pages by their names, 'to_go - value'."""
    names = (credit if baseline == "none" else f"{credit} - {baseline}" for credit, baseline in choices)
    pages = (Estimator(Choice(psi=credit, baseline=baseline, **others)) for credit, baseline in choices)
    return dict(zip(names, pages, strict=True))


def crossed(credits: tuple[Credit, ...], baselines: tuple[Baseline, ...]) -> list[tuple[Credit, Baseline]]:
    """Every credit with every baseline; credit that holds one (td, gae, ...) stands once, without. None named: the lesson."""
    grouped = [b for b in baselines if b.startswith("group")]
    if grouped:
        cure = "take leave_one_out or time"
        raise LogpiError(f"The baseline {grouped[0]} needs groups from one start, and episodes begin anywhere: {cure}.")
    if {*baselines} - {"none"} and not {*credits} & {*RETURNS}:
        raise LogpiError(f"--baseline {baselines[0]} is subtracted from returns: name some, --psi {' '.join(RETURNS)}.")
    pairs = [(c, b if c in RETURNS else "none") for c in credits for b in baselines or ("none",)]
    return list(dict.fromkeys(pairs)) or LESSON


def trained(method: str, env: str, steps: int, seed: int) -> Policy:
    """The policy of a method's page after so many steps, in memory; 0: the first one."""
    parts = assemble(find_method(method), Settings(env=env, steps=max(1, steps), seed=seed))
    try:
        for _ in loop(parts) if steps else ():
            pass
    finally:
        parts.collect.envs.close()
    return parts.policy


def frozen(policy: Policy) -> Policy:
    """A copy whose normaliser stands still, whose rewards are the environment's own, and that can be differentiated."""
    policy = copy.deepcopy(policy).eval().requires_grad_(True)
    policy.return_normaliser = None
    return policy


def collect(
    policy: Policy,
    construct: Any,
    batches: int,
    size: int,
    gamma: float,
    seed: int,
    q: bool,
    others: int = 0,
    backend: envs.Backend = "auto",
) -> list[Batch]:
    """Batches of `size` whole episodes, [N, T], with the values of critics that were fitted to `others` more (0: a third)."""
    generator = torch.Generator(next(policy.parameters()).device).manual_seed(seed)
    seeds = torch.randint(2**31, (4,), generator=torch.Generator().manual_seed(seed)).tolist()
    together = size * max(1, TOGETHER // size)
    play = partial(played, policy, construct, together=together, generator=generator, backend=backend)
    steps = joined(play(others or math.ceil(batches * size / 3), seeds=seeds[:2]), gamma)
    v, mean, std = fitted("v", policy, steps, seed)
    found: list[Batch] = []
    for b in play(batches * size, seeds=seeds[2:], critic=v):
        b = b.with_(value=mean + std * b.value, value_next=mean + std * b.value_next)  # type: ignore[operator]
        found += [b[at : at + size] for at in range(0, len(b), size)]
    if q:
        critic, mean, std = fitted("q", policy, steps, seed)
        with torch.no_grad():
            said = [critic.evaluate(policy, policy.trunk(b.obs), b.obs, b.action, generator)["q"] for b in found]
        found = [b.with_(q=mean + std * x) for b, x in zip(found, said, strict=True)]
    return found


def played(
    policy: Policy,
    construct: Any,
    episodes: int,
    together: int,
    generator: torch.Generator,
    seeds: list[int],
    critic: Any = None,
    backend: envs.Backend = "auto",
) -> list[Batch]:
    """Exactly so many whole episodes, so many at once; what remains is one more batch."""
    like, found = next(policy.parameters()), list[Batch]()
    for n, rounds, seed in zip((together, episodes % together), (episodes // together, 1), seeds, strict=True):
        if n == 0 or rounds == 0:
            continue
        made = envs.make(construct, n, backend, device=str(like.device), dtype=like.dtype)
        try:
            policy.must_fit(made.observation_space, made.action_space)
            control = Control(made, "episodes", generator, seed)
            found += [control(policy, critic) for _ in range(rounds)]
        finally:
            made.close()
    return found


def joined(batches: list[Batch], gamma: float) -> Batch:
    """The actions of several batches one after the other, [N], each with the return that followed it as target."""
    steps = [Rows(b.with_(target=psi.reward_to_go(b.reward, b.ended, gamma)), torch.Generator()).batch for b in batches]
    names = [x.name for x in fields(Batch) if getattr(steps[0], x.name) is not None]
    return steps[0].with_(**{name: torch.cat([getattr(b, name) for b in steps]) for name in names})


def fitted(kind: str, policy: Policy, steps: Batch, seed: int) -> tuple[Any, Tensor, Tensor]:
    """(critic, mean, std): mean + std * critic predicts the target."""
    assert steps.target is not None
    mean, std = steps.target.mean(), steps.target.std(correction=0).clamp(min=1e-8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = critics.build_critic(kind, policy, policy.spec["observations"], policy.spec["hidden"])
    assert critic is not None
    critic.to(steps.target)
    rows = Rows(steps.with_(target=(steps.target - mean) / std), torch.Generator().manual_seed(seed))
    critics.fit(critic, policy, rows, torch.optim.Adam(critic.parameters(), lr=FIT.lr), FIT)
    return critic, mean, std


def told(page: Any, policy: Policy, b: Batch, state: dict[str, Any]) -> Batch:
    """The batch with the page's credit, made from it alone."""
    return credited(page, b.with_(scores=partial(row_scores, policy, b)), state)


def gradients(page: Any, policy: Policy, batches: list[Batch], state: dict[str, Any]) -> Tensor:
    """[K, P]: the gradient of each batch, credit and weights made from it alone."""
    found = []
    for b in batches:
        b = told(page, policy, b, state)
        rows = Rows(b, torch.Generator(), whole=True)
        found.append(noise.part_gradients(page, policy, b, rows, state, parts=1)[0][0])
    return torch.stack(found)


def standardises(page: Any, policy: Policy, b: Batch, state: dict[str, Any]) -> bool:
    """Whether twice the rewards, and twice what the critics say of them, is the same credit."""
    names = [x for x in ("reward", "value", "value_next", "q") if getattr(b, x) is not None]
    twice = b.with_(**{x: 2 * getattr(b, x) for x in names})
    one, two = (told(page, policy, x, state).psi for x in (b, twice))
    assert one is not None and two is not None
    return torch.allclose(one[b.mask], two[b.mask], rtol=1e-3, atol=1e-5)


def refusal(page: Any, policy: Policy, b: Batch, state: dict[str, Any]) -> str:
    """What a page of the user's says where it cannot be asked for the gradient of whole episodes; '' where it can."""
    try:
        gradients(page, policy, [b], state)
    except (LogpiError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError) as wrong:
        return f"on whole episodes it fails ({type(wrong).__name__}: {' '.join(str(wrong).split())[:80]})"
    return ""


def compare(
    pages: dict[str, Any],
    policy: Policy,
    batches: list[Batch],
    unbiased: dict[str, Any],
    state: dict[str, Any] | None = None,
) -> tuple[list[Noise], str, float]:
    """The noise of each page's gradient on the same batches; and which reference was taken, with its cosine to the truth.

    pages: `psi`, `objective` and `average` of a method page are asked for, nothing else. batches: 3 or more of N rows,
    from wherever rows come. unbiased: candidates for the reference; the one of least variance is taken. state: of the pages.
    """
    state = state or {}
    size, count = sum(p.numel() for p in policy.parameters()), len(batches)
    if 2 * count * size > noise.LIMIT:
        cure = "give fewer --episodes or a larger --batch"
        raise LogpiError(f"{count} gradients of {size:,} numbers, twice, are more than memory is taken for: {cure}.")
    n = torch.full((count,), float(len(batches[0])), dtype=torch.float64)
    found = {name: gradients(page, policy, batches, state) for name, page in unbiased.items()}
    chosen = min(found, key=lambda name: float(noise.moments(noise.gram(found[name]).cpu(), n)[0]))
    best, first, lines = found.pop(chosen), None, []
    inner = noise.gram(best).cpu()
    rate = step_length(policy, batches, best.mean(0))
    for name, page in pages.items():
        g = gradients(page, policy, batches, state)
        inside = noise.gram(g).cpu()
        first = inside if first is None else first
        data = (n, shares(policy, batches, rate * g), inside, first, noise.gram(g, best).cpu(), inner)
        apart = standardises(page, policy, batches[0], state)
        lines.append(line(name, len(batches[0]), noise.jackknife(statistics, *data), apart))
    variance, signal = (float(x) for x in noise.moments(inner, n))
    return lines, chosen, math.sqrt(max(signal, 0.0) / (max(signal, 0.0) + variance / float(n.sum())))


def statistics(n: Tensor, ess: Tensor, own: Tensor, first: Tensor, cross: Tensor, best: Tensor) -> Tensor:
    """(log S, log of its ratio to the first's, SNR of a batch, cosine, ess), [5], from what the batches' gradients are like."""
    variance, signal = noise.moments(own, n)
    ratio = variance / noise.moments(first, n)[0]
    cosine = noise.alignment(own, cross, best)
    return torch.stack([variance.log(), ratio.log(), n.mean() * signal / variance, cosine, ess.mean()])


@torch.no_grad()
def moved(policy: Policy, step: Tensor) -> Policy:
    """A copy at theta + step, step [P]."""
    other = copy.deepcopy(policy)
    at = torch.nn.utils.parameters_to_vector(other.parameters())
    torch.nn.utils.vector_to_parameters(at + step, other.parameters())
    return other


@torch.no_grad()
def step_length(policy: Policy, batches: list[Batch], direction: Tensor) -> Tensor:
    """The learning rate at which one plain ascent along a direction [P] moves the policy by a mean KL of STEP."""
    at = torch.nn.utils.parameters_to_vector(policy.parameters())
    rate, b = 1e-2 * at.norm() / direction.norm().clamp(min=1e-30), batches[0]
    for _ in range(5):  # KL is near to quadratic in the rate
        kl = policy.kl_old(b, moved(policy, rate * direction)(b.ours(b.obs))).mean()
        rate = rate * (STEP / kl.clamp(min=1e-12)).sqrt().clamp(0.01, 100)
    return rate


@torch.no_grad()
def shares(policy: Policy, batches: list[Batch], steps: Tensor) -> Tensor:
    """ess [K]: the effective share of each batch's own actions after the step [P] that its gradient takes."""
    found = []
    for b, step in zip(batches, steps, strict=True):
        log_pi = moved(policy, step).log_prob(b.ours(b.obs), b.ours(b.action))
        found.append(noise.ess(log_pi - b.ours(b.log_pi)))
    return torch.stack(found).cpu().double()


def line(name: str, size: int, found: tuple[Tensor, Tensor, Tensor], own_scale: bool) -> Noise:
    """(value, low, high) of the statistics as a line: no logarithms, and the noise scale from the SNR of `size` episodes."""
    x = torch.stack(found, 1)
    x[:2] = x[:2].exp()
    x[3], x[4] = x[3].clamp(-1, 1), x[4].clamp(0, 1)
    variance, ratio, snr, cosine, ess = (Measured(*three) for three in x.tolist())
    value, high, low = (size / y if y > 0 else math.inf for y in (snr.value, snr.low, snr.high))
    return Noise(name, variance, ratio, snr, cosine, Measured(value, low, high), ess, own_scale)
