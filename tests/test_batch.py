"""The record: masked slots mean nothing, masked steps are transparent, rows are covered once."""

import copy
from dataclasses import fields, replace
from functools import partial

import pytest
import torch
from made import PAGES, case, fill, parts_for, rows_for
from torch import Tensor
from torch.nn.functional import pad

from logpi import average
from logpi.batch import Batch, Rows
from logpi.loop import credited, update
from logpi.methods import PPO, Baseline
from logpi.now import Surrogate, row_scores
from logpi.step.natural import gradient

NOTHING = {"gaussian": float("nan"), "categorical": float("inf"), "squashed": float("-inf")}
STATE = {"progress": 0.3}


def junk(value: float):
    return lambda x: torch.tensor(value if x.dtype.is_floating_point else 10**6 if x.dtype == torch.long else False).to(
        x.dtype
    )


def made(reward, mask, **more) -> Batch:
    """A batch from lists, [T] or [B, T]; ends where not given are none."""
    mask, reward = torch.tensor(mask).bool(), torch.tensor(reward, dtype=torch.float64)
    none, count = torch.zeros_like(mask), torch.arange(mask.numel(), dtype=torch.float64).reshape(mask.shape)
    more = {k: torch.tensor(v) if isinstance(v, list) else v for k, v in more.items()}
    more = {k: v.bool() if k in ("terminated", "truncated") else v.double() for k, v in more.items()}
    ends = {"terminated": none, "truncated": none} | {k: more.pop(k) for k in ("terminated", "truncated") if k in more}
    return Batch(
        count[..., None],
        count,
        count,
        count[..., None],
        reward,
        **ends,
        mask=mask,
        version=none.long(),
        start=None,
        **more,
    )


@pytest.mark.parametrize("head", NOTHING)
@pytest.mark.parametrize("name", PAGES)
def test_what_stands_in_masked_slots_changes_neither_credit_nor_gradient_nor_metrics(name, head):
    method = PAGES[name]
    policy, critic, b = case(method, head)
    spoilt = fill(b, junk(NOTHING[head]))
    spoilt = spoilt.with_(scores=partial(row_scores, policy, spoilt))
    assert not b.mask.all() and not spoilt.reward.isfinite().all() and not spoilt.obs.isfinite().all()
    params, found = [*policy.parameters(), *(critic.parameters() if critic is not None else [])], []
    for one in (b, spoilt):
        one = credited(method, one, {})
        rows = rows_for(method, one)
        g = gradient(Surrogate(method, policy, critic, rows, STATE)(rows.batch), params)
        parts = parts_for(method, policy, critic)
        info = update(parts, one)[1]
        found.append(
            (
                one.psi,
                one.target,
                g,
                [*parts.policy.parameters()],
                {k: v for k, v in info.items() if isinstance(v, float)},
            )
        )
    clean, dirty = found
    assert torch.equal(clean[0], dirty[0]) and bool((dirty[0][~b.mask] == 0).all())
    assert (clean[1] is None and dirty[1] is None) or torch.equal(clean[1], dirty[1])
    assert torch.equal(clean[2], dirty[2]) and bool(clean[2].isfinite().all()) and clean[2].abs().max() > 0
    assert all(torch.equal(p, q) for p, q in zip(clean[3], dirty[3], strict=True))
    assert clean[4] == dirty[4] and all(x == x for x in clean[4].values())


def with_gaps(b: Batch, before: list[int]) -> tuple[Batch, Tensor]:
    """The batch with a masked step put before the slots named (T: at the end), full of NaN but for the row's own start."""
    T = b.reward.shape[-1]
    slots = [t for t in range(T + 1) for t in ([None] if t in before else []) + ([t] if t < T else [])]
    index = torch.tensor([0 if t is None else t for t in slots])
    ours = torch.tensor([t is not None for t in slots])
    lead = b.mask.dim() - 1
    wide = replace(b, scores=None, start=None).map(lambda x: x.index_select(lead, index)).with_(start=b.start)
    return fill(wide.with_(mask=wide.mask & ours), junk(float("nan"))), ours


