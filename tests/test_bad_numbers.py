"""NaN and inf in every place of an update are found in that update, before a step is taken on them, and named."""

import copy
import re
from dataclasses import dataclass

import pytest
import torch
from injections import CRITICS, INF, NAN, PLACES, SEPARATE, Poked, run, spoil
from made import PAGES, case, parts_for

import logpi
from logpi import average, objective, psi
from logpi.finite import NotFinite
from logpi.loop import Parts, loop, update
from logpi.methods import PPO, TRPO
from logpi.step.gradient import ascend

CASES = [
    pytest.param(name, method, head, bad, id=f"{name}-{method}-{head}-{bad}")
    for name, place in PLACES.items()
    for method in place.names
    for head in place.heads
    for bad in place.bad
    if head == "discrete" or bad is not INF  # the cause of an inf goes the same way on a Box
]


def moved_by_training(parts: Parts) -> dict[str, torch.Tensor]:
    found = {f"policy.{k}": v.clone() for k, v in parts.policy.named_parameters()}
    found |= {f"critic.{k}": v.clone() for k, v in (parts.critic.named_parameters() if parts.critic else ())}
    for who in ("optimizer", "critic_optimizer"):
        own = getattr(parts, who)
        for i, slot in own.state_dict()["state"].items() if own is not None else ():
            found |= {f"{who}.{i}.{k}": v.clone() for k, v in slot.items() if isinstance(v, torch.Tensor)}
    return found


@pytest.mark.parametrize(("place", "name", "head", "bad"), CASES)
def test_what_is_not_finite_is_found_before_a_step_and_named(place, name, head, bad):
    inject, sentence, *_ = PLACES[place]
    parts = run(name, head)
    records = loop(parts)
    next(records)
    before = moved_by_training(parts)
    inject(parts, bad)
    with pytest.raises(NotFinite) as told:
        next(records)
    assert re.fullmatch(f"{'NaN' if bad is not INF else 'inf'} in {sentence}", str(told.value)), str(told.value)
    assert isinstance(told.value, logpi.LogpiError) and "\n" not in str(told.value)
    if place == "after the step":
        return
    poked = {"policy parameter": "policy.network.0.weight", "critic parameter": "critic.network.0.weight"}.get(place)
    sound = "policy.optimizer." if place == "critic's gradient" and name in SEPARATE else ""  # its own step was good
    first_step = (told.value.epoch, told.value.minibatch) in ((None, None), (1, 1))
    for key, x in moved_by_training(parts).items():
        assert key == poked or bool(x.isfinite().all())
        if key != poked and first_step and key.split(".")[0] not in sound.split("."):
            assert torch.equal(x, before[key]), f"{key} has moved"


EXACT = {
    "reward": "NaN in reward, environment 1, step 3, iteration 2: look at the environment.",
    "observation": "NaN in obs[1], environment 1, step 3, iteration 2: look at the environment.",
    "objective": "NaN in objective, environment 1, step 3, iteration 2, epoch 1, minibatch 1: look at the page's objective.",
    "gradient": "NaN in gradient of policy parameter network.0.weight, iteration 2, epoch 1, minibatch 1: "
    "lower the learning rate.",
    "policy parameter": "NaN in policy parameter network.0.weight, iteration 2: lower the learning rate.",
}


@pytest.mark.parametrize("place", EXACT)
def test_the_sentence_and_the_numbers_that_a_log_keeps(place):
    parts = run("reinforce")
    records = loop(parts)
    next(records)
    PLACES[place].inject(parts, NAN)
    with pytest.raises(NotFinite) as told:
        next(records)
    wrong, here = told.value, place in ("reward", "observation", "objective")
    assert str(wrong) == EXACT[place]
    assert (wrong.environment, wrong.step) == ((1, 3) if here else (None, None))
    assert (wrong.value, wrong.iteration) == ("nan", 2)
    assert (wrong.epoch, wrong.minibatch) == ((1, 1) if place in ("objective", "gradient") else (None, None))
    assert wrong.row() == {"what": wrong.what, "value": "nan", **wrong.where}
    assert all(type(x) is int for x in wrong.where.values())


def test_an_infinite_observation_that_the_normaliser_would_clip_is_found_and_its_statistics_do_not_move():
    parts = run("ppo", normalise_obs=True)
    records = loop(parts)
    next(records)
    before = copy.deepcopy(parts.policy.normaliser.state_dict())
    spoil("obs")(parts, INF)
    with pytest.raises(NotFinite, match=r"^inf in obs\[1\], environment 1, step 3, iteration 2: look at the env"):
        next(records)
    assert all(torch.equal(x, before[k]) for k, x in parts.policy.normaliser.state_dict().items())


