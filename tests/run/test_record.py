"""`logpi play --record`: the film, and what was done at each step, as the episode done again by hand has it."""

import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from run import test_play as shown

from logpi import load, resume
from logpi.critic import build_critic
from logpi.policy import build_policy
from logpi.run import episode
from logpi.run.files import read_json
from logpi.run.pack import fill, read_tensors, unpack
from logpi.run.play import play

EXTRAS, film_of, steps_of = shown.EXTRAS, shown.film_of, shown.steps_of
runs, call = shown.runs, shown.call  # its fixtures


def recorded(run: str, name: str) -> dict[str, Any]:
    return read_json(Path(run) / "video" / f"step-000000000064-{name}.json")


def test_what_is_recorded_is_the_film_and_what_was_done_at_each_step(runs: dict[str, str], call: Any) -> None:
    """The episode again, by hand: the same actions, log pi, entropy, value and rewards."""
    code, out, err = call(runs["cartpole"], "--record", "--episodes", "2", "--sampled")
    assert (code, err) == (0, "") and "and .mp4: logpi lab shows it" in out
    told = recorded(runs["cartpole"], "CartPole-v1-seed10000-sampled")
    assert told["film"] == "step-000000000064-CartPole-v1-seed10000-sampled.mp4" and not told["deterministic"]
    about, frames = film_of(Path(runs["cartpole"]) / "video" / told["film"])
    assert about["fps"] == told["fps"] and len(frames) == sum(x["steps"] + 1 for x in told["episodes"])
    assert [x["steps"] for x in told["episodes"]] == steps_of(out)
    policy = load(runs["cartpole"])
    records = resume(runs["cartpole"], steps=10_000)
    critic = next(records).parts.critic  # of one iteration later: of the same shape
    records.close()
    file = max((Path(runs["cartpole"]) / "checkpoints").glob("step-*")) / "trainer.safetensors"
    fill(critic, unpack(read_json(file.with_suffix(".json")), read_tensors(file))["critic"], file)
    std = float((policy.return_normaliser.var + 1e-8).sqrt())
    generator, env = torch.Generator().manual_seed(10_000), gymnasium.make("CartPole-v1")
    for x in told["episodes"]:
        obs, over = env.reset(seed=x["start"])[0], False
        for t in range(x["steps"]):
            seen = policy.normalise(torch.as_tensor(obs))
            params = policy(seen)
            action = policy.head.sample(params, generator)
            assert x["action"][0][t] == int(action)
            assert x["log_pi"][t] == pytest.approx(float(params.log_softmax(-1)[action]), rel=1e-4)
            assert [p[t] for p in x["probability"]] == pytest.approx(params.softmax(-1).tolist(), rel=1e-4)
            assert x["entropy"][t] == pytest.approx(
                float(-(params.softmax(-1) * params.log_softmax(-1)).sum()), rel=1e-4
            )
            assert x["value"][t] == pytest.approx(std * float(critic(seen).detach()), rel=1e-4, abs=1e-5)
            obs, reward, terminated, truncated, _ = env.step(int(action))
            assert x["reward"][t] == reward
            over = terminated or truncated
        assert over and x["terminated"] == terminated and x["return"] == x["steps"]
    env.close()


def test_what_draws_no_pictures_is_recorded_without_a_film(runs: dict[str, str], call: Any) -> None:
    code, out, err = call(runs["chain"], "--record")
    assert (code, err) == (0, "")
    assert "no film: Chain draws no pictures" in out and ".mp4" not in out
    told = recorded(runs["chain"], "Chain-seed10000")
    (episode,) = told["episodes"]
    assert told["film"] is None and told["fps"] is None and told["deterministic"]
    assert len(episode["reward"]) == episode["steps"] and sum(episode["reward"]) == pytest.approx(episode["return"])
    assert all(
        max(p[t] for p in episode["probability"]) == episode["probability"][int(a)][t]
        for t, a in enumerate(episode["action"][0])
    )


def test_without_the_extra_for_films_the_steps_are_kept(
    runs: dict[str, str], call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    code, out, _ = call(runs["cartpole"], "--record", "--seed", "7")
    assert code == 0 and f"no film: {EXTRAS['imageio_ffmpeg']}" in out
    assert recorded(runs["cartpole"], "CartPole-v1-seed7")["film"] is None


def test_a_record_is_bounded_and_of_an_action_vector_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode, "STORED", 5)
    env = gymnasium.make("Pendulum-v1")
    policy = build_policy(
        env.observation_space, env.action_space, hidden=(4,), memory="gru", normalise_reward=True
    ).eval()
    critic = build_critic("q", policy, env.observation_space, (4,))
    policy.spec = {}
    tell = episode.Recorder(policy, critic)
    found = [tell.take(x) for x in play(policy, env, "Pendulum-v1", 2, False, 0, tell=tell)]
    assert [len(x["reward"]) if "reward" in x else 0 for x in found] == [5, 0] and found[1]["steps"] == 200
    assert len(found[0]["action"]) == 1 and len(found[0]["value"]) == 5 and "probability" not in found[0]
    assert not found[0]["terminated"]
    env.close()


def test_a_run_without_a_critic_has_no_values(runs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load(runs["cartpole"])
    assert episode.critic_of(Path(runs["cartpole"]), policy) is not None
    monkeypatch.setattr(episode, "unpack", lambda *_: {"critic": None})
    assert episode.critic_of(Path(runs["cartpole"]), policy) is None
    monkeypatch.setattr(episode, "unpack", lambda *_: {"critic": {"network.0.weight": torch.zeros(3, 3)}})
    assert episode.critic_of(Path(runs["cartpole"]), policy) is None