@pytest.mark.parametrize("name", PAGES)
def test_masked_steps_inside_a_row_are_transparent_to_every_page(name):
    """Actions with other people's steps between them are credited as the same actions side by side."""
    method = PAGES[name]
    policy, _, b = case(method)
    b, _ = b.to_actions()  # dense in front
    if b.value is not None:  # what follows an action is the next action's state
        follow = {f"{k}_next": pad(getattr(b, k)[..., 1:], (0, 1)) for k in ("value", "q") if getattr(b, k) is not None}
        b = b.with_(
            **{k: torch.where(b.ended | ~pad(b.mask[..., 1:], (0, 1)), getattr(b, k), v) for k, v in follow.items()}
        )
        last = b.mask & ~pad(b.mask[..., 1:], (0, 1))
        b = b.with_(truncated=b.truncated | (last & ~b.terminated))
    b = b.with_(scores=partial(row_scores, policy, b))
    wide, ours = with_gaps(b, [0, 1, 3, 8])
    wide = wide.with_(scores=partial(row_scores, policy, wide))
    dense, spread = credited(method, b, {}), credited(method, wide, {})
    assert (spread.psi[..., ours] - dense.psi).abs().max() < 1e-13 and dense.psi.abs().max() > 1e-3
    assert dense.target is None or (spread.target[..., ours] - dense.target).abs().max() < 1e-13
    assert bool((spread.psi[..., ~ours] == 0).all())


def test_rewards_and_ends_on_masked_steps_go_to_the_action_before_them():
    b = made([1, 2, 4, 8, 16, 32], [1, 0, 0, 1, 0, 1], terminated=[0, 0, 0, 0, 1, 0])
    actions, back = b.to_actions()
    assert actions.reward[:3].tolist() == [7, 24, 32] and actions.mask.tolist() == [True] * 3 + [False] * 3
    assert actions.terminated[:3].tolist() == [False, True, False]
    assert actions.action[:3].tolist() == [0, 3, 5]
    assert back(torch.tensor([1.0, 2, 3, 9, 9, 9])).tolist() == [1, 0, 0, 2, 0, 3]


def test_a_truncation_on_a_masked_step_stays_a_truncation():
    actions, _ = made([1, 2, 4], [1, 0, 1], truncated=[0, 1, 0]).to_actions()
    assert actions.truncated.tolist() == [True, False, True] and not actions.terminated.any()
    assert actions.reward.tolist() == [3, 4, 0]  # the slot left over is zero and ended


def test_the_value_that_follows_is_that_of_the_next_action_and_at_an_end_that_of_the_end():
    more = {"value": [1, 2, 3, 4, 5, 6], "value_next": [10, 20, 30, 40, 50, 60]}
    b = made([0] * 6, [1, 0, 1, 1, 0, 1], truncated=[0, 0, 0, 0, 1, 0], **more)
    actions, _ = b.to_actions()
    assert actions.value[:4].tolist() == [1, 3, 4, 6]
    assert actions.value_next[:4].tolist() == [3, 4, 50, 60]  # next action, next action, the masked end, the row's tail


def test_the_dummy_step_after_an_end_is_dropped():
    more = {"value": [1, 2, 3, 4], "value_next": [10, 20, 30, 40]}
    b = made([1, 2, 100, 4], [1, 1, 0, 1], truncated=[0, 1, 0, 0], **more)
    actions, _ = b.to_actions()
    assert actions.reward[:3].tolist() == [1, 2, 4] and actions.value_next[:3].tolist() == [2, 20, 40]
    with_end, _ = b.with_(terminated=torch.tensor([False, False, True, False])).to_actions()
    assert not with_end.terminated.any()


def test_masked_steps_before_the_first_action_of_a_row_belong_to_nobody():
    actions, _ = made([9, 1, 2], [0, 1, 1], terminated=[1, 0, 0]).to_actions()
    assert actions.reward.tolist() == [1, 2, 0] and not actions.terminated.any()


def test_a_batch_of_actions_only_is_itself_and_an_empty_row_is_nothing():
    b = made([1.0, 2.0], [1, 1])
    assert b.to_actions()[0] is b
    actions, back = made([[1, 2], [3, 4]], [[0, 0], [1, 1]]).to_actions()
    assert actions.reward.tolist() == [[0, 0], [3, 4]] and actions.ended[0].all()
    assert back(torch.ones(2, 2)).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("name", ["ppo", "actor-critic-q", "reinforce", "grpo"])
def test_the_way_back_is_the_inverse(name):
    b = case(PAGES[name])[2]
    actions, back = b.to_actions()
    for field in ("log_pi", "action"):
        x = getattr(b, field)
        assert torch.equal(back(getattr(actions, field)), torch.where(b.mask, x, 0))
    assert torch.equal(actions.mask.sum(-1), b.mask.sum(-1))
    assert bool((actions.mask[..., :-1] | ~actions.mask[..., 1:]).all())  # in front, side by side


