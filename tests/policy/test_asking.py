"""What a policy is asked: what it does not know, or is not of its spaces, is refused in one sentence."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from logpi import LogpiError
from logpi.policy import Policy, build_policy

BOX = spaces.Box(-1, 1, (2,), np.float32)
PARTS = spaces.MultiDiscrete([2, 3])


@pytest.mark.parametrize("ask", ["sample", "__call__", "log_prob", "entropy"])
def test_an_observation_alone_is_no_question_to_a_memory(ask: str) -> None:
    policy, obs = build_policy(BOX, BOX, memory="gru"), torch.zeros(3, 2)
    more = [torch.zeros(3, 2)] if ask in ("log_prob", "entropy") else []
    with pytest.raises(LogpiError, match="has a memory, .*: use step, sequence or act"):
        getattr(policy, ask)(obs, *more)


def test_a_memory_of_another_number_of_episodes_is_to_be_forgotten_first() -> None:
    policy, rows = build_policy(BOX, BOX, memory="lstm"), np.zeros((4, 2), np.float32)
    policy.act(rows)
    with pytest.raises(LogpiError, match=r"remembers 4 episodes and is shown 1: call its forget\(\) first"):
        policy.act(rows[0])
    policy.forget()
    assert policy.act(rows[0]).shape == (2,)


WRONG: list[tuple[spaces.Space, Any, str]] = [
    (BOX, np.zeros(3), r"shape \(3,\)"),
    (BOX, [[0.0], [0.0, 1.0]], "array element"),
    (BOX, "left", "<U4"),
    (spaces.Discrete(3), 7, "7 is not in"),
    (spaces.Dict({"a": BOX, "b": BOX}), {"a": np.zeros(2)}, "'b'"),
    (spaces.Dict({"a": BOX, "b": BOX}), {"a": np.zeros(2), "b": np.zeros((2, 1))}, r"b has shape \(2, 1\)"),
    (spaces.Tuple([BOX, BOX]), (np.zeros(2),), "out of range"),
]


@pytest.mark.parametrize(("space", "obs", "why"), WRONG, ids=str)
def test_what_is_not_of_the_space_is_refused(space: spaces.Space, obs: Any, why: str) -> None:
    with pytest.raises(LogpiError, match=rf"The observation .*\(.*{why}.*\) is not of (Box|Discrete|Dict|Tuple)"):
        build_policy(space, BOX).act(obs)


def masked(actions: spaces.Space, mask: spaces.Space) -> Policy:
    return build_policy(spaces.Dict({"obs": BOX, "action_mask": mask}), actions)


FORMS: dict[str, tuple[spaces.Space, Any]] = {
    "an array": (spaces.MultiBinary(5), lambda x: x),
    "an array for each part": (spaces.Tuple([spaces.MultiBinary(2), spaces.MultiBinary(3)]), lambda x: (x[:2], x[2:])),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_rules_out_in_either_form_and_must_leave_something_in_each_part(form: str) -> None:
    space, of = FORMS[form]
    policy = masked(PARTS, space)

    def act(mask: list[int]) -> list[int]:
        obs = {"obs": np.zeros(2, np.float32), "action_mask": of(np.array(mask, np.int8))}
        return policy.act(obs, deterministic=False).tolist()

    assert act([0, 1, 0, 0, 1]) == [1, 2] and act([1, 0, 0, 1, 0]) == [0, 1]
    for mask, size in (([1, 0, 0, 0, 0], 3), ([0, 0, 1, 1, 1], 2)):
        with pytest.raises(LogpiError, match=f"action_mask allows none of the {size} choices of a part"):
            act(mask)


def test_yes_or_no_may_all_have_to_be_no() -> None:
    policy = masked(spaces.MultiBinary(3), spaces.MultiBinary(3))
    obs = {"obs": np.zeros(2, np.float32), "action_mask": np.zeros(3, np.int8)}
    assert policy.act(obs, deterministic=False).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (spaces.MultiBinary(4), "4 entries, and .* has 5 choices"),
        (spaces.Tuple([spaces.MultiBinary(3), spaces.MultiBinary(2)]), r"3 \+ 2 entries, and .* has 2 \+ 3 choices"),
    ],
)
def test_a_mask_of_another_form_than_the_actions_is_refused(mask: spaces.Space, told: str) -> None:
    with pytest.raises(LogpiError, match=f"action_mask has {told}"):
        masked(PARTS, mask)


def fits(own: spaces.Space, other: spaces.Space, part: str) -> bool:
    policy, spec = build_policy(BOX, BOX), {"observations": BOX, "actions": BOX}
    policy.spec = spec | {part: own}
    try:
        policy.must_fit(**spec | {part: other})
    except LogpiError as wrong:
        assert f"The environment's {part} are" in str(wrong)
        return False
    return True


def test_a_policy_fits_what_has_its_form() -> None:
    wide, later = spaces.Box(-2, 2, (2,), np.float32), spaces.Discrete(3, start=1)
    for part in ("observations", "actions"):
        assert fits(BOX, BOX, part) and not fits(spaces.Discrete(3), later, part) and fits(later, later, part)
    assert fits(BOX, wide, "observations") and not fits(BOX, wide, "actions"), "actions are clipped to their bounds"


def test_a_spread_of_the_state_begins_where_it_can_change() -> None:
    assert build_policy(BOX, BOX, log_std="state", log_std_init=2.0) and build_policy(BOX, BOX, log_std_init=3.0)
    with pytest.raises(LogpiError, match="--log-std-init 3 .*: with --log-std state give -5 to 2"):
        build_policy(BOX, BOX, log_std="state", log_std_init=3.0)


SHAPES = {  # shape: (its channels, height and width), None: they are numbers
    (84, 84): (1, 84, 84),
    (8, 8, 111): (111, 8, 8),
    (17, 8, 8): (17, 8, 8),
    (7, 9, 3): (3, 7, 9),
    (3, 7, 9): (3, 7, 9),
    (4, 10, 9, 3): (12, 10, 9),
    (4, 3, 10, 9): (12, 10, 9),
    (3, 3): None,
    (2, 3, 2): None,
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_channels_are_found_and_few_pixels_are_numbers(shape: tuple[int, ...]) -> None:
    space = spaces.Box(0, 255, shape, np.uint8)
    policy, x = build_policy(space, spaces.Discrete(2)), space.sample()
    assert policy.act(x).shape == () and policy.act(np.stack([x, x])).shape == (2,)
    found = [m.planes for m in policy.modules() if hasattr(m, "planes")]
    assert found == ([SHAPES[shape]] if SHAPES[shape] else [])


def test_a_stack_of_pictures_is_one_picture_of_all_their_channels() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stack = build_policy(spaces.Box(0, 255, (4, 20, 18, 3), np.uint8), BOX)
        torch.manual_seed(0)
        one = build_policy(spaces.Box(0, 255, (12, 20, 18), np.uint8), BOX)
    x = torch.randint(256, (5, 4, 20, 18, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(stack(x), one(x.movedim(-1, 2).flatten(1, 2)))


@pytest.mark.parametrize("shape", [(8, 8, 8), (8, 10, 8)])
def test_a_picture_that_may_lie_either_way_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LogpiError, match=r"may have their channels first or last: .*FlattenObservation"):
        build_policy(spaces.Box(0, 255, shape, np.uint8), BOX)
