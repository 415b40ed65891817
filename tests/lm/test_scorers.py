"""Rewards by name: mathematics by value, puzzles by their own score."""

import ast
import json
import random
import time

import pytest
import torch
from lm.little import little

from logpi import LogpiError
from logpi.lm import extras, scorers, tasks
from logpi.lm.data import Table
from logpi.lm.formats import after_hashes, boxed
from logpi.lm.rewards import Rewards
from logpi.lm.tasks import draw
from logpi.lm.tasks.reasoning import plain

GSM8K = [
    {"question": f"Ann has {k} pens and buys 2. How many?", "answer": f"She has {k}+2={k + 2}.\n#### {k + 2}"}
    for k in range(40)
]
MATH = [
    {
        "problem": f"Halve ${k}$.",
        "solution": rf"So it is $\boxed{{\frac{{{k}}}{{2}}}}$.",
        "level": "Level 1",
        "type": "Algebra",
    }
    for k in range(1, 41, 2)
]


def table(tmp_path, rows, kind="jsonl") -> Table:
    file = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pa = pytest.importorskip("pyarrow")
        __import__("pyarrow.parquet").parquet.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Table(file)


@pytest.fixture(scope="module")
def rewards():
    judges = {}

    def make(task) -> Rewards:
        judges[task.judged_by] = judges.get(task.judged_by) or scorers.own(task, 60.0, 0, -1.0)
        return Rewards(task, judges[task.judged_by])

    yield make
    for judge in (x for found in judges.values() for x in found):
        judge.close()


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_gsm8k_is_prompts_with_answers_judged_by_value(tmp_path, rewards, kind):
    task = table(tmp_path, GSM8K, kind)
    row = draw(task, "train", 0, 0)
    n = int(row["prompt"].split()[2])
    assert row == {"prompt": GSM8K[n]["question"], "completion": GSM8K[n]["answer"], "answer": str(n + 2)}
    right, wrong = row["completion"], f"#### {n + 3}"
    said = [
        right,
        f"The answer is {n + 2}.",
        f"\\boxed{{{2 * n + 4}/2}}",
        f"{n + 2}.0",
        wrong,
        "no idea",
        "",
        f"first {n + 2}, no: {wrong}",
    ]
    assert rewards(task)([row] * 8, said).tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_math_is_prompts_with_answers_judged_by_value(tmp_path, rewards, kind):
    task = table(tmp_path, MATH, kind)
    row = draw(task, "train", 0, 0)
    n = int(row["prompt"].strip("Halve $."))
    assert row["answer"] == rf"\frac{{{n}}}{{2}}" and row["type"] == "Algebra" and row["prompt"] == f"Halve ${n}$."
    said = [
        row["completion"],
        f"{n / 2}",
        rf"$\frac{{{2 * n}}}{{4}}$",
        rf"\boxed{{{n}}}",
        rf"{n / 2} is not \boxed{{7.7}}",
    ]
    assert rewards(task)([row] * 5, said).tolist() == [1, 1, 1, 0, 0]


def test_the_answer_is_behind_the_last_mark():
    assert after_hashes("#### 3\nno\n#### 1,234 ") == "1,234"
    assert boxed(r"\boxed{1} then $\boxed{\frac{1}{\sqrt{2}}}$, so") == r"\frac{1}{\sqrt{2}}"
    assert boxed(r"cut \boxed{12") == "12"


def test_rows_of_another_format_in_between_are_refused(tmp_path):
    with pytest.raises(
        LogpiError, match=r"Row 2 of .*rows.jsonl is no question with #### in its answer, as the first is"
    ):
        table(tmp_path, [GSM8K[0], {"question": "a", "answer": "b"}])
    with pytest.raises(LogpiError, match=r"Row 2 of .* is no problem with \\boxed{ in its solution"):
        table(tmp_path, [MATH[0], GSM8K[0]])