def test_leading_axes_are_free():
    method = PPO()
    b = replace(case(method)[2], scores=None)
    deep, (flat, back) = b.map(lambda x: x[None]), b.to_actions()
    deep_actions, deep_back = deep.to_actions()
    for x in fields(Batch):
        one, more = getattr(flat, x.name), getattr(deep_actions, x.name)
        assert (one is None and more is None) or torch.equal(one, more[0])
    assert torch.equal(deep_back(deep_actions.reward)[0], back(flat.reward))
    for i in range(len(b)):  # [T] alone
        row, _ = b.map(lambda x, i=i: x[i]).to_actions()
        n = int(b.mask[i].sum())
        assert torch.equal(row.reward[:n], flat.reward[i, :n]) and torch.equal(
            row.value_next[:n], flat.value_next[i, :n]
        )


@pytest.mark.parametrize("minibatches", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("whole", [False, True])
def test_shuffling_covers_every_row_once_in_parts_of_equal_size(minibatches, whole):
    b = case(PAGES["reinforce" if whole else "ppo"])[2]
    rows = Rows(b, torch.Generator().manual_seed(0), whole)
    parts = list(rows.shuffled(minibatches))
    sizes = [len(x) for x in parts]
    assert len(rows) == (6 if whole else int(b.mask.sum())) == sum(sizes)
    assert len(parts) == min(minibatches, len(rows)) and max(sizes) - min(sizes) <= 1
    key = torch.cat([(x.log_pi.sum(-1) if whole else x.log_pi) for x in parts])
    assert torch.equal(key.sort().values, (rows.batch.log_pi.sum(-1) if whole else rows.batch.log_pi).sort().values)


def test_shuffles_differ_from_each_other_and_follow_the_generator():
    b = case(PPO())[2]
    first, again = (Rows(b, torch.Generator().manual_seed(1)) for _ in range(2))
    orders = [next(iter(r.shuffled(2))).log_pi for r in (first, first, again)]
    assert torch.equal(orders[0], orders[2]) and not torch.equal(orders[0], orders[1])


def test_fields_of_one_step_stay_together_in_a_shuffle():
    b = case(PPO())[2]
    tag = torch.arange(b.mask.numel()).reshape(b.mask.shape)
    b = b.with_(version=tag, log_pi=tag.double(), obs=tag.double()[..., None].expand(*tag.shape, 3).clone())
    for mini in Rows(b, torch.Generator().manual_seed(1)).shuffled(4):
        assert torch.equal(mini.version.double(), mini.log_pi) and torch.equal(mini.obs[:, 2], mini.log_pi)
        assert bool(mini.mask.all())


@pytest.mark.parametrize("micro", [None, 1, 2, 4, 100])
def test_micro_batches_are_the_minibatch_with_its_weights(micro):
    rows = rows_for(PAGES["reinforce"], case(PAGES["reinforce"])[2], micro)
    weight = average.weights("per_sequence", rows.batch.mask)
    parts = list(rows.parts(rows.batch, weight))
    assert all(len(x) <= (micro or 6) and x.mask.shape == w.shape for x, w in parts)
    assert torch.equal(torch.cat([x.reward for x, _ in parts]), rows.batch.reward)
    assert torch.equal(torch.cat([w for _, w in parts]), weight)


def test_whole_rows_of_groups_are_rows_and_the_surrogate_sees_no_start():
    b = case(PAGES["grpo"])[2]
    rows = rows_for(PAGES["grpo"], b)
    assert (
        rows.batch.mask.shape == (6, 8)
        and rows.batch.start is None
        and torch.equal(rows.batch.reward, b.reward.flatten(0, 1))
    )


def test_the_scores_of_the_optimal_baseline_are_those_of_each_row():
    policy, _, b = case(Baseline(baseline="optimal"))
    weight = torch.randn(b.mask.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = row_scores(copy.deepcopy(policy), b, weight)
    for i in range(len(b)):
        ours = b.mask[i]
        total = (policy.log_prob(b.obs[i][ours], b.action[i][ours]) * weight[i][ours]).sum()
        assert torch.allclose(
            found[i], torch.cat([g.flatten() for g in torch.autograd.grad(total, list(policy.parameters()))])
        )
