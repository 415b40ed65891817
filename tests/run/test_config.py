"""config.toml: what is written is read back, and what is wrong is one sentence that names the file, the key and the cure."""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logpi import METHODS, LogpiError
from logpi.page import Between, Count, Fraction, check, page
from logpi.run import config
from logpi.run.setup import Settings, assemble
from logpi.run.train import Options

RECORDS = [*METHODS.values(), Settings, Options]


@page
class Every:
    """Every kind of field that a page may have."""

    text: str = "a"
    maybe: str | None = None
    whole: int = 1
    number: float = 1.0
    small: Fraction = 0.5
    flag: bool = False
    word: Literal["a", "b"] = "a"
    widths: tuple[Count, ...] = (64, 64)
    words: tuple[Literal["a", "b"], ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    some: tuple[Count, ...] | None = None


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
WHOLE = st.integers(1, 2**60)
EVERY = st.builds(
    Every,
    text=TEXT,
    maybe=st.none() | TEXT,
    whole=st.integers(-(2**70), 2**70),
    number=st.floats(allow_nan=False),
    small=st.floats(0, 1),
    flag=st.booleans(),
    word=st.sampled_from("ab"),
    widths=st.lists(WHOLE, max_size=4).map(tuple),
    words=st.lists(st.sampled_from("ab"), max_size=3).map(tuple),
    pair=st.tuples(st.integers(), st.floats(allow_nan=False)),
    some=st.none() | st.lists(WHOLE, max_size=4).map(tuple),
)


def again(record: Any, tmp_path: Path) -> Any:
    """A record through a file, back onto the defaults."""
    file = tmp_path / "config.toml"
    file.write_text(config.dump({"method": {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}}))
    return config.fill(type(record)(), config.read(file)["method"], "config.toml")


@given(EVERY)
def test_every_kind_of_field_comes_back_as_it_was(tmp_path_factory, made):
    found = again(made, tmp_path_factory.mktemp("x"))
    assert found == made
    assert [type(getattr(found, f.name)) for f in dataclasses.fields(made)] == [
        type(getattr(made, f.name)) for f in dataclasses.fields(made)
    ]


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_every_page_and_setting_comes_back_as_it_was(kind, tmp_path):
    assert again(kind(), tmp_path) == kind()


def test_other_values_of_settings_and_options_come_back_too(tmp_path):
    settings = Settings(env='a"b\\c\x7f\n', steps=10**15, hidden=(), network="./x.py:é", step_timeout=1e-300)
    assert again(settings, tmp_path) == settings
    options = Options(until=-200.5, track=("wandb", "trackio"), plot=False, init="runs/a b")
    assert again(options, tmp_path) == options


def all_of(name: str, page: Any) -> dict[str, dict[str, Any]]:
    """What a run writes of itself."""
    parts = assemble(page, Settings(), name=name)
    parts.collect.close()
    return parts.config | {"train": dataclasses.asdict(Options())}


def test_a_run_writes_its_method_by_name_and_all_three_records():
    found = all_of("./mine.py:Mine", METHODS["ppo"](lam=0.5))
    assert [*found] == ["method", "run", "train"]
    assert found["method"]["name"] == "./mine.py:Mine" and found["method"]["lam"] == 0.5
    assert found["run"]["env"] == "CartPole-v1" and found["train"]["keep"] == 3


def test_what_toml_does_not_have_is_a_comment():
    text = config.dump({"method": {"a": None, "b": abs, "λ": 1}, "run": {}})
    assert text == '[method]\n# a is not set\n# b is <built-in function abs>\n"λ" = 1\n\n[run]\n'


def test_a_whole_number_may_stand_for_a_float_and_a_list_for_a_tuple():
    found = config.fill(Every(), {"small": 1}, "x")
    assert type(found.small) is float
    found = config.fill(Every(), {"number": 2, "widths": [3], "pair": [1, 2], "some": [1]}, "x")
    assert type(found.number) is float and found.number == 2 and found.widths == (3,) and found.some == (1,)
    assert type(found.pair[1]) is float
    assert config.fill(METHODS["ppo"](), {}, "x") == METHODS["ppo"]()


PPO = {
    "gama = 0.9": "my.toml has no 'gama'. Did you mean gamma?",
    "gаmma = 0.9": "my.toml has no 'g\\u0430mma'. Did you mean gamma?",  # Cyrillic а
    "ｌｒ = 0.1": "my.toml has no '\\uff4c\\uff52'.",
    "save-every = 3": "my.toml has no 'save-every'.",
    "lr = -1": "my.toml: lr is -1.0: allowed is a number greater than 0.",
    "lr = true": "my.toml: lr is True: allowed is a number greater than 0.",
    'lr = "0.1"': "my.toml: lr is '0.1': allowed is a number greater than 0.",
    "lr = [0.1]": "my.toml: lr is [0.1]: allowed is a number greater than 0.",
    "lr = 2020-01-01": "my.toml: lr is datetime.date(2020, 1, 1): allowed is a number greater than 0.",
    "lr = {a = 1}": "my.toml: lr is {'a': 1}: allowed is a number greater than 0.",
    f"lr = {'9' * 400}": f"my.toml: lr is {'9' * 80}...: allowed is a number greater than 0.",
    "gamma = 2": "my.toml: gamma is 2.0: allowed is a number from 0 to 1.",
    "clip = nan": "my.toml: clip is nan: allowed is a number greater than 0.",
    "clip = inf": "my.toml: clip is inf: allowed is a number greater than 0.",
    "envs = 1.5": "my.toml: envs is 1.5: allowed is a whole number 1 or more.",
    "anneal = 1": "my.toml: anneal is 1: allowed is True or False.",
}
RUN = {
    "steps = 1e400": "my.toml: steps is inf: allowed is a whole number 1 or more.",
    "env = 3": "my.toml: env is 3: allowed is a text that is not empty.",
    "network = 3": "my.toml: network is 3: allowed is a text that is not empty.",
    "optimizer = false": "my.toml: optimizer is False: allowed is a text that is not empty.",
    "hidden = 64": "my.toml: hidden is 64: allowed is a list, each a whole number 1 or more.",
    "hidden = [64, 0]": "my.toml: hidden is 0: allowed is a whole number 1 or more.",
    "seed = -1": "my.toml: seed is -1: allowed is a whole number from 0 to 9.22337e+18.",
    'head = "gaussian "': "my.toml: head is 'gaussian ': allowed is gaussian, squashed, beta.",
}
TRAIN = {
    'track = ["tensorbord"]': "my.toml: track is 'tensorbord': allowed is tensorboard, wandb, trackio.",
    'track = "wandb"': "my.toml: track is 'wandb': allowed is a list, each tensorboard, wandb, trackio.",
    "out = 1": "my.toml: out is 1: allowed is a text that is not empty.",
}
WRONG = [
    (record, line, message)
    for record, lines in ((METHODS["ppo"](), PPO), (Settings(), RUN), (Options(), TRAIN))
    for line, message in lines.items()
]


@pytest.mark.parametrize(("record", "line", "message"), WRONG, ids=[line[:30] for _, line, _ in WRONG])
def test_a_wrong_key_or_value_is_refused_by_name_value_and_file(record, line, message, tmp_path):
    key, _, value = line.partition(" = ")
    (tmp_path / "my.toml").write_text(f'[run]\n"{key}" = {value}\n')
    with pytest.raises(LogpiError) as error:
        config.fill(record, config.read(tmp_path / "my.toml")["run"], "my.toml")
    assert str(error.value).startswith(message) and str(error.value).isascii()
    assert str(error.value) == message or "There is: " in str(error.value) or "Did you mean" in str(error.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"text": ""}, "text is '': allowed is a text that is not empty."),
        ({"text": 1}, "text is 1: allowed is a text that is not empty."),
        ({"maybe": 1.0}, "maybe is 1.0: allowed is a text that is not empty."),
        ({"whole": 1.0}, "whole is 1.0: allowed is a whole number."),
        ({"whole": True}, "whole is True: allowed is a whole number."),
        ({"number": "1"}, "number is '1': allowed is a number."),
        ({"number": None}, "number is None: allowed is a number."),
        ({"pair": (1,)}, "pair is (1,): allowed is a list of 2."),
        ({"pair": (1.5, 1)}, "pair is 1.5: allowed is a whole number."),
        ({"words": "ab"}, "words is 'ab': allowed is a list, each a, b."),
        ({"words": ("c",)}, "words is 'c': allowed is a, b."),
        ({"some": (0,)}, "some is 0: allowed is a whole number 1 or more."),
        ({"text": b"x" * 200}, f"text is b'{'x' * 78}...: allowed is a text that is not empty."),
    ],
)
def test_a_page_refuses_a_value_of_another_type(value, message):
    with pytest.raises(LogpiError) as error:
        Every(**value)
    assert str(error.value) == message