def test_an_answer_that_takes_for_ever_costs_itself_alone(rewards, tmp_path):
    """SIGALRM reaches a judge, whose only thread is its main one; and it is no Exception that sympy would keep."""
    task = table(tmp_path, GSM8K)
    row = draw(task, "train", 0, 0)
    judged, began = rewards(task), time.monotonic()
    with pytest.warns(
        UserWarning, match=r"The reward math failed for 1 of 3 completions .TimeoutError: one answer took more than 2 s"
    ):
        found = judged(
            [row] * 3, [row["answer"], r"\boxed{9^{9^{9^{9^{9}}}} + \sum_{k=1}^{10^{9}} \sin(k^{k})}", row["answer"]]
        )
    assert found.tolist() == [1, -1, 1] and time.monotonic() - began < 20


@pytest.mark.parametrize("name", ["leg_counting", "knights_knaves", "propositional_logic"])
def test_puzzles_have_their_own_score_which_another_process_gives_too(name, rewards):
    task = tasks.find(f"reasoning-gym/{name}")
    rows = [draw(task, "test", 0, k) for k in range(2)]
    said = [f"I think <answer>{row['answer']}</answer>" for row in rows]
    kind = task.kind(task.config)
    expected = [kind.score_answer(str(row["answer"]), ast.literal_eval(row["entry"])) for row in rows]
    assert rewards(task)(rows, said).tolist() == expected
    if rows[0]["answer"] is not None:
        assert expected == [1, 1] and rewards(task)(rows, [" " + row["answer"] + "\n" for row in rows]).tolist() == [
            1,
            1,
        ]
    assert max(rewards(task)(rows, ["<answer>?</answer>", ""]).tolist()) < 0.1


def test_a_score_that_raises_fails_alone(rewards):
    task = tasks.find("reasoning-gym/prime_factorization")
    row = draw(task, "train", 0, 0)
    with pytest.warns(UserWarning, match="failed for 1 of 2 completions .ValueError: invalid literal"):
        assert rewards(task)([row] * 2, ["xyz", row["answer"]]).tolist() == [-1, 1]


def test_puzzles_are_numbered_split_by_themselves_and_touch_no_global_generator():
    before = (random.getstate(), torch.get_rng_state())
    task = tasks.find("reasoning-gym/leg_counting")
    train, test = ([draw(task, split, 0, k) for k in range(60)] for split in ("train", "test"))
    assert train[7] == draw(tasks.find("reasoning-gym/leg_counting"), "train", 0, 7)
    assert len({x["prompt"] for x in train}) > 50 and not {x["prompt"] for x in train} & {x["prompt"] for x in test}
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])
    easy, hard = (draw(tasks.find("reasoning-gym/leg_counting", level), "train", 0, 0) for level in (1, 9))
    assert len(easy["prompt"]) < len(hard["prompt"])
    assert plain({"a": (torch.zeros(1).numpy()[0], [1])}) == {"a": (0.0, [1])}


def test_what_there_is_not_is_refused_in_a_sentence(monkeypatch):
    for name, level, words in (
        ("reasoning-gym/leg_countin", None, "There is no task reasoning-gym/leg_countin. Did you mean leg_counting"),
        ("reasoning-gym:leg_counting", None, "is spelt with a slash: reasoning-gym/leg_counting."),
        ("reasoning-gym/composite", None, "reasoning-gym/composite cannot be made "),
        ("reasoning-gym/gsm_symbolic", 2, "reasoning-gym/gsm_symbolic at level 2 cannot be made "),
    ):
        with pytest.raises(LogpiError, match=words):
            tasks.find(name, level)
    with pytest.raises(
        LogpiError, match=r"There is no reward 'mth': there is math, reasoning-gym, code, and ./file.py:f of yours.$"
    ):
        scorers.scorer("mth")
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(
        LogpiError, match=r'The task reasoning-gym/ab needs reasoning-gym: pip install "logpi\[tasks\]"'
    ):
        tasks.find("reasoning-gym/ab")
    with pytest.raises(LogpiError, match=r'The reward math needs math-verify: pip install "logpi\[tasks\]"'):
        scorers.scorer("math")


def test_a_new_model_reads_puzzles():
    task = tasks.find("reasoning-gym/leg_counting")
    policy = little(letters=task.letters)
    assert (
        policy.tokenizer.decode(policy.encode(draw(task, "train", 0, 0)["prompt"]))
        == draw(task, "train", 0, 0)["prompt"]
    )
