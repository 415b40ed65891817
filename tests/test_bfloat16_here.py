"""What is said where a processor has no instructions for bfloat16."""

import warnings

import pytest

from logpi import device
from logpi.run.language import Text
from logpi.run.setup import assemble, find_method


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr(device, "has_bf16", lambda: False)


@pytest.mark.usefixtures("slow")
def test_a_processor_that_has_no_bfloat16_is_named_with_the_cure():
    with pytest.warns(UserWarning, match=r"This processor has no instructions for bfloat16.*: leave --bf16 away\."):
        device.heed_bf16("cpu")


def test_where_it_has_them_or_another_device_computes_nothing_is_said(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(device, "has_bf16", lambda: False)
        device.heed_bf16("cuda")
        monkeypatch.setattr(device, "has_bf16", lambda: True)
        device.heed_bf16("cpu")


@pytest.mark.usefixtures("slow")
def test_a_run_that_asks_for_it_hears_of_it():
    run = Text(task="addition", model="tiny", steps=10, warmup=0, bf16=True)
    with pytest.warns(UserWarning, match="leave --bf16 away"):
        assemble(find_method("grpo", {}), run, name="grpo")
