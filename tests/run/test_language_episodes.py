"""Episodes of several turns and engines of the user's, through the commands."""

import copy
import json
from pathlib import Path

import pytest
import torch

import logpi

SMALL = ("--quiet", "--no-plot", "--evaluate", "0", "--starts", "4", "--group", "4")
ENGINE = """
from logpi.lm.engine import Own


class Mine(Own):
    name = "mine"
"""
TASK = """
class Chatty:
    letters, limit = "abcdefgh?=", 4

    def example(self, chance):
        return {"prompt": "".join(chance.choices("abcdefgh", k=4)) + "=", "answer": ["a", "b"]}

    def reply(self, said, **columns):
        return "?" if len(said) < 2 else None

    def reward(self, prompts, completions, turns, **columns):
        return [len(x) / 2 + ("?" in y) for x, y in zip(turns, completions)]
"""


def run_of(folder: Path) -> Path:
    return next((folder / "runs").glob("*/*/*"))


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_episodes_of_several_turns_resume_to_the_bit(method, tmp_path):
    sizes = {"starts": 4, "group": 4} if method == "grpo" else {"envs": 16}
    whole = []
    for record in logpi.learn(method, task="guess-number", level=3, steps=400, warmup=30, warmup_rows=32, **sizes):
        if record.iteration == 2:
            saved = record.save(tmp_path)
        whole.append((record.metrics, copy.deepcopy(record.policy.state_dict())))
        b = record.batch
        inside = b.mask.cumsum(-1).bool() & b.mask.flip(-1).cumsum(-1).flip(-1).bool() & ~b.mask
        assert record["turns"] == 1 or inside.any(), "what the task says is masked"
        assert record["first_ratio_error"] < 1e-5
    assert max(m["turns"] for m, _ in whole) > 1 and len(whole) > 3
    for record, (metrics, weights) in zip(logpi.resume(saved), whole[2:], strict=True):
        assert all(torch.equal(record.policy.state_dict()[k], x) for k, x in weights.items())
        assert {k: record.metrics[k] for k in metrics} == metrics


def test_guess_number_is_trained_evaluated_shown_and_taken_apart(call, tmp_path):
    how = ("--task", "guess-number", "--level", "3", "--warmup", "60", "--steps", "200")
    code, out, err = call("train", "grpo", *how, *SMALL)
    assert code == 0, err
    run = run_of(tmp_path)
    rows = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(1 <= row["turns"] <= 2 for row in rows)
    code, out, err = call("eval", str(run), "--episodes", "20")
    assert code == 0 and "over 20 prompts (sampled)" in out, err
    code, out, err = call("generate", str(run), "--examples", "8", "--n", "4")
    assert code == 0 and ("<" in out or ">" in out), err + out
    code, out, err = call("tokens", str(run), "--rows", "16")
    assert code == 0 and "the log has the same figures, to the bit" in out, err
    assert "own: masked" in next((run / "tokens").glob("*.html")).read_text()


def test_a_task_of_several_turns_of_yours_is_taught_and_trained(call, tmp_path):
    (tmp_path / "chatty.py").write_text(TASK)
    task = ("--task", "./chatty.py:Chatty")
    code, out, err = call("sft", *task, "--model", "tiny", "--out", "taught", "--steps", "60", "--rows", "32")
    assert code == 0, err
    code, out, err = call("train", "rloo", *task, "--model", "taught", "--steps", "150", *SMALL)
    assert code == 0, err
    code, out, err = call("generate", "taught", *task, "--n", "2")
    assert code == 0 and "a?b" in out, err


def test_an_engine_of_yours_samples_in_training_and_is_named_again(call, tmp_path):
    (tmp_path / "engine.py").write_text(ENGINE)
    how = ("--task", "copy", "--level", "2", "--engine", "./engine.py:Mine")
    code, out, err = call("train", "grpo", *how, "--steps", "60", *SMALL)
    assert code == 0, err
    run = run_of(tmp_path)
    code, out, err = call("resume", str(run), "--steps", "120")
    assert code == 2 and "an engine of yours (./engine.py:Mine): pass it again, --engine ./engine.py:Mine" in err
    for command in (("resume", "--steps", "120", "--quiet"), ("tokens",)):
        name, *rest = command
        code, out, err = call(name, str(run), *rest, "--engine", "./engine.py:Mine")
        assert code == 0, err
    assert "log μ" in next((run / "tokens").glob("*.html")).read_text()
    code, out, err = call("eval", str(run), "--episodes", "5")
    assert code == 0, "an evaluation is our own engine's: " + err
    code, out, err = call("train", "grpo", "--config", str(run / "config.toml"), "--quiet")
    assert code == 2 and "engine is code of yours" in err
