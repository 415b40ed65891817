"""`logpi bench` of a language model: the limit of a loop whose limit is known, floors below what was taken, nothing left changed."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from lm.families import family, saved

import logpi
from logpi.lm import generate as generation
from logpi.lm import pretrained
from logpi.lm.cache import cache_for
from logpi.run import bench, bench_language, cli, floors
from logpi.run.bench_language import MEANS, SIDE, Report, places, verdict
from logpi.run.language import Text, assemble
from logpi.run.setup import find_method

SMALL = "--task copy --level 2 --recipe none --seconds 0.1"
SLOW = """
import time

def slow(prompts, completions, **_):
    time.sleep(0.05)
    return [float(len(c)) for c in completions]
"""


@pytest.fixture
def ask(monkeypatch, capsys, tmp_path):
    """The command in this process, in a hurry, its numbers; nothing is written where it is."""
    for name in ("TURN", "WARM"):
        monkeypatch.setattr(bench, name, 0.03)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(line: str) -> dict:
        cli.dispatch(["bench", *line.split(), *SMALL.split(), "--json"])
        found = json.loads(capsys.readouterr().out)
        one = found["loops"][0]
        assert not any(here.iterdir()) and [*one["share"]] == [*MEANS]
        assert sum(one["share"].values()) == pytest.approx(1)
        assert sum(one["us_of"].values()) == pytest.approx(one["us"]) == pytest.approx(1e6 / one["steps_per_second"])
        assert all(floor < one["us_of"][part] for part, floor in found["floors"].items() if floor)
        return found

    return run


def test_a_slow_reward_is_what_limits(ask, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    found = ask(f"--starts 1 --group 2 --epochs 1 --minibatches 1 --reward {tmp_path}/slow.py:slow")
    assert found["method"] == "grpo" and found["limit"] == "reward" and found["reward_seconds"] > 0.05
    assert "a call for 2 answers takes 0.0" in found["verdict"]


def test_every_part_is_found_where_there_is_one(ask) -> None:
    found = ask("ppo --envs 4 --kl 0.1 --epochs 1 --minibatches 1")
    share = found["loops"][0]["share"]
    assert {part for part, x in share.items() if x} == {*MEANS} and found["model"] == "tiny" and found["task"] == "copy"
    assert all(found["floors"][part] for part in ("sampling", "values", "reference", "update", "measure"))
    assert found["plain"].startswith("GPT2Model is none of")
    parts = ("weights", "gradients", "averages", "pi_old", "reference", "keys_and_values")
    assert found["memory"]["floor"] == sum(found["memory"][x] for x in parts) < found["memory"]["peak"]


def test_multiply_adds_and_memory_are_those_of_the_model() -> None:
    page = find_method("grpo", {"starts": 2, "group": 2, "epochs": 1, "minibatches": 1})
    course = bench.Course(assemble(page, Text(task="copy", level=2), "grpo", None), places)
    sums = course.count()
    parts, batch = course.parts, course.record.batch
    layer, vocabulary = 12 * 64 * 64, parts.policy.head.project.weight.shape[0]
    weights = 2 * layer + 64 * vocabulary
    assert sums["sampling"] >= weights * 0.5  # copies share what they say alike
    biases = 2 * (4 * 64 + 9 * 64) + 2 * 64
    assert bench_language.read_at_once(parts.policy) == 4 * (weights + biases)
    held = bench_language.held(parts, batch)
    size = sum(p.nbytes for p in parts.policy.parameters())
    assert held["weights"] == held["gradients"] == held["pi_old"] == size and held["averages"] >= 2 * size
    longest = bench_language.fullest(parts, batch)
    assert held["keys_and_values"] == longest * 2 * 2 * 64 * 4  # layers, keys and values, width, bytes


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("fast", ["auto", "off"])
def test_keys_and_values_are_as_large_as_those_of_a_rollout(bf16, fast, tmp_path, monkeypatch) -> None:
    settings = {"task": "copy", "level": 2, "model": str(saved("qwen3", tmp_path / "model")), "max_tokens": 4}
    page, made = find_method("grpo", {"starts": 2, "group": 2}), []

    def kept(*given):
        made.append(cache_for(*given))
        return made[-1]

    monkeypatch.setattr(generation, "cache_for", kept)
    course = bench.Course(assemble(page, Text(**settings, bf16=bf16, fast=fast), "grpo", None), places)
    course.turn(least=0.0)
    size = sum(x.shape[1] * x.shape[3] * x.itemsize for layer in made[0].layers for x in layer.room)
    assert bench_language.of_a_token(course.parts.policy) == size


def test_the_weights_of_a_run_are_measured(ask, tmp_path: Path, monkeypatch, capsys) -> None:
    line = f"train grpo --task copy --level 2 --starts 2 --group 2 --steps 8 --out {tmp_path}/runs --quiet --no-plot"
    cli.dispatch([*line.split(), "--evaluate", "0", "--seed", "3"])
    capsys.readouterr()
    run, seen = next((tmp_path / "runs").glob("*/*/*")), []

    def course(parts, places):
        seen.extend(x.clone() for x in parts.policy.state_dict().values())
        return bench.Course(parts, places)

    monkeypatch.setattr(bench_language, "Course", course)
    ask(f"grpo --starts 2 --group 2 --init {run}")
    assert all(map(torch.equal, seen, logpi.load(run).state_dict().values())) and seen


def test_texts_are_most_when_those_still_said_are_longest() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    room = type("Room", (), {"size": None})()
    parts = type("Parts", (), {"collect": type("Collect", (), {"room": room})()})()
    batch = type("Batch", (), {"mask": mask})()
    assert bench_language.fullest(parts, batch) == 6  # 4, 3 + 3, 2 + 2 + 2
    room.size = 1
    assert bench_language.fullest(parts, batch) == 4


def test_looking_leaves_nothing_changed() -> None:
    page = find_method("grpo", {"starts": 2, "group": 2})
    course = bench.Course(assemble(page, Text(task="copy", level=2), "grpo", None), places)
    before = [vars(owner).get(name) for owner, name, *_ in places(course.parts)]
    course.turn(course.clock, 0.0)
    assert before == [vars(owner).get(name) for owner, name, *_ in places(course.parts)]


def told(limit: str, **changes) -> Report:
    """What was measured, where a part takes 90 % of 100 us."""
    share = dict.fromkeys(MEANS, 0.1 / (len(MEANS) - 1)) | {limit: 0.9}
    one = {"share": share, "us_of": {part: 100 * x for part, x in share.items()}, "us": 100.0, "steps_per_second": 1e4}
    machine = {"threads": 1, "cores": 4, "bf16": 2.0, "memory": 2**34, "gflops": 1.0, "read_gb_per_s": 1.0}
    machine |= {"multiply_adds_per_token": 1.0, "weight_bytes": 1}
    memory = {"peak": 2**30, "before": 2**28, "floor": 2**27}
    given = {"loops": [one], "floors": dict.fromkeys(MEANS, 9.0), "machine": machine, "memory": memory}
    given |= {"bound": "arithmetic", "answers": 8, "length": 4.0, "reward_seconds": 0.5, "engine": None, "plain": ""}
    return Report(**(given | {"micro": 64, "halved": False, "device": "cpu"} | changes))


FULL = dict.fromkeys(MEANS, 60.0)
SAYS = {
    "10% of this machine's arithmetic, fused; what may help: more answers side by side (--starts, --group).": (
        "sampling",
        {},
    ),
    "on the plain path because of --fast off; what may help: more": ("sampling", {"plain": "of --fast off"}),
    "67% of this machine's arithmetic, fused; what may help: --threads 4, --bf16.": ("sampling", {"floors": FULL}),
    "reading of the weights, fused; what may help: more answers side by side (--starts, --group), --threads 4": (
        "sampling",
        {"floors": FULL, "bound": "reading"},
    ),
    "vllm says the answers": ("sampling", {"engine": "vllm"}),
    "10% of this machine's arithmetic; what may help: more answers an iteration (--starts, --group), fewer --epochs.": (
        "update",
        {},
    ),
    "what may help: a --micro above 64, fewer --epochs.": ("update", {"answers": 800}),
    "what may help: --threads 4, --bf16, fewer --epochs, --lora.": ("update", {"floors": FULL}),
    "runs at 20% of": ("update", {"lost": 0.5}),
    "The measurement after the update takes 90%: it runs at": ("measure", {}),
    "a call for 8 answers takes 0.5 s, and the model waits": ("reward", {}),
    "The rest of the rollout takes 90%: it is Python around 8 answers": ("rows", {}),
}


@pytest.mark.parametrize("words", SAYS)
def test_the_verdict_says_what_would_help(words: str) -> None:
    limit, changes = SAYS[words]
    found, sentence = verdict(told(limit, **changes), Text(), find_method("grpo"))
    assert found == limit and words in sentence


def test_bfloat16_is_only_named_where_it_is_another_speed() -> None:
    found, page = told("update", floors=FULL), find_method("grpo")
    assert "--no-bf16" not in verdict(found, Text(bf16=True), page)[1]
    found = dataclasses.replace(found, machine=found.machine | {"bf16": 0.5})
    assert "--no-bf16" in verdict(found, Text(bf16=True), page)[1]
    assert "--bf16" not in verdict(found, Text(), page)[1]


def test_memory_is_what_limits_where_it_gives_out() -> None:
    page, much = find_method("grpo"), {"peak": 2**34, "before": 1, "floor": 2**32}
    assert verdict(told("update", halved=True), Text(), page)[0] == "memory"
    limit, sentence = verdict(told("update", memory=much), Text(), page)
    assert limit == "memory" and "a --micro below 64 would help" in sentence
    sentence = verdict(told("update", memory=much | {"floor": 2**33 + 1}), Text(), page)[1]
    assert "--lora 16, or a smaller model" in sentence


@pytest.mark.parametrize("name", ["grpo", "ppo", "reinforce"])
def test_flags_are_the_page_s_own(name: str) -> None:
    page = find_method(name)
    assert bench_language.flags(page) == f" ({', '.join('--' + x for x in SIDE[page.rows])})"


def test_why_sampling_is_plain_is_true(tmp_path: Path) -> None:
    page, folder = find_method("grpo", {"starts": 2, "group": 2}), str(saved("qwen3", tmp_path / "model"))

    def why(**more) -> str:
        settings = Text(task="copy", level=2, model=folder, max_tokens=4, **more)
        course = bench.Course(assemble(page, settings, "grpo", None), places)
        course.turn(least=0.0)
        return course.parts.policy.plain

    assert why() == "" and why(fast="off") == "of --fast off"
    assert why(dtype="float64") == "the fast twin is for float32, and this is float64"


def test_a_window_is_why_sampling_is_plain(tmp_path: Path) -> None:
    pretrained.save(*family("mistral", sliding_window=24), tmp_path / "model")
    for tokens, why in ((2, ""), (24, "its layers forget or fold texts of this length")):
        settings = Text(task="copy", model=str(tmp_path / "model"), max_tokens=tokens)
        course = bench.Course(assemble(find_method("grpo", {"starts": 2, "group": 2}), settings, "grpo", None), places)
        course.turn(least=0.0)
        assert course.parts.policy.plain == why


def test_a_machine_reads_and_multiplies() -> None:
    like = torch.ones(1)
    assert floors.reading(2**20, like) > 1e6 and floors.gain(like, torch.float32) == pytest.approx(1, rel=0.9)
    assert floors.peak("cpu") > 0 and floors.memory("cpu") > 2**20


def test_the_table_ends_in_a_sentence(monkeypatch, capsys) -> None:
    for name in ("TURN", "WARM"):
        monkeypatch.setattr(bench, name, 0.03)
    cli.dispatch(["bench", "--starts", "2", "--group", "2", "--warmup", "2", *SMALL.split()])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("grpo on copy: tiny, 4 answers of") and "tokens/s" in lines[1]
    assert {*MEANS} <= {line.split(" ")[0] for line in lines} and "warm-up: up to 2 supervised steps first" in err
    assert lines[-1].startswith("The ") and lines[-1].endswith(".")
