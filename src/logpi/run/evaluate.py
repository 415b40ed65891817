"""Evaluation: fresh episodes of a frozen policy, one in each of as many environments."""

import contextlib
import dataclasses
import json
import statistics
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from logpi import envs
from logpi.envs.base import Resting
from logpi.errors import LogpiError
from logpi.policy import Policy
from logpi.rollout.control import LONGEST, never_ends
from logpi.run import config, language, passing, worlds
from logpi.run.checkpoint import choose
from logpi.run.folder import finite, safe
from logpi.run.language import Text
from logpi.run.paths import is_path, rewards, wrappers
from logpi.run.policies import is_model
from logpi.run.processes import another
from logpi.workers.construct import Built

STARTS = 10_000  # the seed of their environments
QUESTION = (
    "task",
    "data",
    "level",
    "max_tokens",
    "reward",
)  # settings that say what a language model is asked, and by whom judged
READABLE = 80  # letters of a file's name, beyond which their sum stands for them


@dataclass(frozen=True)
class Evaluation:
    """The returns of some episodes, undiscounted, rewards as the environment gave them."""

    returns: list[float]
    lengths: list[int]
    deterministic: bool
    unit: str = "episodes"

    @property
    def mean(self) -> float:
        return statistics.fmean(self.returns)

    @property
    def interval(self) -> float:
        """Half the width of the 95 % interval of the mean, 1.96 standard errors.

        Where all answers are worth 0, or all 1, these are 0: then how far the exact bound lies.
        """
        if self.unit == "prompts" and {*self.returns} in ({0.0}, {1.0}):
            low, high = passing.interval(self.returns)
            return high - low
        return (
            1.96 * statistics.stdev(self.returns) / len(self.returns) ** 0.5 if len(self.returns) > 1 else float("nan")
        )

    def __str__(self) -> str:
        how = "deterministic" if self.deterministic else "sampled"
        digits = 1 if self.unit == "episodes" else 3
        return f"{self.mean:.{digits}f} ± {self.interval:.{digits}f} over {len(self.returns)} {self.unit} ({how})"


@torch.no_grad()
def evaluate(
    policy: Policy,
    env: Any,
    episodes: int = 100,
    deterministic: bool = True,
    seed: int = STARTS,
    backend: envs.Backend = "auto",
) -> Evaluation:
    """Play `episodes` episodes, each the first of its own seeded environment: none is left out for being long."""
    like = next(policy.parameters())
    made = envs.make(env, episodes, backend, device=str(like.device), dtype=like.dtype)
    with contextlib.closing(made):
        policy.must_fit(made.observation_space, made.action_space)
        return Evaluation(*_played(policy, made, seed, deterministic), deterministic)


def _played(policy: Policy, made: envs.Environments, seed: int, deterministic: bool) -> tuple[list[float], list[int]]:
    """(return, length) of the first episode in each environment."""
    like, episodes = next(policy.parameters()), made.n
    generator = torch.Generator(like.device).manual_seed(seed)
    obs = made.reset(torch.randint(2**31, (episodes,), generator=torch.Generator().manual_seed(seed)).tolist())
    policy.forget()
    alive = torch.ones(episodes, dtype=torch.bool, device=like.device)
    returns = torch.zeros(episodes, dtype=torch.float64, device=like.device)
    lengths = torch.zeros(episodes, dtype=torch.long, device=like.device)
    for _ in range(LONGEST):
        step = made.step(torch.as_tensor(policy.act(obs, deterministic, generator)))
        alive = alive if step.mask is None else alive & step.mask.to(alive.device)
        returns += torch.where(alive, step.reward.to(returns), 0.0)
        lengths += alive
        ended = step.terminated | step.truncated
        policy.forget(ended if step.mask is None else ended | ~step.mask)
        over = ended if step.going is None else ended & ~step.going
        alive, obs = alive & ~over.to(alive.device), step.obs
        if isinstance(made, Resting) and over.any():
            made.rest(~alive.cpu().numpy())
        if not alive.any():
            policy.forget()
            return returns.tolist(), lengths.tolist()
    raise LogpiError(never_ends(LONGEST))


