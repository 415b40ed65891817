"""From a method, a task and settings to the parts of a run on a language model."""

import dataclasses
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from logpi.device import pick, threads_for, use_threads
from logpi.errors import LogpiError, short
from logpi.lm.pretrained import SIZES
from logpi.loop import Parts
from logpi.page import Between, Count, Finite, Fraction, Positive, option, page
from logpi.policy.tokens import Tokens
from logpi.run.beside import critic_for, reference_policy
from logpi.run.optimizers import optimizers
from logpi.run.paths import is_path, load_object


@page
class Text:
    """Of a run on a language model, whatever the method."""

    task: str = "addition"  # one that logpi brings along, reasoning-gym/NAME, or ./file.py:MyTask
    data: str | None = None  # a .jsonl or .parquet file with a column prompt, instead of a task
    level: Count | None = None  # its difficulty: digits, letters, numbers
    model: str = "tiny"  # tiny or small: new; else a folder, or the name of a hub model
    warmup: Annotated[int, Between(0)] = 0  # supervised steps on the task's answers before, of a new model
    warmup_lr: Positive = 1e-3  # their learning rate
    warmup_rows: Count = 256  # answers in each
    warmup_until: Fraction = 1.0  # they end once a right answer is so probable
    steps: Count = 1_000_000  # tokens to sample in all
    seed: Annotated[int, Between(0, 2**63 - 1)] = 0  # of weights, prompts and sampling
    max_tokens: Count | None = None  # of an answer; else what the task needs
    reward: tuple[str, ...] = ()  # math, code, or ./file.py:f(prompts, completions, **columns); else the task's own
    reward_model: str | None = None  # a folder that logpi reward-model made; may stand beside --reward
    reward_weights: tuple[Finite, ...] = ()  # of each, the reward model last; else 1
    reward_limit: Positive = 10.0  # seconds that a call may take
    reward_memory: Annotated[int, Between(0)] = 0  # MiB that its process may take; 0: all there is
    reward_failed: Finite = 0.0  # what stands for a reward that failed
    temperature: Positive = 1.0  # of sampling, and of pi in every formula
    engine: str | None = None  # ./file.py:MyEngine, what samples in training; else logpi's own
    correction: Literal["none", "truncated", "masked"] = "truncated"  # pi_old / mu of what it drew, cut or dropped
    correction_over: Literal["token", "sequence"] = "token"  # whose pi_old / mu that is
    correction_limit: Annotated[float, Between(1)] = 2.0  # beyond which it is cut or dropped
    lora: Annotated[int, Between(0)] = 0  # rank of an adapter, which alone is trained; 0: all weights are
    lora_alpha: Positive | None = None  # what it says counts alpha / rank; else twice the rank
    optimizer: str = "Adam"  # any of torch.optim
    beta2: Fraction = 0.95  # of Adam: near 1 it remembers the size of old gradients, and steps shrink with the signal
    reference: str | None = None  # model folder that is pi_ref; else the first policy
    value_model: str | None = None  # V's own: a folder, or copy, of the policy; else V is a head on the policy
    micro: Count | None = None  # tokens through the model at once: memory only; else what some 64 MiB hold
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"  # where tensors live
    dtype: Literal["float32", "float64"] = "float32"  # of parameters
    bf16: bool = False  # the model computes in bfloat16, log pi stays float32
    fast: Literal["auto", "off"] = "auto"  # sampling, packing and attention by twins, where they cover the model
    threads: Count | None = None  # of torch; else one for small models, and all cores for others

    where = property(lambda self: Path(self.data).stem if self.data else self.task)


