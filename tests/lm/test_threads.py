"""On how many threads a language model computes is a matter of its size, not of its name."""

import os

import pytest
import torch
from lm.little import little

from logpi import device
from logpi.lm import pretrained
from logpi.run.language import Text, threads
from logpi.run.setup import assemble


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    return found


def test_a_small_model_of_a_folder_has_one_thread_and_a_large_one_all_cores(tmp_path, asked, monkeypatch):
    policy = little(dtype=torch.float32)
    folder, parameters = str(tmp_path / "model"), sum(p.numel() for p in policy.parameters())
    pretrained.save(policy.model, policy.tokenizer, tmp_path / "model")
    assert pretrained.size_of(folder) == parameters and pretrained.size_of("tiny") == 0
    for small, expected in ((parameters, 1), (parameters - 1, 7)):
        monkeypatch.setattr(device, "SMALL", small)
        device.use_threads(None, policy)
        assert asked.pop() == expected == threads(Text(model=folder))
    device.use_threads(3, policy)
    assert asked.pop() == 3 == threads(Text(model=folder, threads=3))


def test_a_run_asks_by_its_models_size(asked, monkeypatch):
    monkeypatch.setattr(device, "SMALL", 1000)
    from logpi.methods import GRPO

    assemble(GRPO(starts=2, group=2), Text(task="copy"))
    assert {*asked} == {7}


def test_a_model_that_v_has_for_itself_counts(asked, monkeypatch):
    from logpi.methods import PPO

    for how in ({}, {"value_model": "copy"}):
        parts = assemble(PPO(envs=2), Text(task="copy", **how))
        both = sum(p.numel() for x in (parts.policy, parts.critic) for p in x.parameters())
        monkeypatch.setattr(device, "SMALL", both - 1)
        assemble(PPO(envs=2), Text(task="copy", **how))
        assert asked[-1] == 7


def test_what_is_not_read_yet_counts_as_large(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    assert pretrained.size_of(str(tmp_path)) == pretrained.size_of("some/hub-model") == float("inf")