def answered(
    policy: Any, settings: Text, rewards: Any, prompts: int, deterministic: bool = False, seed: int = STARTS
) -> Evaluation:
    """The rewards of a language model's answers to prompts of the task's test, one each."""
    from logpi.lm.answers import answers
    from logpi.lm.generate import Sampling

    limit = language.limit_of(settings, rewards.task)
    return of_prompts(answers(policy, rewards, prompts, limit, seed, Sampling(deterministic)), deterministic)


def of_prompts(found: Any, deterministic: bool) -> Evaluation:
    """Answers as an evaluation: a prompt's return is the mean over those to it, so prompts are what is averaged over."""
    lengths = [x for row in found.lengths for x in row]
    return Evaluation([statistics.fmean(x) for x in found.rewards], lengths, deterministic, "prompts")


def environment_of(
    run: Path, env: str | None = None, wrap: Sequence[str] = (), env_options: Sequence[str] = ()
) -> tuple[str, Built, envs.Backend]:
    """(name, what `envs.make` takes, by which backend) of `env`, or of the one a run was trained on, from its config.toml.

    Backend, options, wrappers and masks are the run's own, `env_options` over them; but a folder runs no code: what is not
    Gymnasium's is to be passed again. Of another environment than the run's, backend and options are as asked for here.
    """
    trained = _trained_on(run, env)
    name = env or trained["env"]
    if is_path(name) and env is None:
        raise LogpiError(f"This run used an environment of yours ({name}): pass it again, --env {name}.")
    same = name == trained.get("env")
    own, asked = surroundings(run, env, wrap, env_options)
    around = wrap if wrap and not same else wrappers(own["wrap"], wrap, f"{run / 'config.toml'}")
    construct = envs.construction(name, asked["env_options"], around, trained.get("masks", "obs"))
    return name, construct, trained.get("backend", "auto") if same else "auto"


