"""`logpi eval` of language models: several sampled answers, pass@k, what is read from the folder and what is typed again."""

import json
from itertools import combinations
from pathlib import Path
from statistics import fmean

import pytest

from logpi.lm import pretrained
from logpi.run.commands.eval import Eval
from logpi.run.evaluate import text_settings

QUICK = ("--quiet", "--no-plot", "--evaluate", "0", "--starts", "2", "--group", "2", "--steps", "20")
MINE = """
def half(prompts, completions, **_): return [0.5 for _ in completions]
def dies(prompts, completions, **_): return [1.0 if "a" in c else ValueError("no a") for c in completions]
"""


def trained(call, *more: str) -> Path:
    code, _, err = call("train", "grpo", *more, *QUICK)
    assert code == 0, err
    return max(Path("runs").glob("*/*/*"), key=lambda x: x.stat().st_mtime)


def told(run: Path, name: str) -> dict:
    return json.loads(next((run / "eval").glob(name)).read_text())


def test_pass_at_k_is_counted_from_the_samples(call):
    run = trained(call, "--task", "sort-digits", "--level", "2", "--warmup", "100", "--warmup-rows", "64")
    code, out, err = call("eval", str(run), "--episodes", "30", "--samples", "6")
    assert code == 0, err
    greedy, sampled, *passed, written = out.splitlines()
    assert "(deterministic)" in greedy and "over 30 prompts (sampled)" in sampled and written.endswith("-30-x6.json")
    assert [x.split()[0] for x in passed] == ["pass@1", "pass@2", "pass@4", "pass@6"]
    found = told(run, "*-x6.json")
    rewards = found["rewards"]
    assert (len(rewards), len(rewards[0]), found["samples"]) == (30, 6, 6)
    assert 0 < sum(map(sum, rewards)) < 180, "some are right, some are not, or the test shows little"
    for k in (1, 2, 4, 6):
        brute = fmean(fmean(max(x) for x in combinations(row, k)) for row in rewards)
        assert found["pass_at"][str(k)]["mean"] == pytest.approx(brute, abs=1e-12)
        assert found["pass_at"][str(k)]["low"] <= brute <= found["pass_at"][str(k)]["high"]
    mean = found["evaluations"][1]
    assert mean["returns"] == [fmean(row) for row in rewards] and mean["mean"] == pytest.approx(
        found["pass_at"]["1"]["mean"]
    )
    assert len(mean["lengths"]) == 180
    again = call("eval", str(run), "--episodes", "30", "--samples", "6")[1]
    assert again == out, "the same seed, the same answers"


def test_how_tokens_are_chosen_is_the_callers(call):
    run = trained(call, "--task", "copy", "--level", "2")
    for flags, mark in (
        (("--top-k", "1"), "-x2-k1"),
        (("--top-p", "1e-6"), "-x2-p1e-06"),
        (("--temperature", "1e-4"), "-x2-t0.0001"),
    ):
        assert call("eval", str(run), "--episodes", "10", "--samples", "2", *flags)[0] == 0
        found = told(run, f"*{mark}.json")
        greedy, sampled = found["evaluations"]
        assert sampled["lengths"] == [x for x in greedy["lengths"] for _ in range(2)], (
            "the likeliest token alone is left"
        )
    found = told(run, "*-x2-k1.json")
    assert (found["top_k"], found["top_p"], found["temperature"]) == (1, 1.0, 1.0)


