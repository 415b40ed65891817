"""What a policy did at each step, for the lab: a small JSON file beside the film, `logpi play RUN --record`."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from logpi import envs
from logpi.critic import build_critic
from logpi.policy import Decision, Policy
from logpi.policy.categorical import Categorical
from logpi.run.checkpoint import choose, run_of
from logpi.run.files import read_json, rounded, write_whole
from logpi.run.folder import safe
from logpi.run.pack import fill, read_tensors, unpack
from logpi.run.play import Played

STORED = 5000  # steps of one file; more are played and not written
LISTED = 16  # components of an action, or actions with a probability, of which each has a curve


class Alone:
    """One environment of any backend, stepped as Gymnasium steps one: for what draws no pictures."""

    render_mode = None

    def __init__(self, made: envs.Environments) -> None:
        self.made, self.close = made, made.close
        self.observation_space, self.action_space = made.observation_space, made.action_space

    def reset(self, seed: int) -> tuple[Tensor, dict[str, Any]]:
        return self.made.reset([seed]), {}

    def step(self, action: Tensor) -> tuple[Tensor, float, bool, bool, dict[str, Any]]:
        step = self.made.step(action)
        goes_on = step.going is not None and bool(step.going)
        over = [bool(x) and not goes_on for x in (step.terminated, step.truncated)]
        return step.obs, float(step.reward), *over, {}  # type: ignore[return-value]


class Recorder:
    """`play` tells it of every step; `take` gives the episode. Values are those of the critic, in the rewards' own unit."""

    def __init__(self, policy: Policy, critic: nn.Module | None) -> None:
        self.policy, self.critic, self.room = policy, critic, STORED
        self.generator = torch.Generator(next(policy.parameters()).device).manual_seed(0)
        self.listed = isinstance(policy.head, Categorical) and policy.head.outputs <= LISTED
        self.rows: list[dict[str, Any]] = []
        self.terminated = False

    @torch.no_grad()
    def __call__(self, decision: Decision, reward: float, terminated: bool) -> None:
        self.terminated = terminated
        if not self.room:
            return
        self.room -= 1
        head, params, raw = self.policy.head, decision.params, decision.raw
        row = {"reward": reward, "log_pi": head.log_prob(params, raw), "entropy": head.entropy(params, raw)}
        row["action"] = head.to_env(raw).flatten()[:LISTED]
        if self.listed:
            row["probability"] = params.softmax(-1).flatten()
        if self.critic is not None:
            row["value"] = self._value(decision)
        self.rows.append(row)

    def _value(self, at: Decision) -> Tensor:
        assert self.critic is not None
        value: Tensor = self.critic.evaluate(self.policy, at.features, at.obs, at.raw, self.generator)["value"]  # type: ignore[operator]
        scale = self.policy.return_normaliser
        return value if scale is None or not scale.count else scale.inverse(value)

    def take(self, played: Played) -> dict[str, Any]:
        rows, self.rows = self.rows, []
        told = {"start": played.seed, "return": played.reward, "steps": played.steps, "terminated": self.terminated}
        columns = {name: [_numbers(row[name]) for row in rows] for name in (rows[0] if rows else ())}
        single = {k: [x[0] for x in column] for k, column in columns.items() if k not in ("action", "probability")}
        several = {k: [*zip(*columns[k], strict=True)] for k in ("action", "probability") if k in columns}
        return told | {"return": rounded(played.reward)} | single | several


def _numbers(x: Any) -> list[float | None]:
    return [rounded(float(value)) for value in torch.as_tensor(x).flatten().tolist()]


def critic_of(run: Path, policy: Policy, network: Any = None) -> nn.Module | None:
    """The critic of a run's checkpoint, V or Q, whichever has tensors of these shapes; None where there is none."""
    file = choose(run)[0] / "trainer.safetensors"
    saved = unpack(read_json(file.with_suffix(".json")), read_tensors(file))["critic"]
    like = next(policy.parameters())
    for kind in ("v", "q") if saved is not None else ():
        with torch.random.fork_rng(devices=[]):
            critic = build_critic(kind, policy, policy.spec["observations"], policy.spec["hidden"], network)
        assert critic is not None
        if {k: v.shape for k, v in critic.state_dict().items()} == {k: v.shape for k, v in saved.items()}:
            critic.to(like)
            fill(critic, saved, file)
            return critic.eval().requires_grad_(False)
    return None


def place(run: Path, env: str, seed: int, deterministic: bool) -> Path:
    """RUN/video/<step>-<env>-seed<seed>, without an ending."""
    folder = choose(run)[0]
    name = f"{folder.name}-{safe(env)}-seed{seed}{'' if deterministic else '-sampled'}"
    return run_of(folder) / "video" / name


def write(file: Path, told: dict[str, Any], episodes: list[dict[str, Any]]) -> None:
    file.parent.mkdir(exist_ok=True)
    write_whole(file, json.dumps(told | {"episodes": episodes}, allow_nan=False) + "\n")
