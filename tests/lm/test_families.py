"""Causal LMs of many families, from a folder: what they say has the log pi that training finds, and a step is finite."""

import contextlib

import pytest
import torch
from lm.families import FAMILIES, family, saved

import logpi
from logpi import LogpiError
from logpi.lm import lora
from logpi.lm.tasks.texts import Copy
from logpi.methods import PPO
from logpi.policy.tokens import Tokens
from logpi.run.language import Text
from logpi.run.setup import assemble

PLAIN = {"bloom", "gemma2", "gpt_neo", "mpt"}  # without a fused attention
WITH_NAN = {"bloom", "gemma2", "mpt"}  # in float64


class Varied(Copy):
    def reward(self, prompts, completions, answer, **_):
        return [float(len({*x})) for x in completions]


def step(folder, **how):
    """(record, parameters that moved) of one iteration."""
    run = logpi.learn("grpo", task="copy", model=str(folder), starts=4, group=4, max_tokens=4, **how)
    parts = run.gi_frame.f_locals["parts"]
    parts.collect.rewards.task = Varied()
    return next(run), parts.policy


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_of_a_family(name, bf16, tmp_path):
    folder = saved(name, tmp_path / name)
    with pytest.warns(UserWarning, match="no fused attention") if name in PLAIN else contextlib.nullcontext():
        record, policy = step(folder, seed=1, bf16=bf16)
    before = family(name)[0].state_dict()
    assert record["first_ratio_error"] <= (0.1 if bf16 else 1e-5)
    assert record["grad_norm"] > 0 and all(p.isfinite().all() for p in policy.parameters())
    assert any(not torch.equal(x, before[k]) for k, x in policy.model.state_dict().items())


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_padding_in_float64_is_borne_or_refused(name):
    policy = Tokens(*family(name))
    refused = pytest.raises(LogpiError, match="says NaN behind padding in float64: use --dtype float32")
    with refused if name in WITH_NAN else contextlib.nullcontext():
        policy.place("cpu", torch.float64)


@pytest.mark.filterwarnings("ignore:.*no fused attention")
def test_a_memory_that_takes_padding_for_text_is_refused_wherever_a_model_comes_from(tmp_path):
    mamba, llama = (str(saved(name, tmp_path / name)) for name in ("mamba", "llama"))
    for make in (
        lambda: assemble(PPO(envs=4), Text(task="copy", model=mamba)),
        lambda: assemble(PPO(envs=4), Text(task="copy", model=llama, value_model=mamba)),
        lambda: assemble(PPO(envs=4, kl=0.1), Text(task="copy", model=llama, reference=mamba)),
        lambda: logpi.load(mamba),
    ):
        with pytest.raises(LogpiError, match="MambaForCausalLM says something else behind padding, which prompts"):
            make()


def test_what_peft_puts_no_adapter_on_is_told():
    with pytest.raises(LogpiError, match="peft puts no adapter on MambaForCausalLM .*: leave --lora out"):
        lora.put_in(family("mamba")[0], 2, 4.0, 0)


@pytest.mark.parametrize("name", ["qwen3_moe", "gpt_oss"])
def test_a_natural_step_of_a_mixture_of_experts(name, tmp_path):
    folder = saved(name, tmp_path / name)
    record = next(logpi.learn("trpo", task="copy", model=str(folder), envs=4, max_tokens=4))
    assert record["accepted"] == 1 and record["gain"] > 0


@pytest.mark.filterwarnings("ignore:.*no fused attention")
@pytest.mark.parametrize("name", ["qwen3_moe", "gpt_oss"])
def test_a_step_of_a_mixture_of_experts_in_float64(name, tmp_path):
    record, _ = step(saved(name, tmp_path / name), seed=1, dtype="float64")
    assert record["first_ratio_error"] <= 1e-12 and record["grad_norm"] > 0


def test_an_adapter_on_a_mixture_of_experts_is_saved_and_loaded(tmp_path):
    folder = saved("qwen3_moe", tmp_path / "model")
    record, policy = step(folder, lora=2)
    loaded, ids = logpi.load(record.save(tmp_path / "run")), torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(loaded.hidden(ids), policy.hidden(ids).detach())
    lora.fold(policy.model)
    torch.testing.assert_close(policy.hidden(ids).detach(), loaded.hidden(ids))
    assert not any("lora" in name or "base_layer" in name for name, _ in policy.named_parameters())