def test_other_rewards_than_0_and_1_have_a_mean_and_no_pass(call, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    run = trained(call, "--task", "copy", "--level", "1", "--reward", "./mine.py:half")
    code, out, err = call("eval", str(run), "--episodes", "5", "--samples", "2", "--reward", "./mine.py:half")
    assert code == 0, err
    assert "0.500 ± 0.000 over 5 prompts (sampled)\nno pass@k: rewards are other numbers than 0 and 1" in out
    assert "pass_at" not in told(run, "*-x2.json")


@pytest.mark.filterwarnings("ignore:The reward dies failed")
def test_a_reward_that_failed_is_no_pass(call, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    line = ("--reward", "./mine.py:dies")
    run = trained(call, "--task", "copy", "--level", "1", *line, "--reward-failed", "-0.25")
    rows = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert sum(row["reward_failures"] for row in rows) > 0, "counted in the log"
    assert call("eval", str(run), "--episodes", "20", "--samples", "4", *line)[0] == 0
    found = told(run, "*-x4.json")
    assert {x for row in found["rewards"] for x in row} <= {-0.25, 1.0} and found["reward_failures"] > 0
    assert found["pass_at"]["1"]["mean"] == fmean(x == 1 for row in found["rewards"] for x in row)


def test_rewards_by_name_are_not_typed_again_and_rows_come_once(call, tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz ?0123456789#.+="
    pretrained.save(*pretrained.begin("tiny", letters), tmp_path / "model")
    rows = [{"question": f"{k}+1=?", "answer": f"one more.#### {k + 1}"} for k in range(60)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(x) + "\n" for x in rows))
    base = ("--data", "sums.jsonl", "--model", "model", "--max-tokens", "4")
    code, told_at_its_end, err = call("train", "grpo", *base, *QUICK[:2], "--evaluate", "1000", *QUICK[4:])
    assert code == 0, err
    run = max(Path("runs").glob("*/*/*"), key=lambda x: x.stat().st_mtime)
    code, out, err = call("eval", str(run), "--episodes", "1000", "--samples", "2")
    assert code == 0, err
    found = told(run, "*-x2.json")
    assert 0 < len(found["rewards"]) < 20 and f"over {len(found['rewards'])} prompts" in out and found["env"] == "sums"
    assert f"{len(found['rewards'])} prompts it never saw" in told_at_its_end, (
        "as many as there were, not as were asked for"
    )
    programs = [{"prompt": f"{k}?", "tests": [f"assert {k} >= 0"]} for k in range(60)]
    (tmp_path / "programs.jsonl").write_text("".join(json.dumps(x) + "\n" for x in programs))
    run = trained(call, "--data", "programs.jsonl", *base[2:], "--reward", "code")
    assert call("eval", str(run), "--episodes", "2")[0] == 0
    code, _, err = call("resume", str(run), "--steps", "40", "--quiet")
    assert code == 0, err
    code, _, err = call("train", "grpo", *base, "--reward", "code", *QUICK)
    assert code == 2 and "has no tests, which the reward code needs" in err


def test_puzzles_train_from_nothing_but_their_name(call):
    run = trained(call, "--task", "reasoning-gym/spell_backward", "--level", "1", "--max-tokens", "4")
    code, out, err = call("generate", str(run), "--examples", "1", "--n", "2", "--max-tokens", "4")
    assert code == 0 and "0.00" in out, err
    code, _, err = call("train", "grpo", "--task", "reasoning-gym/spell_backward")
    assert (
        code == 2 and "How long may an answer be? reasoning-gym/spell_backward does not say: give --max-tokens." in err
    )


def test_a_reward_that_is_not_there_is_refused_before_a_folder_is_made(call, tmp_path):
    for name, words in (
        ("./mine.py:f", "The reward ./mine.py:f cannot be loaded: There is no file ./mine.py"),
        ("cod", "There is no reward 'cod'"),
    ):
        code, _, err = call("train", "grpo", "--task", "copy", "--reward", name, *QUICK)
        assert code == 2 and words in err and len(err.splitlines()) == 1 and not (tmp_path / "runs").exists(), err


def test_flags_of_the_other_kind_of_run_are_refused(call):
    run = trained(call, "--task", "copy", "--level", "1")
    code, _, err = call("eval", str(run), "--env", "CartPole-v1")
    assert code == 2 and f"--env is for environments, and {run} is a language model: leave it away." in err
    assert call("train", "ppo", "--steps", "64", "--length", "8", *QUICK[:4])[0] == 0
    plays = max(Path("runs").glob("*/*/*"), key=lambda x: x.stat().st_mtime)
    for flags in (("--samples", "2"), ("--top-k", "2"), ("--task", "copy")):
        code, _, err = call("eval", str(plays), *flags)
        assert code == 2 and f"{flags[0]} is for language models, and {plays} is a policy in an environment" in err


def test_a_model_folder_is_judged_by_a_task_or_by_data(call, tmp_path):
    pretrained.save(*pretrained.begin("tiny", "abcdefghijklmnopqrstuvwxyz="), tmp_path / "model")
    code, out, err = call("eval", "model", "--task", "copy", "--level", "1", "--episodes", "5", "--samples", "2")
    assert code == 0 and out.splitlines()[-1] == "written to model/eval/model-copy-seed10000-5-x2-level-1.json", err
    assert len(told(Path("model"), "*-copy-*")["rewards"]) == 5
    rows = "".join(f'{{"prompt": "{c}=", "answer": "{c}"}}\n' for c in "abcdefghijklmnopqrstuvwxyz")
    (tmp_path / "rows.jsonl").write_text(rows)
    data = ("eval", "model", "--data", "rows.jsonl", "--episodes", "2", "--max-tokens", "3")
    code, out, err = call(*data)
    assert code == 0 and out.endswith("/model-rows-seed10000-2-data-rows.jsonl-max_tokens-3.json\n"), err
    assert max(told(Path("model"), "*-rows-*")["evaluations"][1]["lengths"]) <= 3
    code, _, err = call("eval", "modle", "--task", "copy")
    assert (code, err) == (2, "logpi: There is no folder modle: logpi eval takes a run or a model folder.\n")
    code, _, err = call("eval", "model")
    assert (code, err) == (2, "logpi: model is a model and no run, so it has no task: give --task or --data.\n")


def test_another_task_stands_in_the_place_of_a_runs_data(tmp_path):
    (tmp_path / "config.toml").write_text('[run]\ntask = "addition"\ndata = "rows.jsonl"\nlevel = 3\n')
    found = text_settings(tmp_path, Eval(runs=(tmp_path,), task="copy"))
    assert (found.task, found.data, found.level) == ("copy", None, 3)


def test_another_question_is_another_file_that_says_which(call, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    run = trained(call, "--task", "copy", "--level", "1", "--max-tokens", "2")
    reward = ("--reward", f"./{'/'.join(['.'] * 60)}/mine.py:half")
    for more in ((), ("--level", "2"), ("--max-tokens", "3"), ("--level", "1"), ("--reward", "./mine.py:half"), reward):
        code, _, err = call("eval", str(run), "--episodes", "2", *more)
        assert code == 0, err
    found = {x.name.partition("-copy-seed10000-2")[2]: json.loads(x.read_text()) for x in (run / "eval").iterdir()}
    shortened = next(x for x in found if len(x) == len("-.json") + 16)
    names = {".json", "-level-2.json", "-max_tokens-3.json", "-reward-._mine.py_half.json", shortened}
    assert {*found} == names, "what is the run's own has no mark"
    asked = [found[k] for k in (".json", "-level-2.json", "-max_tokens-3.json")]
    assert [(x["task"], x["data"], x["level"], x["max_tokens"], x["reward"]) for x in asked] == [
        ("copy", None, 1, 2, []),
        ("copy", None, 2, 2, []),
        ("copy", None, 1, 3, []),
    ]
    assert found[shortened]["reward"] == [reward[1]]