@pytest.mark.parametrize("name", CRITICS)
def test_an_observation_after_the_end_of_the_task_is_never_looked_at(name):
    parts = run(name)
    records = loop(parts)
    next(records)
    spoil("terminal")(parts, NAN)
    next(records)
    assert all(bool(x.isfinite().all()) for x in moved_by_training(parts).values())


def test_what_is_not_ours_may_hold_anything():
    for name in ("ppo", "baseline-value", "rloo"):
        policy, critic, b = case(PAGES[name])
        ill = {k: torch.where(b.mask, getattr(b, k), NAN) for k in ("reward", "log_pi")}
        healthy, other = (parts_for(PAGES[name], policy, critic) for _ in range(2))
        update(healthy, b), update(other, b.with_(**ill))
        for p, q in zip(healthy.policy.parameters(), other.policy.parameters(), strict=True):
            assert torch.equal(p, q)


def test_the_earliest_step_is_named_and_there_what_came_first():
    policy, critic, b = case(PPO())
    reward, value = b.reward.clone(), b.value.clone()
    reward[0, 2], reward[1, 4], value[2, 2], value[1, 1] = NAN, NAN, NAN, INF
    with pytest.raises(NotFinite, match="^inf in value, environment 1, step 1, iteration 1: "):
        update(parts_for(PPO(), policy, critic), b.with_(reward=reward, value=value))
    with pytest.raises(NotFinite, match="^NaN in reward, environment 0, step 2, iteration 1: "):
        update(parts_for(PPO(), policy, critic), b.with_(reward=reward))
    reward[2, 2], value[1, 1] = NAN, b.value[1, 1]  # reward comes before value, and environment 0 before 2
    with pytest.raises(NotFinite, match="^NaN in reward, environment 0, step 2, iteration 1: "):
        update(parts_for(PPO(), policy, critic), b.with_(reward=reward, value=value))


def test_a_length_at_which_the_surrogate_is_not_finite_is_refused_and_a_shorter_one_is_taken():
    policy, critic, b = case(TRPO())
    for bad in (NAN, INF):
        parts, asked = parts_for(TRPO(), policy, critic), []
        inner = parts.method

        def far(now, part, state, inner=inner, asked=asked, bad=bad):
            asked.append(None)
            return inner.objective(now, part, state) + (bad if len(asked) == 3 else 0.0)

        parts.method = Poked(inner, objective=far)
        _, info = update(parts, b)
        assert info["accepted"] == 1.0 and info["backtracks"] == 1.0


def test_a_direction_that_is_not_finite_is_told():
    policy, critic, b = case(TRPO())
    parts = parts_for(TRPO(), policy, critic)
    parts.policy.head.fisher = lambda params, v: v * INF
    before = moved_by_training(parts)
    sentence = "^NaN in natural direction, iteration 1: raise the damping.$"
    with pytest.raises(NotFinite, match=sentence):
        update(parts, b)
    assert all(torch.equal(x, before[k]) for k, x in moved_by_training(parts).items())


def test_diverged_parameters_are_named():
    with pytest.raises(NotFinite, match="lower the learning rate"):
        list(logpi.learn("ppo", lr=1e30, steps=20_000))


def test_a_finding_in_a_later_minibatch_names_it():
    policy, critic, b = case(PPO())
    parts, seen = parts_for(PPO(epochs=3, minibatches=2), policy, critic), []

    def fifth(g):
        seen.append(None)
        return g * NAN if len(seen) == 5 else g

    next(parts.policy.parameters()).register_hook(fifth)
    with pytest.raises(NotFinite, match=r"network.0.weight, iteration 1, epoch 3, minibatch 1: lower") as told:
        update(parts, b)
    assert (told.value.epoch, told.value.minibatch) == (3, 1)
    assert all(bool(x.isfinite().all()) for x in moved_by_training(parts).values())


@dataclass(frozen=True)
class NoRate:
    """A page that ascends but forgot its learning rate."""

    episodes: int = 2
    rows, critic = "episodes", None

    def psi(self, b, state):
        return psi.reward_to_go(b.reward, b.ended), None

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi)

    def average(self, mask):
        return average.weights("per_episode", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer)


def test_a_page_that_ascends_without_a_learning_rate_is_told():
    with pytest.raises(logpi.LogpiError, match="give it a field lr"):
        next(logpi.learn(NoRate))


def test_integer_rewards_are_discounted_like_any_other():
    ended = torch.zeros(3, dtype=torch.bool)
    whole = psi.reward_to_go(torch.ones(3, dtype=torch.long), ended, 0.5)
    assert whole.tolist() == [1.75, 1.5, 1.0]
