"""--like sb3: from the same weights, data and order of minibatches, PPO's updates are Stable-Baselines3's own."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from logpi.batch import Batch, Rows
from logpi.loop import Parts, update
from logpi.run import recipes
from logpi.run.setup import Settings, assemble, find_method

sb3 = pytest.importorskip("stable_baselines3")
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402

ENVS, LENGTH, EPOCHS, SIZE = 2, 224, 4, 64  # 448 steps are seven minibatches of 64; Pendulum is cut off after 200
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}


class Notes(BaseCallback):
    """What the environments said: their buffer has V added to rewards, and does not know why an episode ended."""

    def _on_training_start(self) -> None:
        self.rewards, self.truncated, self.finals = [], [], []

    def _on_step(self) -> bool:
        infos = self.locals["infos"]
        self.rewards.append(self.locals["rewards"].copy())
        self.truncated.append([x.get("TimeLimit.truncated", False) for x in infos])
        now = zip(infos, self.locals["new_obs"], strict=True)
        self.finals.append([x.get("terminal_observation", obs) for x, obs in now])
        return True


def theirs(env: str, seed: int = 0) -> Any:
    """A model of theirs with its rollout buffer full, and `notes` of how."""
    from stable_baselines3.common.env_util import make_vec_env

    made = make_vec_env(env, ENVS, seed=seed)
    model = sb3.PPO("MlpPolicy", made, n_steps=LENGTH, batch_size=SIZE, n_epochs=EPOCHS, seed=seed, device="cpu")
    model.notes = Notes()
    _, callback = model._setup_learn(10 * ENVS * LENGTH, model.notes)
    callback.on_training_start({}, {})
    model.collect_rollouts(model.env, callback, model.rollout_buffer, LENGTH)
    return model


def ours(env: str, **changes: Any) -> Parts:
    """Assembled as `logpi train ppo --like sb3` does, for a smaller batch."""
    _, sections = recipes.choose("like-sb3/ppo", "ppo", env)
    fields = (
        sections["method"]
        | {"envs": ENVS, "length": LENGTH, "epochs": EPOCHS, "minibatches": ENVS * LENGTH // SIZE}
        | changes
    )
    return assemble(
        find_method("ppo", fields),
        Settings(
            env=env, fast="off", **{k: tuple(v) if isinstance(v, list) else v for k, v in sections["run"].items()}
        ),
    )


def copy_weights(model: Any, parts: Parts) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs (ours, theirs) of every parameter, ours made equal."""
    p = model.policy
    stacks = (
        (parts.policy.network, [*p.mlp_extractor.policy_net, p.action_net]),
        (parts.critic.network, [*p.mlp_extractor.value_net, p.value_net]),
    )  # type: ignore[union-attr]
    pairs = [
        (getattr(a, name), getattr(b, name))
        for mine, other in stacks
        for a, b in zip(
            (x for x in mine if hasattr(x, "weight")), (x for x in other if hasattr(x, "weight")), strict=True
        )
        for name in ("weight", "bias")
    ]
    if hasattr(p, "log_std"):
        pairs.append((parts.policy.head.log_std, p.log_std))
    assert len(pairs) == len([*p.parameters()])
    with torch.no_grad():
        for a, b in pairs:
            a.copy_(b)
    return pairs


def batch_of(model: Any, parts: Parts) -> Batch:
    """Their rollout, as ours would have recorded it."""
    b = model.rollout_buffer

    def rows(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.swapaxes(x, 0, 1)))

    obs, notes = rows(b.observations), model.notes
    starts = np.concatenate([b.episode_starts, model._last_episode_starts[None]])
    ended = rows(starts[1:].astype(bool))
    truncated, reward, final = (rows(np.array(x)) for x in (notes.truncated, notes.rewards, notes.finals))
    with torch.no_grad():
        following, params = parts.critic(final.float()), parts.policy(obs)  # type: ignore[misc]
    action = rows(b.actions)
    action = action[..., 0].long() if parts.policy.head.action_dtype else action
    none = torch.zeros_like(ended)
    start = torch.zeros(ENVS, dtype=torch.long)
    told = (reward.float(), ended & ~truncated, truncated, ~none, none.long(), start)
    return Batch(obs, action, rows(b.log_probs), params, *told, value=rows(b.values), value_next=following)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Our minibatches in the order of theirs: numpy's permutations of the buffer."""
    state = np.random.get_state()
    np.random.seed(7)
    drawn = iter([np.random.permutation(ENVS * LENGTH) for _ in range(EPOCHS)])
    monkeypatch.setattr(Rows, "order", lambda self, minibatches: (torch.from_numpy(next(drawn)), [SIZE] * minibatches))
    yield
    np.random.set_state(state)


def train(model: Any) -> None:
    """Theirs, in that order: collecting has seeded numpy."""
    np.random.seed(7)
    model.train()


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_all_updates_are_theirs(env: str, order: None) -> None:
    model, parts = theirs(env), ours(env)
    pairs = copy_weights(model, parts)
    before = [a.detach().clone() for a, _ in pairs]
    batch = batch_of(model, parts)
    cut = bool(batch.truncated.any())
    assert cut == (env == "Pendulum-v1") and cut != bool(batch.terminated.any())
    update(parts, batch)
    train(model)
    assert max(float((a - was).detach().abs().max()) for (a, _), was in zip(pairs, before, strict=True)) > 1e-3
    for a, b in pairs:
        torch.testing.assert_close(a, b, **TOLERANCE)
    advantage = torch.from_numpy(np.swapaxes(model.rollout_buffer.advantages.reshape(ENVS, LENGTH), 0, 0))
    credit, target = parts.method.psi(batch, parts.state)
    torch.testing.assert_close(credit, advantage, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        target, torch.from_numpy(model.rollout_buffer.returns.reshape(ENVS, LENGTH)), rtol=1e-4, atol=1e-4
    )


DETAILS = {
    "standardised over the batch": {"normalise": "batch"},
    "not standardised": {"normalise": "none"},
    "another lambda": {"lam": 0.9},
    "an entropy bonus": {"entropy": 0.01},
    "the whole error of V": {"value_coef": 1.0},
    "another clip": {"clip": 0.1},
    "a clipped value": {"value_clip": 0.02},
    "a longer gradient": {"max_grad_norm": 5.0},
    "another learning rate": {"lr": 2.9e-4},
    "another discount": {"gamma": 0.98},
    "V looked at anew": {"recompute": True},
}


@pytest.mark.parametrize("detail", DETAILS)
def test_any_other_detail_shows(detail: str, order: None) -> None:
    model, parts = theirs("Pendulum-v1"), ours("Pendulum-v1", **DETAILS[detail])
    pairs = copy_weights(model, parts)
    batch = batch_of(model, parts)
    update(parts, batch.with_(look=lambda b: b.with_(value=b.value + 0.1)))
    train(model)
    assert not all(torch.allclose(a, b, **TOLERANCE) for a, b in pairs)
