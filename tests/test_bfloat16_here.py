"""What is said where a processor has no products in bfloat16."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_spaces import Anything

import logpi
from logpi import device
from logpi.methods import PPO
from logpi.run import fitting
from logpi.run.language import Text
from logpi.run.setup import Settings, assemble, find_method

WORDS = r"This processor has no instructions for bfloat16.*: train without --bf16\."
PICTURE = spaces.Box(0, 255, (3, 48, 48), np.uint8)


def opened(folder: Path) -> None:
    """A run in bfloat16, of which only its opening is heard."""
    with pytest.warns(UserWarning, match=WORDS):
        saved = next(logpi.learn("grpo", task="copy", model="tiny", starts=2, group=2, max_tokens=2, bf16=True)).save(
            folder
        )
    logpi.load(saved)


WHERE = {
    "a run of text": lambda _: assemble(find_method("grpo", {}), Text(task="copy", model="tiny", bf16=True), "grpo"),
    "one that is opened": opened,
    "a fit": lambda folder: fitting.place(torch.nn.Linear(1, 1), fitting.Fitting(out=folder, bf16=True)),
    "a run of pictures": lambda _: assemble(
        PPO(envs=1, length=4), Settings(env="custom", bf16=True), lambda: Anything(PICTURE, spaces.Discrete(2))
    ),
}


@pytest.mark.parametrize("where", WHERE)
def test_a_processor_without_it_is_named_with_the_cure(where, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "has_bf16", lambda: False)
    with pytest.warns(UserWarning, match=WORDS):
        WHERE[where](tmp_path / "folder")


def test_where_it_has_them_or_another_device_computes_nothing_is_said(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(device, "has_bf16", lambda: False)
        device.heed_bf16("cuda")
        monkeypatch.setattr(device, "has_bf16", lambda: True)
        device.heed_bf16("cpu")
