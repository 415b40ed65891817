"""A page refuses impossible values at construction, and says in one sentence what is allowed."""

import dataclasses
import math
from typing import Literal

import pytest

from logpi import METHODS, LogpiError
from logpi.page import Between, Count, Fraction, NonNegative, Positive, Several, check, page


@page
class Example:
    fraction: Fraction = 0.5
    positive: Positive = 1.0
    non_negative: NonNegative = 0.0
    count: Count = 1
    several: Several = 2
    word: Literal["a", "b"] = "a"
    maybe: Positive | None = None
    widths: tuple[Count, ...] = (64, 64)
    flag: bool = False


GOOD = {
    "fraction": [0, 0.0, 0.99, 1, 1.0],
    "positive": [1e-300, 1, 1e30],
    "non_negative": [0, 0.0, 3],
    "count": [1, 10**9],
    "several": [2, 3],
    "word": ["a", "b"],
    "maybe": [None, 0.1, 2],
    "widths": [(), (1,), (64, 32, 16)],
    "flag": [True, False],
}
NUMBERS = [math.nan, math.inf, -math.inf, "0.5", True, None]
BAD = {
    "fraction": [-1e-9, 1.0000001, *NUMBERS],
    "positive": [0, 0.0, -1, *NUMBERS],
    "non_negative": [-1e-9, *NUMBERS],
    "count": [0, -1, 1.0, 1.5, *NUMBERS],
    "several": [1, 0, 2.0, *NUMBERS],
    "word": ["c", "", None, 0],
    "maybe": [0, -1, math.nan, math.inf, "x", True],
    "widths": [(0,), (64, -1), (64, 1.5), (None,), 64, "64", None],
    "flag": ["no", 1, None],
}


@pytest.mark.parametrize(("name", "value"), [(k, v) for k, values in GOOD.items() for v in values])
def test_allowed_values_are_taken_as_they_are(name, value):
    made = Example(**{name: value})
    assert getattr(made, name) == value
    assert type(getattr(made, name)) is type(value)


@pytest.mark.parametrize(("name", "value"), [(k, v) for k, values in BAD.items() for v in values])
def test_impossible_values_are_refused_by_name(name, value):
    with pytest.raises(LogpiError, match=rf"^{name} is ") as error:
        Example(**{name: value})
    message = str(error.value)
    assert "allowed is" in message
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"fraction": 1.5}, "fraction is 1.5: allowed is a number from 0 to 1."),
        ({"positive": 0}, "positive is 0: allowed is a number greater than 0."),
        ({"non_negative": -2}, "non_negative is -2: allowed is a number 0 or more."),
        ({"count": 0.5}, "count is 0.5: allowed is a whole number 1 or more."),
        ({"several": 1}, "several is 1: allowed is a whole number 2 or more."),
        ({"maybe": -1}, "maybe is -1: allowed is a number greater than 0."),
        ({"word": "c"}, "word is 'c': allowed is a, b."),
        ({"widths": (64, 0)}, "widths is 0: allowed is a whole number 1 or more."),
    ],
)
def test_the_message_names_the_field_the_value_and_the_range(field, message):
    with pytest.raises(LogpiError) as error:
        Example(**field)
    assert str(error.value) == message


def test_between_holds_its_ends_unless_open():
    assert 0 in Between(0, 1)
    assert 1 in Between(0, 1)
    assert 0 not in Between(0, 1, open_low=True)
    assert math.nan not in Between(0)
    assert math.inf not in Between(0)
    assert 1e308 in Between(0)


def test_a_page_is_frozen_and_replaceable():
    made = Example()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.count = 3
    assert dataclasses.replace(made, count=3).count == 3
    with pytest.raises(LogpiError, match="count"):
        dataclasses.replace(made, count=0)


def test_check_works_on_any_dataclass():
    @dataclasses.dataclass
    class Record:
        gamma: Fraction = 0.9

    check(Record())
    with pytest.raises(LogpiError, match="gamma"):
        check(Record(gamma=2))


def test_a_page_refuses_an_unknown_field():
    with pytest.raises(TypeError, match="speed"):
        Example(speed=1)


RANGES = [(m, f.name) for m in METHODS for f in dataclasses.fields(METHODS[m])]


@pytest.mark.parametrize("method", METHODS)
def test_the_defaults_of_every_method_are_allowed(method):
    check(METHODS[method]())


@pytest.mark.parametrize(("method", "field"), RANGES, ids=[f"{m}-{f}" for m, f in RANGES])
def test_every_field_of_every_method_refuses_some_value(method, field):
    """NaN is allowed nowhere, nor is a word that no choice has."""
    for value in (math.nan, "no such word"):
        with pytest.raises(LogpiError, match=field):
            METHODS[method](**{field: value})


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [
        ("ppo", "gamma", 1.01),
        ("ppo", "lam", -0.1),
        ("ppo", "clip", 0),
        ("ppo", "epochs", 0),
        ("ppo", "minibatches", 2.5),
        ("ppo", "lr", -1e-3),
        ("a2c", "n", 0),
        ("grpo", "group", 1),
        ("rloo", "group", 1),
        ("grpo", "kl_estimate", "k4"),
        ("trpo", "delta", 0),
        ("npg", "damping", -1),
        ("mdpo", "eta", 0),
        ("ppo_kl", "target", 0),
        ("baseline", "baseline", "moving"),
        ("reinforce", "credit", "gae"),
    ],
)
def test_settings_without_a_meaning_are_refused(method, field, value):
    with pytest.raises(LogpiError, match=field):
        METHODS[method](**{field: value})