def test_a_record_that_does_not_check_itself_is_checked_when_it_is_filled():
    @dataclasses.dataclass
    class Plain:
        gamma: Fraction = 0.5

    with pytest.raises(LogpiError, match="^x: gamma is 2.0: allowed"):
        config.fill(Plain(), {"gamma": 2}, "x")


def test_a_number_larger_than_any_float_is_in_no_range():
    assert 10**400 not in Between(0) and 10**300 in Between(0)
    check(Settings(steps=10**300))


FILES = {
    b"[method\n": "is not TOML: Expected ']'",
    b"\0": "is not TOML: Invalid statement",
    b"[method]\nlr = 1\nlr = 2\n": "is not TOML: Cannot overwrite a value",
    b"[method]\nlr = " + b"9" * 4500: "is not TOML: Exceeds the limit",
    b'[method]\nlr = "\\ud800"\n': "is not TOML: Escaped character is not a Unicode scalar value",
    b'[method]\nlr = "\xed\xa0\x80"\n': "is not UTF-8 (byte 15): save it as UTF-8 text.",
    b"[method]\nlr = \xff\n": "is not UTF-8 (byte 14): save it as UTF-8 text.",
    b"lr = 1\n": ": 'lr' stands outside the sections [method], [run] and [train].",
    b"[[method]]\nlr = 1\n": ": 'method' stands outside the sections [method], [run] and [train].",
    b"[metod]\nlr = 1\n": "has a section 'metod'. Did you mean method?",
    b"[method]\nlr = " + b"[" * 4900: "is nested too deeply: values are numbers, texts and lists of them.",
    b"[" + b"a." * 4000 + b"b]\n": "has a line of more than 5,000 bytes: no configuration has.",
    b"#\n" * 50_001: "is larger than 100,000 bytes: no configuration is.",
}


