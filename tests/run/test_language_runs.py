"""`logpi train METHOD --task`: runs, resumes to the bit, evaluates, and loads with transformers alone."""

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import logpi
from logpi.methods import METHODS
from logpi.run import language
from logpi.run.checkpoint import choose
from logpi.run.train import why_zero

SMALL = ("--task", "copy", "--level", "2", "--quiet", "--no-plot", "--evaluate", "0")
ROWS = {"groups": ("--starts", "4", "--group", "3"), "episodes": ("--episodes", "12"), "segments": ("--envs", "12")}


def small(method: str) -> tuple[str, ...]:
    page = METHODS[method]()
    return ("train", method, *SMALL, *ROWS[page.rows])


def run_of(folder: Path) -> Path:
    return next((folder / "runs").glob("*/*/*"))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_resumes_to_the_bit(method, tmp_path):
    sizes = {"groups": {"starts": 4, "group": 3}, "episodes": {"episodes": 12}, "segments": {"envs": 12}}
    how = sizes[METHODS[method]().rows] | {"task": "reverse-text", "level": 3, "steps": 150, "warmup": 10}
    whole = []
    for record in logpi.learn(method, **how):
        if record.iteration == 2:
            saved = record.save(tmp_path)
        whole.append((record.metrics, copy.deepcopy(record.policy.state_dict())))
    assert len(whole) > 3 and not same(whole[0][1], whole[-1][1])
    for record, (metrics, weights) in zip(logpi.resume(saved), whole[2:], strict=True):
        assert same(record.policy.state_dict(), weights)
        assert {k: record.metrics[k] for k in metrics} == metrics


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_a_checkpoint_is_a_hugging_face_folder(call, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert call(*small("grpo"), "--steps", "60")[0] == 0
    run = run_of(tmp_path)
    folder, _ = choose(run)
    model, policy = AutoModelForCausalLM.from_pretrained(folder), logpi.load(run)
    ids = AutoTokenizer.from_pretrained(folder)("ab=", return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert ids.tolist() == [policy.encode("ab=")]
    torch.testing.assert_close(model(input_ids=ids).logits[0], policy.model(input_ids=ids).logits[0], rtol=0, atol=0)


def test_eval_answers_prompts_of_the_test_greedily_and_sampled(call, tmp_path):
    assert call(*small("grpo"), "--steps", "60")[0] == 0
    code, out, err = call("eval", str(run_of(tmp_path)), "--episodes", "20")
    assert code == 0, err
    first, second, _ = out.splitlines()
    assert "over 20 prompts (deterministic)" in first and "over 20 prompts (sampled)" in second
    found = json.loads(next((run_of(tmp_path) / "eval").glob("*.json")).read_text())
    assert found["env"] == "copy" and len(found["evaluations"][0]["returns"]) == 20


def test_rows_and_metrics_are_logged(call, tmp_path):
    assert call(*small("grpo"), "--steps", "100")[0] == 0
    rows = [json.loads(x) for x in (run_of(tmp_path) / "metrics.jsonl").read_text().splitlines()]
    assert {"reward", "length", "truncated", "entropy", "kl", "clip_fraction", "groups_without_signal", "tokens"} <= {
        *rows[0]
    }
    assert all(row["first_ratio_error"] < 1e-5 for row in rows)


def test_a_loss_of_zero_is_explained_once_and_only_where_it_is_zero(call, tmp_path):
    loud = [x for x in small("grpo") if x != "--quiet"]
    one = ("--warmup", "60", "--warmup-rows", "64", "--steps", "200", "--minibatches", "1")
    for epochs, times in (("1", 1), ("4", 0)):
        code, out, err = call(*loud, *one, "--epochs", epochs)
        assert code == 0, err
        assert out.count("the loss is 0") == out.count("its gradient is not 0") == times
    record = SimpleNamespace(metrics={"surrogate": 1e-9, "grad_norm": 0.5})
    assert "Ψ is centred and the ratio is 1" in why_zero(record) and "(norm 0.5)" in why_zero(record)
    for surrogate, slope in ((0.02, 0.5), (0.0, 0.0), (5e-4, 0.01)):
        assert why_zero(SimpleNamespace(metrics={"surrogate": surrogate, "grad_norm": slope})) == ""
    assert why_zero(SimpleNamespace(metrics={})) == "", "a natural step says no surrogate"


def test_groups_that_all_lack_a_signal_are_told(call, tmp_path):
    (tmp_path / "flat.py").write_text("def f(prompts, completions, **columns):\n    return [0.5] * len(prompts)\n")
    loud = [x for x in small("grpo") if x != "--quiet"]
    code, out, err = call(*loud, "--steps", "100", "--reward", "flat.py:f")
    assert code == 0, err
    assert out.count("no group has a signal: the rewards in each are equal") == 1 and "the loss is 0" not in out


def test_a_run_with_older_weights_begins_again_as_it_began(call, tmp_path, monkeypatch):
    line = (*small("grpo"), "--steps", "60", "--warmup", "2")
    assert call(*line)[0] == 0
    older = run_of(tmp_path)
    assert call(*line, "--init", str(older), "--seed", "5", "--out", "more")[0] == 0
    run = next((tmp_path / "more").glob("*/*/*"))
    first = numbers(run)
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    monkeypatch.setattr(language, "taught", None)  # no step of a warm-up: its weights are not kept
    code, _, err = call("resume", str(run), "--quiet")
    assert code == 0, err
    assert first and numbers(run) == first


def numbers(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: x for k, x in row.items() if k != "seconds"} for row in rows]