def surroundings(
    run: Path, env: str | None, wrap: Sequence[str], env_options: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """(options and wrappers that the run has for this environment, those that are asked for)."""
    trained = _trained_on(run, env)
    same = env in (None, trained.get("env"))
    options, around = trained.get("env_options", []) if same else [], trained.get("wrap", [])
    asked = {"env_options": _settled([*options, *env_options]), "wrap": [*wrap] if wrap and not same else around}
    return {"env_options": _settled(options), "wrap": around}, asked


def _settled(options: Sequence[str]) -> list[str]:
    """'key=value' of every key, the last one that was given, in one order."""
    return sorted({text.partition("=")[0]: text for text in options}.values())


def is_text(run: Path) -> bool:
    """Is it a language model, or the run of one?"""
    return is_model(run) or "task" in _trained_on(run, "")


def text_settings(run: Path, given: Any) -> Text:
    """What a language model's run was asked for, from its config.toml, with another task or other data where they are given.

    A model folder says nothing of itself.
    """
    asked = {k: x for k in ("task", "data", "level", "max_tokens") if (x := getattr(given, k)) is not None}
    worlds.must_be_one(asked, given, Text, "--")
    if is_model(run) and not asked.keys() & {"task", "data"}:
        raise LogpiError(f"{run} is a model and no run, so it has no task: give --task or --data.")
    other = {"data": None} if "task" in asked else {}
    found = dataclasses.replace(own_settings(run), **other | asked)
    worlds.must_mean_something(asked, found, found, "--")
    return found


def own_settings(run: Path) -> Text:
    """Those of a language model's run; a model folder has none, and so the usual ones."""
    return config.fill(Text(), {} if is_model(run) else _trained_on(run, ""), str(run / "config.toml"))


def otherwise(own: dict[str, Any], asked: dict[str, Any]) -> str:
    """What was asked otherwise than by the run itself, as a part of a file's name."""
    told = {k: asked[k] for k in own if asked[k] != own[k]}
    mark = "-".join(f"{k}-{'+'.join(x) if isinstance(x, tuple | list) else x}" for k, x in told.items())
    return f"-{safe(mark) if len(mark) <= READABLE else sha256(mark.encode()).hexdigest()[:16]}" if mark else ""


def must_be_typed(settings: Text, task: str | None) -> None:
    """Refuse a task of the user's that only a file names: a folder runs no code."""
    if is_path(settings.task) and task is None and not settings.data:
        raise LogpiError(f"This run used a task of yours ({settings.task}): pass it again, --task {settings.task}.")


def text_kinds(run: Path, policy: Any, given: Any) -> tuple[str, list[Evaluation], dict[str, Any], str]:
    """(the task, greedy answers and sampled ones, what else is known of these, the file's mark) of a language model's run."""
    from logpi.lm.answers import answers
    from logpi.lm.generate import Sampling

    settings = text_settings(run, given)
    must_be_typed(settings, given.task)
    named = rewards(settings.reward, given.reward, str(run / "config.toml"))
    settings = dataclasses.replace(settings, reward=(*named,))
    policy.head.temperature = given.temperature or policy.head.temperature
    with contextlib.closing(language.rewards_of(settings)) as judges:
        judges.must_load()
        greedy = answered(policy, settings, judges, given.episodes, True, given.seed)
        limit, how = language.limit_of(settings, judges.task), Sampling(top_k=given.top_k, top_p=given.top_p)
        found = answers(policy, judges, given.episodes, limit, given.seed, how, given.samples)
        more = {k: getattr(settings, k) for k in QUESTION}
        more |= {"samples": given.samples, "rewards": found.rewards, "temperature": policy.head.temperature}
        more |= {"top_k": how.top_k, "top_p": how.top_p, "reward_failures": sum(x.failures for x in judges.judges)}
        none = {0.0, 1.0, *(x.failed for x in judges.judges)}  # a failed reward is no pass
    if none >= {x for row in found.rewards for x in row}:
        more["pass_at"] = passing.table([[x == 1 for x in row] for row in found.rewards])
    own = {k: getattr(own_settings(run), k) for k in QUESTION if k != "task"}  # which has a place of its own
    return settings.where, [greedy, of_prompts(found, False)], more, otherwise(own, more)


def _trained_on(run: Path, env: str | None) -> dict[str, Any]:
    """The section [run] of a run's config.toml; where there is none, {} for an environment that is named."""
    for folder in (run, run.parent.parent):
        if (folder / "config.toml").is_file():
            try:
                found = tomllib.loads((folder / "config.toml").read_text())["run"]
                return found if "task" in found else found | {"env": found["env"]}
            except (ValueError, KeyError) as wrong:
                if env is None:
                    raise LogpiError(f"{folder / 'config.toml'} cannot be read ({wrong}): pass --env.") from wrong
    if env is None:
        raise LogpiError(f"{run} has no config.toml that names its environment: pass --env.")
    return {}


def write(
    run: Path, env: str, seed: int, kinds: list[Evaluation], more: dict[str, Any] | None = None, mark: str = ""
) -> Path:
    """eval/<step>-<env>-<seed>-<episodes>.json in the run or model folder: every return, the seed, the mean and its interval; more.

    mark: in the file's name too.
    """
    checkpoint = run.resolve() if is_model(run) else choose(run)[0]
    folder = (run if is_model(run) else checkpoint.parent.parent) / "eval"
    folder.mkdir(exist_ok=True)
    file = folder / f"{checkpoint.name}-{safe(env)}-seed{seed}-{len(kinds[0].returns)}{mark}.json"
    found = [finite({"mean": k.mean, "interval_95": k.interval, **dataclasses.asdict(k)}) for k in kinds]
    told = {"env": env, "checkpoint": checkpoint.name, "seed": seed, "evaluations": found} | finite(more or {})
    file.write_text(json.dumps(told, indent=1) + "\n")
    return file


def in_new_process(run: Path, settings: Any, episodes: int) -> str:
    """What `logpi eval` says of the saved checkpoint, in a process that has nothing but the folder."""
    command = ["eval", str(run), "--episodes", str(episodes)]
    own = {kind: getattr(settings, kind, None) or "" for kind in ("network", "env", "task")}
    command += [word for kind, path in own.items() if is_path(path) for word in (f"--{kind}", path)]
    for kind in ("wrap", "reward"):
        command += [f"--{kind}", *getattr(settings, kind)] if getattr(settings, kind, ()) else []
    with another() as process:
        code, printed = process.carry_out(command)
        if code:
            return f"could not be evaluated: {' '.join(process.complaints())}"
    *_, fixed, drawn, _ = printed.splitlines()
    unit = "prompts it never saw" if isinstance(settings, Text) else "fresh ones"
    asked = fixed.partition(" over ")[2].split()[0]  # of data there may be fewer
    return f"{asked} {unit}, of the saved policy: {fixed.split(' over')[0]} (sampled: {drawn.split(' over')[0]})"