@pytest.mark.parametrize("content", FILES, ids=[repr(content[:20]) for content in FILES])
def test_a_damaged_or_hostile_file_is_one_sentence_at_once(content, tmp_path):
    file = tmp_path / "my.toml"
    file.write_bytes(content)
    began = time.perf_counter()
    with pytest.raises(LogpiError) as error:
        config.read(file)
    assert str(error.value).startswith(str(file)) and FILES[content] in str(error.value)
    assert time.perf_counter() - began < 2


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    for file, why in {
        tmp_path: "Is a directory",
        tmp_path / "none.toml": "No such file or directory",
        tmp_path / "a\0b": "embedded null byte",
        Path("x" * 300): "File name too long",
    }.items():
        with pytest.raises(LogpiError) as error:
            config.read(file)
        assert str(error.value).endswith(f" cannot be read ({why}): give a TOML file.")
        assert len(str(error.value)) < 150 and "\0" not in str(error.value)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "my.toml").write_bytes(b"\xef\xbb\xbf[run]\nsteps = 3\n")
    assert config.read(tmp_path / "my.toml") == {"run": {"steps": 3}}


def test_a_setting_that_is_not_utf_8_cannot_be_written():
    with pytest.raises(LogpiError) as error:
        config.dump({"train": {"out": "runs\udcff"}})
    assert str(error.value) == "A setting has bytes that are not UTF-8, which config.toml cannot hold: give another."


def test_a_config_of_another_method_is_refused():
    with pytest.raises(LogpiError) as error:
        config.must_be({"method": {"name": "trpo"}}, "ppo", Path("my.toml"))
    assert str(error.value) == "my.toml is of the method 'trpo', and ppo was asked for: take one or the other."
    for name, asked in (("ppo", "ppo"), ("./a/mine.py:Mine", "mine.py:Mine")):
        sections = {"method": {"name": name, "lr": 1}}
        config.must_be(sections, asked, Path("my.toml"))
        assert sections == {"method": {"lr": 1}}
    config.must_be({}, "ppo", Path("my.toml"))


def test_no_environment_variable_is_written(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setattr(sys, "argv", ["logpi"])
    text = config.dump(all_of("ppo", METHODS["ppo"]()))
    assert "hunter2" not in text and "hunter2" not in json.dumps(text)
