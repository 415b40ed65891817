"""How spaces lie in arrays: what is packed can be read back, and what does not fit is refused."""

from typing import Any

import numpy as np
import pytest
from everything import Words
from gymnasium import spaces
from gymnasium.spaces.utils import flatten

from logpi import LogpiError
from logpi.layout import Seen, Taken, leaves

PICTURE = spaces.Box(0, 255, (5, 4, 3), np.uint8)
SPACES: dict[str, spaces.Space] = {
    "discrete": spaces.Discrete(5, start=-2),
    "multi discrete": spaces.MultiDiscrete([2, 3, 4]),
    "a table of choices": spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    "multi binary": spaces.MultiBinary((2, 3)),
    "matrix": spaces.Box(-1, 1, (2, 3), np.float32),
    "scalar": spaces.Box(-1, 1, (), np.float64),
    "dict": spaces.Dict({"b": spaces.Box(-1, 1, (2,), np.float32), "a": spaces.Discrete(3)}),
    "nested": spaces.Dict(
        {
            "pair": spaces.Tuple([spaces.Discrete(2), spaces.Dict({"x": spaces.Box(-1, 1, (3,), np.float64)})]),
            "picture": PICTURE,
        }
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_an_observation_becomes_what_gymnasium_flattens_it_to(name: str) -> None:
    space, seen = SPACES[name], Seen(SPACES[name])
    space.seed(3)
    for _ in range(20):
        x = space.sample()
        assert not seen.plain and np.allclose(seen.array(x), flatten(space, x))
        assert seen.array(x).shape == seen.shape and seen.array(x).dtype == seen.dtype


@pytest.mark.parametrize("name", SPACES)
def test_a_stack_becomes_the_stack_of_its_rows(name: str) -> None:
    space, seen = SPACES[name], Seen(SPACES[name])
    space.seed(4)
    rows = [space.sample() for _ in range(6)]
    assert np.array_equal(seen.array(stacked(space, rows)), np.stack([seen.array(x) for x in rows]))


def stacked(space: spaces.Space, rows: list[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {k: stacked(part, [x[k] for x in rows]) for k, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(stacked(part, [x[i] for x in rows]) for i, part in enumerate(space.spaces))
    return np.stack(rows)


@pytest.mark.parametrize(
    "space", [spaces.Box(-1, 1, (4,), np.float64), PICTURE, spaces.Box(0, 255, (84, 84), np.uint8)]
)
def test_vectors_and_pictures_stay_what_they_are(space: spaces.Box) -> None:
    seen, x = Seen(space), space.sample()
    assert seen.plain and seen.shape == space.shape and seen.dtype == space.dtype and np.array_equal(seen.array(x), x)


ACTIONS: dict[str, spaces.Space] = {
    "tuple": spaces.Tuple([spaces.Discrete(3, start=1), spaces.Box(-2, 2, (2, 2), np.float32), spaces.MultiBinary(2)]),
    "dict": spaces.Dict(
        {"go": spaces.MultiDiscrete([3, 2]), "how": spaces.Dict({"much": spaces.Box(0, 1, (), np.float64)})}
    ),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_is_an_element_of_its_space_again(name: str) -> None:
    space, taken = ACTIONS[name], Taken(ACTIONS[name])
    space.seed(5)
    rows = []
    for _ in range(10):
        x = space.sample()
        row = np.concatenate([np.ravel(at(x, path)) for path, _ in leaves(space)]).astype(np.float64)
        rows.append(row)
        found = taken.unpack(row)
        assert space.contains(found) and str(found) == str(x)
    every = taken.unpack(np.stack(rows))
    assert all(np.array_equal(at(every, path)[4], at(taken.unpack(rows[4]), path)) for path, _ in leaves(space))


def at(x: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        x = x[key]
    return x


@pytest.mark.parametrize("wrong", [{"a": 0}, {"a": 7, "b": np.zeros(2)}, {"a": 0, "b": np.zeros(3)}, 5])
def test_what_is_not_in_the_space_does_not_pass(wrong: Any) -> None:
    seen = Seen(SPACES["dict"])
    with pytest.raises((ValueError, KeyError, TypeError, IndexError)):
        seen.pack(wrong, np.zeros(seen.shape, seen.dtype))


def test_a_space_without_an_array_is_named_with_its_part() -> None:
    with pytest.raises(LogpiError, match=r"Text.* \(the part a.b\) is no array: wrap the environment"):
        Seen(spaces.Dict({"a": spaces.Dict({"b": spaces.Text(5)})}))


def test_text_is_left_out_beside_what_is_none() -> None:
    space = spaces.Dict({"image": PICTURE, "mission": Words(), "name": spaces.Text(9), "side": spaces.Discrete(4)})
    seen = Seen(space)
    assert [piece.path for piece in seen.pieces] == [("image",), ("side",)] and seen.shape == (64,)
    assert np.array_equal(seen.array(space.sample())[-4:].sum(), 1)


@pytest.mark.parametrize("space", [spaces.Dict({}), spaces.Tuple([]), spaces.Box(0, 1, (0,))], ids=str)
def test_a_space_without_a_number_is_refused(space: spaces.Space) -> None:
    with pytest.raises(LogpiError, match="shows nothing: wrap it so that it has a number"):
        Seen(space)


@pytest.mark.parametrize("part", [np.zeros((3, 5, 4), np.uint8), np.full((5, 4, 3), 1e6)], ids=["shape", "kind"])
def test_a_part_is_of_its_own_shape_and_kind(part: np.ndarray) -> None:
    seen = Seen(spaces.Dict({"picture": PICTURE, "rest": spaces.Discrete(2)}))
    with pytest.raises(ValueError, match=r"picture (has shape \(3, 5, 4\)|is of float64)"):
        seen.pack({"picture": part, "rest": 1}, np.zeros(seen.shape, seen.dtype))


def test_a_mask_is_a_part_of_its_own() -> None:
    seen = Seen(spaces.Dict({"obs": spaces.Discrete(2), "action_mask": spaces.MultiBinary(4)}))
    (mask,) = seen.of("mask")
    assert (mask.begin, mask.end) == (0, 4) and seen.shape == (6,)
    nested = Seen(spaces.Dict({"deep": spaces.Dict({"action_mask": spaces.MultiBinary(4)})}))
    assert not nested.of("mask"), "only at the top"
    parts = Seen(spaces.Dict({"action_mask": spaces.Tuple([spaces.MultiBinary(2), spaces.MultiBinary(3)])}))
    assert [(piece.begin, piece.end) for piece in parts.of("mask")] == [(0, 2), (2, 5)]
