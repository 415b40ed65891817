"""One token more, by the twin and by transformers' own layers: the same texts and the same log pi."""

import pytest
import torch
from lm.families import exact_norms, family
from transformers import AutoConfig, AutoModelForCausalLM

from logpi.fast import decoding
from logpi.lm import lora
from logpi.lm.generate import generate
from logpi.policy.tokens import Tokens

SEEDS = torch.arange(40, 52)
PROMPTS = [[1, 2, 3], [4], [5, 1, 2, 2, 3]]
COVERED = {
    "llama": {"num_key_value_heads": 1},
    "llama with biases": {"attention_bias": True},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"num_key_value_heads": 1},
    "qwen3 with an adapter": {},
}


def policy_for(name: str, dtype: torch.dtype = torch.float64, **more: object) -> Tokens:
    """Nothing in it is 0 or 1, as biases and norms of new models are."""
    model, tokenizer = family(name.partition(" ")[0], dtype)
    if more:
        config = AutoConfig.for_model(**model.config.to_dict() | more)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config).eval().to(dtype)
    policy = Tokens(model, tokenizer)
    if name.endswith("adapter"):
        lora.add(policy, 2, 4, 0, None)
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in model.parameters():
            x += 0.2 * torch.randn(x.shape, generator=chance, dtype=dtype)
    return policy


def said(policy: Tokens, fast: bool, limit: int = 12):
    policy.fast = fast
    return generate(policy, PROMPTS, SEEDS, limit, [0], copies=4)


@pytest.fixture
def exactly(monkeypatch):
    monkeypatch.setattr(decoding, "TYPES", (torch.float64,))
    exact_norms(monkeypatch)


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize("name", COVERED)
def test_the_twin_says_what_transformers_layers_say(name):
    policy = policy_for(name, **COVERED[name])
    twin, plain = said(policy, True), said(policy, False)
    assert policy.uncovered == ""
    assert torch.equal(twin.tokens, plain.tokens) and torch.equal(twin.length, plain.length)
    torch.testing.assert_close(twin.log_pi, plain.log_pi, rtol=0, atol=1e-12)
    assert len(plain.length.unique()) > 1, "some rows end before others, or their leaving shows nothing"


@pytest.mark.usefixtures("exactly")
def test_it_reads_the_weights_of_now():
    policy = policy_for("qwen3")
    before = said(policy, True)
    with torch.no_grad():
        policy.body.layers[0].mlp.up_proj.weight.mul_(2)
    after, plain = said(policy, True), said(policy, False)
    torch.testing.assert_close(after.log_pi, plain.log_pi, rtol=0, atol=1e-12)
    assert not torch.equal(before.log_pi, after.log_pi)


@pytest.mark.parametrize("name", COVERED)
def test_in_float32_they_agree_to_rounding(name):
    policy = policy_for(name, torch.float32, **COVERED[name])
    twin, plain = said(policy, True), said(policy, False)
    assert policy.uncovered == "" and torch.equal(twin.tokens, plain.tokens)
    torch.testing.assert_close(twin.log_pi, plain.log_pi, rtol=0, atol=2e-5)


def test_in_bfloat16_they_agree_to_its_rounding():
    policy = policy_for("qwen3", torch.float32)
    policy.bf16 = True
    twin, plain = said(policy, True, 2), said(policy, False, 2)
    same = (twin.tokens == plain.tokens).all(1)
    assert policy.uncovered == "" and same.sum() > 6
    torch.testing.assert_close(twin.log_pi[same], plain.log_pi[same], rtol=0, atol=0.1)


def test_float64_is_asked_of_transformers():
    policy = policy_for("qwen3")
    assert torch.equal(said(policy, True).log_pi, said(policy, False).log_pi) and policy.uncovered is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("opt", "OPTDecoder is none of LlamaModel, MistralModel, Qwen2Model, Qwen3Model"),
        ("gemma2", "Gemma2Model is none of LlamaModel, MistralModel, Qwen2Model, Qwen3Model"),
    ],
)
def test_what_is_not_covered_is_named_and_asked_of_transformers(name, why):
    policy = Tokens(*family(name))
    assert decoding.missing(policy.body) == why
    twin, plain = said(policy, True), said(policy, False)
    assert torch.equal(twin.log_pi, plain.log_pi)


def test_another_activation_rotation_or_bias_is_not_covered():
    for more, why in (
        ({"hidden_act": "gelu"}, "its activation is gelu, its rotation default"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "its activation is silu, its rotation dynamic",
        ),
        ({"mlp_bias": True}, "its feed-forward layers have biases"),
    ):
        assert decoding.missing(policy_for("llama", **more).body) == why
    policy = policy_for("llama")
    policy.body.layers[1].mlp.up_proj = torch.nn.Sequential(policy.body.layers[1].mlp.up_proj)
    assert decoding.missing(policy.body) == "its projections are no plain ones"


def test_a_twin_that_says_something_else_is_left_alone(monkeypatch):
    policy = policy_for("qwen3", torch.float32)
    plain = said(policy, False)
    monkeypatch.setattr(decoding, "silu", torch.relu)
    assert torch.equal(said(policy, True).log_pi, plain.log_pi)
    assert policy.uncovered == "the twin says something else"
