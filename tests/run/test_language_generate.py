"""`logpi generate`: what a run, or a model folder, says."""

from pathlib import Path

import pytest

from logpi.lm import pretrained
from logpi.lm.tasks import TASKS, draw

SMALL = ("--level", "2", "--quiet", "--no-plot", "--evaluate", "0", "--steps", "40", "--starts", "2", "--group", "2")
MINE = "from logpi.lm.tasks.texts import Copy as Mine\n"


@pytest.fixture
def run(call) -> str:
    assert call("train", "grpo", "--task", "copy", *SMALL)[0] == 0
    return str(next(Path("runs").glob("*/*/*")))


@pytest.fixture
def folder(tmp_path) -> str:
    pretrained.save(*pretrained.begin("tiny", "abcdefghijklmnopqrstuvwxyz="), tmp_path / "model")
    return "model"


def test_a_run_answers_prompts_of_its_test_with_what_they_are_worth(call, run):
    code, out, err = call("generate", run, "--examples", "3", "--n", "2")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[::3] == [draw(TASKS["copy"](2), "test", 0, k)["prompt"] for k in range(3)]
    assert all(x.startswith(("    0.00  ", "    1.00  ")) for k, x in enumerate(lines) if k % 3)
    assert len(lines) == 9 and call("generate", run, "--examples", "3", "--n", "2")[1] == out
    assert call("generate", run, "--examples", "3", "--n", "2", "--seed", "1")[1] != out


def test_a_model_folder_goes_on_from_prompts_of_ones_own(call, folder):
    code, out, err = call("generate", folder, "--prompts", "ab=", "hello=", "--n", "3", "--max-tokens", "2")
    assert code == 0, err
    assert out.splitlines()[::4] == ["ab=", "hello="] and len(out.splitlines()) == 8
    assert all(len(x) <= 4 for x in out.replace(" ...", "").splitlines() if x.startswith("  "))
    assert " ...\n" in out, "cut at the limit"
    alone = call("generate", folder, "--prompts", "ab=", "--greedy")[1].splitlines()
    assert len(alone) == 2, "greedy says one thing"
    for flags in (("--top-k", "1"), ("--top-p", "1e-9"), ("--temperature", "1e-4")):
        assert call("generate", folder, "--prompts", "ab=", "--n", "1", *flags)[1].splitlines() == alone
    assert call("generate", folder, "--task", "copy", "--level", "1", "--examples", "1", "--n", "1")[0] == 0
    assert call("generate", folder, "--task", "copy", "--prompts", "ab=")[0] == 0


def test_own_prompts_need_no_task_of_the_users_and_its_prompts_do(call, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    assert call("train", "grpo", "--task", "./mine.py:Mine", *SMALL)[0] == 0
    run = str(next(Path("runs").glob("*/*/*")))
    assert call("generate", run, "--prompts", "ab=")[0] == 0
    code, _, err = call("generate", run)
    assert (code, err) == (
        2,
        "logpi: This run used a task of yours (./mine.py:Mine): pass it again, --task ./mine.py:Mine.\n",
    )
    assert call("generate", run, "--task", "./mine.py:Mine", "--n", "1")[0] == 0


def test_data_without_answers_have_prompts_and_no_marks(call, folder, tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"prompt": "{c}="}}\n' for c in "abcdefghijklmnopqrst"))
    (tmp_path / "mine.py").write_text("def f(prompts, completions, **_): return [float(len(c)) for c in completions]\n")
    line = ("train", "grpo", "--data", "rows.jsonl", "--model", folder, "--reward", "./mine.py:f", "--max-tokens", "3")
    assert call(*line, *SMALL[2:])[0] == 0
    run = str(next(Path("runs").glob("*/*/*")))
    code, out, err = call("generate", run, "--examples", "1", "--n", "2")
    assert code == 0 and len(out.splitlines()) == 3 and "." not in out.replace(" ...", ""), err


@pytest.mark.parametrize("command", ["export", "play", "variance"])
def test_what_is_for_environments_names_generate(call, run, command):
    code, _, err = call(command, run)
    assert (code, err) == (
        2,
        f"logpi: {run} is a language model and acts in no environment: logpi generate {run} shows what it says.\n",
    )


def test_what_cannot_be_is_one_sentence(call, folder, tmp_path):
    assert call("train", "ppo", "--steps", "64", "--length", "8", "--quiet", "--no-plot", "--evaluate", "0")[0] == 0
    plays = next(Path("runs").glob("*/*/*"))
    lines = {
        "generate nowhere": "There is no folder nowhere: logpi generate takes a run or a model folder.",
        "generate model": "model is a model and no run, so it has no task: give --task or --data.",
        "generate model --task copy --data rows.jsonl": "--data stands in the place of --task: give one of them.",
        "generate model --data rows.jsonl --level 2": "--level is of tasks, and --data has rows of its own",
        "generate model --prompts ab= --level 3": "--level means nothing beside --prompts: leave one of them away.",
        "generate model --prompts ab= --n 3 --greedy": "--n means nothing beside --greedy: leave one of them away.",
        "generate model --prompts AB": "The tokenizer has no tokens for 'AB'",
        "generate model --prompts a --max-tokens 600": "longer than the model's context of 512",
        "generate model --prompts a --top-p 1.5": "--top-p is 1.5: allowed is",
        "generate model --task copy --level two": "--level is 'two': allowed is a whole number 1 or more.",
        "generate model --prompts a --temperature warm": "--temperature is 'warm': allowed is a number greater than 0.",
        "generate model --prompts a --seed many": "--seed is 'many': allowed is a whole number.",
        "generate model --task adition": "There is no task 'adition'.",
        f"generate {plays}": f"{plays} acts in an environment and says nothing: logpi play {plays} shows it.",
        "generate .": "has no checkpoint: it must be a run folder",
    }
    for line, words in lines.items():
        code, _, err = call(*line.split())
        assert code == 2 and words in err and len(err.splitlines()) == 1, err