def assemble(method: Any, settings: Text, name: str, weights: Path | None, engine: Any = None) -> Parts:
    """Everything that `loop` needs, built from one seed. weights: a checkpoint, whose model is taken. engine: the caller's own."""
    must_have_transformers()
    from logpi.lm.lora import must_have_rank

    must_have_rank(settings.lora, settings.lora_alpha)
    if settings.bf16 and settings.dtype != "float32":
        raise LogpiError(f"--bf16 computes with float32 parameters, and --dtype is {settings.dtype}: leave one away.")
    settings = at_home(settings)
    device, task = pick(settings.device), (rewards := rewards_of(settings)).task
    seeds = torch.randint(2**31, (4,), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    policy = model_for(method, settings, task, seeds[0], weights)
    limit = limit_of(settings, task)
    must_fit(policy, task, limit)
    rewards.must_load()
    use_threads(settings.threads, policy)
    policy.place(device, getattr(torch, settings.dtype))
    note = taught(policy, settings, task) if settings.warmup and weights is None and settings.model in SIZES else ""
    critic = critic_for(method, settings, policy, seeds[1])
    use_threads(settings.threads, policy, *filter(None, [critic]))
    if settings.lora:
        adapt(policy, settings, seeds[0], weights)
    reference = reference_policy(method, settings, policy)
    if settings.value_model or settings.reference:
        must_fit(policy, task, limit)
    optimizer, critic_optimizer = optimizers(method, settings.optimizer, policy, critic, 1e-8, settings.beta2)
    chance = torch.Generator(device).manual_seed(seeds[2])
    micro = settings.micro or policy.at_once()
    collect = collector(method, settings, rewards, limit, chance, micro, engine_of(settings, engine))
    collect.note = note
    return Parts(
        method=method,
        policy=policy,  # type: ignore[arg-type]
        critic=critic,
        reference=reference,
        collect=collect,
        optimizer=optimizer,
        critic_optimizer=critic_optimizer,
        generator=torch.Generator().manual_seed(seeds[3]),
        state={"iteration": 0, "steps": 0, "horizon": settings.steps, "progress": 0.0},
        micro=micro,
        config={"method": {"name": name} | dataclasses.asdict(method), "run": dataclasses.asdict(settings)},
    )


def at_home(settings: Text) -> Text:
    """The settings with whole paths for folders of models, so that a run goes on from wherever it is resumed."""
    folders = {k: getattr(settings, k) or "copy" for k in ("model", "reference", "value_model", "reward_model")}
    here = {k: Path(x) for k, x in folders.items() if x not in (*SIZES, "copy") and Path(x).is_dir()}
    return dataclasses.replace(settings, **{k: str(x.resolve()) for k, x in here.items()})  # type: ignore[arg-type]


def must_fit(policy: Tokens, task: Any, limit: int) -> None:
    """Refuse a limit that leaves no room for a prompt; and of data, whose rows are all known, those that do not fit."""
    if policy.context is not None and limit >= policy.context:
        raise LogpiError(
            f"The model's context is {policy.context} tokens: --max-tokens {limit} leaves none for a prompt."
        )
    if hasattr(task, "must_fit"):
        task.must_fit(policy, limit)


def taught(policy: Tokens, settings: Text, task: Any) -> str:
    """The supervised steps before; how many there were, in words."""
    from logpi.lm import sft

    how = (settings.warmup, settings.warmup_rows, settings.warmup_lr, settings.warmup_until)
    micro = settings.micro or policy.at_once()
    return f"warm-up: {sft.warm_up(policy, task, settings.seed, *how, micro)} supervised steps"


def collector(
    method: Any, settings: Text, rewards: Any, limit: int, chance: torch.Generator, micro: int, engine: Any
) -> Any:
    """What collects for a page: as many prompts as it says, each answered as often as it says."""
    from logpi.lm.correction import Correction
    from logpi.rollout.language import Language

    group = option(method, "group") if method.rows == "groups" else 1
    prompts = option(method, {"groups": "starts", "episodes": "episodes", "segments": "envs"}[method.rows])
    sizes = (method.rows, prompts, group, limit)
    correction = Correction(settings.correction, settings.correction_over, settings.correction_limit)
    refill = option(method, "refill")
    return Language(rewards.task, rewards, *sizes, chance, settings.seed, micro, refill, engine, correction)


def must_have_transformers() -> None:
    if find_spec("transformers") is None:
        raise LogpiError('Language models need transformers: pip install "logpi[lm]"')


def engine_of(settings: Text, given: Any) -> Any:
    """What samples, of the caller's; None: logpi's own."""
    found = load_object(settings.engine) if given is None and settings.engine else given
    try:
        found = found() if isinstance(found, type) else found
    except LogpiError:
        raise
    except Exception as wrong:  # the user's code
        raise LogpiError(
            f"The engine {settings.engine} cannot be made: its __init__ raised {type(wrong).__name__} ({short(str(wrong))})."
        ) from wrong
    missing = [x for x in ("name", "version", "rounding", "sync", "generate", "log_prob") if not hasattr(found, x)]
    if found is not None and missing:
        raise LogpiError(f"{type(found).__name__} is not an engine: it has no {missing[0]}.")
    return found


def threads(settings: Text) -> int:
    """How many it will use, before its model is there."""
    from logpi.lm.pretrained import size_of

    beside = settings.model if settings.value_model == "copy" else settings.value_model
    return threads_for(settings.threads, size_of(settings.model) + (size_of(beside) if beside else 0))


def limit_of(settings: Text, task: Any) -> int:
    """Tokens that an answer may have."""
    found: int | None = settings.max_tokens or task.limit
    if found is None:
        who = "Data do" if settings.data else f"{settings.task} does"
        raise LogpiError(f"How long may an answer be? {who} not say: give --max-tokens.")
    return found


def task_of(settings: Text) -> Any:
    """The task, or the data in its place."""
    from logpi.lm import tasks
    from logpi.lm.data import Table

    return Table(Path(settings.data)).must_hold_out() if settings.data else tasks.find(settings.task, settings.level)


def rewards_of(settings: Text) -> Any:
    """The task's reward, or the user's functions and a reward model in its place; what is the user's is in a process of its own."""
    from logpi.lm import scorers
    from logpi.lm.judges import Judge
    from logpi.lm.rewards import Rewards

    task, how = task_of(settings), (settings.reward_limit, settings.reward_memory, settings.reward_failed)
    if "code" in settings.reward:
        scorers.must_have_tests(task)
    judges: list[Any] = [scorers.scorer(name, *how) for name in settings.reward]
    if settings.reward_model:
        from logpi.lm import reward_model

        judges.append(reward_model.load(settings.reward_model, pick(settings.device)))
    judges = judges or [*scorers.own(task, *how)]
    if not judges and not settings.data and is_path(settings.task):
        judges = [Judge.of_task(settings.task, settings.level, *how)]
    return Rewards(task, judges, settings.reward_weights)


def model_for(method: Any, settings: Text, task: Any, seed: int, weights: Path | None) -> Tokens:
    """The policy: a new model, one of a folder or the hub, or that of a checkpoint. Natural steps need plain attention."""
    from logpi.lm import lora, pretrained

    eager = not hasattr(method, "lr")
    if weights is not None:
        apart = settings.lora and lora.is_adapter(weights)
        model, tokenizer = pretrained.load(lora.base_of(weights)[0] if apart else str(weights), eager)
    else:
        letters = (task.letters or must_name_a_model()) if settings.model in SIZES else ""
        if settings.warmup and not letters:
            warnings.warn(f"--warmup is for new models: {settings.model} is taken as it is.", stacklevel=2)
        model, tokenizer = pretrained.begin(settings.model, letters, seed, eager)
    policy = Tokens(model.eval(), tokenizer, settings.temperature, settings.bf16)
    policy.fast = policy.fast and settings.fast == "auto"
    return policy


def adapt(policy: Tokens, settings: Text, seed: int, weights: Path | None) -> None:
    """A new adapter; that of a checkpoint gets its weights later."""
    from logpi.lm import lora

    named = None if settings.model in SIZES else settings.model
    base = str(Path(named).resolve()) if named and Path(named).is_dir() else named
    if weights is not None:
        base = lora.base_of(weights)[1] if lora.is_adapter(weights) else None
    lora.add(policy, settings.lora, settings.lora_alpha or 2 * settings.lora, seed, base)


def must_name_a_model() -> str:
    raise LogpiError("Data need a model that reads them: give --model, a hub model or a folder, which logpi sft makes.")
