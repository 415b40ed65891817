"""`--lora`: runs, resumes to the bit, and its checkpoints are peft's own."""

import copy
import json
import shutil

import pytest
import torch
from run.test_language_runs import ROWS, SMALL, run_of, same

import logpi
from logpi import LogpiError
from logpi.lm import lora, pretrained
from logpi.methods import METHODS
from logpi.run.checkpoint import choose

SIZES = {"groups": {"starts": 4, "group": 3}, "episodes": {"episodes": 12}, "segments": {"envs": 12}}
ALSO = {"grpo": {"kl": 0.1}}
HOW = {"task": "reverse-text", "level": 3, "steps": 150, "warmup": 10, "lora": 2}


@pytest.mark.parametrize("method", ["grpo", "ppo", "npg", "trpo", "baseline"])
def test_methods_train_the_adapter_alone_and_resume_to_the_bit(method, tmp_path):
    whole = []
    for record in logpi.learn(method, **SIZES[METHODS[method]().rows], **ALSO.get(method, {}), **HOW):
        if record.iteration == 2:
            saved = record.save(tmp_path)
        whole.append((record.metrics, copy.deepcopy(record.policy.state_dict())))
    first, last = whole[0][1], whole[-1][1]
    assert len(whole) > 3
    assert all(torch.equal(first[k], last[k]) for k in first if not lora.of_adapter(k))
    assert not same(first, last)
    for record, (metrics, weights) in zip(logpi.resume(saved), whole[2:], strict=True):
        assert same(record.policy.state_dict(), weights)
        assert {k: record.metrics[k] for k in metrics} == metrics


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of checkpoints, the newest, the policy then)."""
    folder = tmp_path_factory.mktemp("trained")
    for record in logpi.learn("grpo", kl=0.1, lr=0.01, **SIZES["groups"], **HOW):
        saved = record.save(folder)
    return folder, saved, copy.deepcopy(record.policy)


IDS = torch.tensor([[3, 1, 4, 1, 5]])


def said(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft of transformers
def test_peft_alone_reads_it(trained):
    from peft import AutoPeftModelForCausalLM

    _, saved, policy = trained
    assert {x.name for x in saved.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
    assert not (saved / "model.safetensors").exists()
    alone = AutoPeftModelForCausalLM.from_pretrained(saved)
    torch.testing.assert_close(said(alone), said(policy.model), rtol=0, atol=1e-6)
    with lora.off(policy.model):
        torch.testing.assert_close(said(pretrained.load(str(saved.parent / "base"))[0]), said(policy.model))


def test_logpi_reads_it_wherever_the_run_has_moved(trained, tmp_path):
    folder, saved, policy = trained
    assert torch.equal(said(logpi.load(saved).model), said(policy.model))
    shutil.copytree(folder, tmp_path / "moved")
    moved = tmp_path / "moved" / saved.name
    assert lora.base_of(moved) == (str(tmp_path / "moved" / "base"), None)
    assert torch.equal(said(logpi.load(moved).model), said(policy.model))
    merged, _ = pretrained.load(str(moved))
    assert not any(map(lora.of_adapter, merged.state_dict()))
    torch.testing.assert_close(said(merged), said(policy.model), rtol=0, atol=1e-5)


def test_an_adapter_on_other_weights_or_without_its_base_is_refused(trained, tmp_path):
    folder, saved, _ = trained
    shutil.copytree(folder, tmp_path / "other")
    there = tmp_path / "other" / saved.name
    base, tokenizer = pretrained.load(str(folder / "base"))
    with torch.no_grad():
        next(base.parameters()).add_(0.1)
    shutil.rmtree(tmp_path / "other" / "base")
    pretrained.save(base, tokenizer, tmp_path / "other" / "base")
    with pytest.raises(LogpiError, match="was not trained on the weights that .*base has"):
        logpi.load(there)
    record = next(logpi.learn("grpo", **SIZES["groups"], **HOW | {"seed": 3}))
    with pytest.raises(LogpiError, match="base is the base of another run: save to another folder"):
        record.save(folder)
    shutil.rmtree(tmp_path / "other" / "base")
    config = json.loads((there / "adapter_config.json").read_text())
    (there / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/nowhere/base"}))
    with pytest.raises(LogpiError, match="The base model of .* is not at /nowhere/base"):
        lora.base_of(there)
    (there / "adapter_config.json").write_text("{}")
    with pytest.raises(LogpiError, match="does not describe an adapter"):
        lora.base_of(there)


def test_a_model_of_a_folder_is_not_copied(trained, tmp_path):
    folder, _, _ = trained
    how = {**HOW, "warmup": 0, "model": str(folder / "base")}
    record = next(logpi.learn("grpo", **SIZES["groups"], **how))
    saved = record.save(tmp_path)
    assert [x.name for x in tmp_path.iterdir()] == [saved.name]
    assert json.loads((saved / "adapter_config.json").read_text())["base_model_name_or_path"] == how["model"]
    assert same(logpi.load(saved).state_dict(), record.policy.state_dict())


def test_the_command_trains_evaluates_and_begins_anew_from_its_weights(call, tmp_path):
    line = ("train", "grpo", *SMALL, *ROWS["groups"], "--steps", "60", "--lora", "2")
    assert call(*line)[0] == 0
    run = run_of(tmp_path)
    assert (run / "checkpoints" / "base" / "config.json").is_file()
    code, out, err = call("eval", str(run), "--episodes", "10")
    assert code == 0, err
    merged, _ = pretrained.load(str(choose(run)[0]))
    for extra in ((), ("--lora", "0"), ("--lora", "1")):
        code, out, err = call(*line[:-2], "--task", "copy", "--init", str(run), "--out", "more", *extra)
        assert code == 0, err
        newer = max((tmp_path / "more").glob("*/*/*"), key=lambda x: (x / "config.toml").stat().st_mtime_ns)
        first = min((newer / "checkpoints").glob("step-*"))
        torch.testing.assert_close(said(logpi.load(first).model), said(merged), rtol=0, atol=1e-5)
    code, _, err = call(*line[:-2], "--lora-alpha", "2")
    assert (code, err) == (
        2,
        "logpi: --lora-alpha is the weight of an adapter, and there is none: give --lora, its rank.\n",
    )
