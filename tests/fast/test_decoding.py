"""One token more, by the twin and by transformers' own layers: the same texts and the same log pi."""

import sys
from types import ModuleType

import pytest
import torch
from lm.families import exact_norms, family

import logpi
from logpi.fast import decoding, token
from logpi.lm import cache, lora
from logpi.lm.cache import Slots, cache_for
from logpi.lm.generate import generate
from logpi.policy.tokens import Tokens

SEEDS = torch.arange(40, 52)
PROMPTS = [[1, 2, 3], [4], [5, 1, 2, 2, 3]]
COVERED = {
    "llama": {"num_key_value_heads": 1},
    "llama with biases": {"attention_bias": True},
    "mistral": {"sliding_window": None},
    "mistral with a window": {"sliding_window": 17},  # five tokens of a prompt and twelve of an answer
    "qwen2": {},
    "qwen3": {"num_key_value_heads": 1},
    "qwen3 with an adapter": {},
}


def policy_for(name: str, dtype: torch.dtype = torch.float64, **more: object) -> Tokens:
    """Nothing in it is 0 or 1, as biases and norms of new models are."""
    model, tokenizer = family(name.partition(" ")[0], dtype, **more)
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


@pytest.fixture(autouse=True)
def small_weights_are_laid_out_like_large_ones(monkeypatch):
    monkeypatch.setattr(decoding, "LITTLE", 0)


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


@pytest.mark.parametrize("kernels", [False, True])
def test_a_twin_that_says_something_else_is_left_alone(kernels, monkeypatch):
    policy = policy_for("qwen3", torch.float32)
    plain = said(policy, False)
    if kernels:
        monkeypatch.setattr(token, "gate", lambda *_: None)
    else:
        monkeypatch.setattr(decoding, "kernels_for", lambda _: None)
        monkeypatch.setattr(decoding, "silu", torch.relu)
    assert torch.equal(said(policy, True).log_pi, plain.log_pi)
    assert policy.uncovered == "the twin says something else"


@pytest.mark.parametrize("bf16", [False, True])
def test_a_position_that_is_off_by_one_is_seen_in_bfloat16_too(bf16, monkeypatch):
    policy, right = Tokens(*family("qwen3")), token.hidden
    policy.bf16 = bf16
    with torch.no_grad():
        for x in policy.parameters():
            x *= 0.5  # what a new model says depends little on positions
    monkeypatch.setattr(token, "hidden", lambda d, x, position, *more: right(d, x, position + 1, *more))
    monkeypatch.setattr(decoding.Decoder, "__init__", longer(decoding.Decoder.__init__))
    said(policy, True, 2)
    assert policy.uncovered == "the twin says something else"


def longer(init):
    """With a rotation for one position more than asked for."""
    return lambda self, body, most, dtype: init(self, body, most + 1, dtype)


@torch.inference_mode()
def one_more(policy: Tokens, kernels: bool, padded: bool = False) -> list[torch.Tensor]:
    """Hidden states of the next two tokens of three texts of five, the first of which may stand behind padding; keys, values."""
    kept, ids = cache_for(policy.model.config, 8), torch.tensor([[1, 2, 3, 4, 5], [3, 2, 1, 5, 5], [4, 4, 4, 2, 1]])
    seen = torch.ones(3, 7, dtype=torch.bool)
    seen[0, 0] = not padded
    position = seen.cumsum(1) - 1
    more = {policy.cache_name: kept, "attention_mask": seen[:, :5].long()}
    policy.hidden(ids, **more, position_ids=position[:, :5].clamp(min=0))
    decoder = decoding.begin(policy, kept, 8)
    assert (decoder.kernels is token) is (policy.head.project.weight.dtype is torch.float32)
    if not kernels:
        decoder.kernels = None
    said = [decoder(ids[:, k], position[:, 5 + k], kept, seen[:, : 6 + k] if padded else None) for k in range(2)]
    return [*said, *(x[:, :, :7] for layer in kept.layers for x in layer.room)]


@pytest.mark.parametrize(("bf16", "loose"), [(False, 1e-5), (True, 0.05)])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", COVERED)
def test_the_kernels_say_what_torchs_operations_say(name, padded, bf16, loose):
    policy = policy_for(name, torch.float32, **COVERED[name])
    policy.bf16 = bf16
    for fused, plain in zip(one_more(policy, True, padded), one_more(policy, False, padded), strict=True):
        torch.testing.assert_close(fused, plain, rtol=0, atol=loose * max(1, float(plain.abs().max())))


@pytest.mark.parametrize("padded", [False, True])
def test_with_more_than_two_cores_many_texts_are_heard_by_products(padded, monkeypatch):
    policy = policy_for("qwen3", torch.float32, num_key_value_heads=1)
    few = one_more(policy, True, padded)
    monkeypatch.setattr(token, "attend", None)  # which is not asked
    monkeypatch.setattr(token, "MANY", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for one, other in zip(few, one_more(policy, True, padded), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("broken", [False, True])
def test_without_numba_or_with_one_that_cannot_be_imported_torchs_operations_do_it(broken, monkeypatch):
    policy = policy_for("llama", torch.float32)
    fused = said(policy, True)
    monkeypatch.delattr(logpi.fast, "token")
    if broken:
        monkeypatch.delitem(sys.modules, "logpi.fast.token")
        monkeypatch.setitem(sys.modules, "logpi.fast.compiled", ModuleType("compiled"))  # it has no name to import
    else:
        monkeypatch.setitem(sys.modules, "logpi.fast.token", None)
    monkeypatch.setattr(token, "hidden", None)  # which is not asked
    plain = said(policy, True)
    assert policy.uncovered == "" and torch.equal(fused.tokens, plain.tokens)
    torch.testing.assert_close(fused.log_pi, plain.log_pi, rtol=0, atol=2e-5)


def test_keys_and_values_that_have_outgrown_their_room_are_let_go():
    slots = Slots(200)
    slots.update(*(torch.zeros(2, 1, 5, 4) for _ in range(2)))
    for _ in range(70):
        slots.begin(1, slots.room)
    assert [x.data_ptr() for x in (slots.keys, slots.values)] == [x.data_ptr() for x in slots.room]


def test_long_answers_outgrow_the_room_kept_ahead_while_others_leave(monkeypatch):
    monkeypatch.setattr(cache, "AHEAD", 8)
    policy = policy_for("qwen3", torch.float32)
    policy.context = None
    twin, plain = said(policy, True, 40), said(policy, False, 40)
    assert len(plain.length.unique()) > 3 and int(plain.length.max()) > 30
    assert torch.equal(twin.tokens, plain.tokens)
    torch.testing.assert_close(twin.log_pi, plain.log_pi, rtol=0, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("dtype", "loose"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_weights_that_are_laid_out_say_what_they_said(dtype, loose, bias):
    chance = torch.Generator().manual_seed(0)
    weight, offset = (torch.randn(*n, generator=chance).to(dtype) for n in ((24, 40), (24,)))
    ask = decoding.product(weight, offset if bias else None)
    for rows in (1, 5, 64):
        x = torch.randn(rows, 40, generator=chance).to(dtype)
        plain = torch.nn.functional.linear(x.float(), weight.float(), offset.float() if bias else None)
        torch.testing.assert_close(ask(x).float(), plain, rtol=0, atol=loose * float(plain.abs().max()))


def test_weights_of_other_types_or_elsewhere_and_little_ones_are_left_as_they_lie(monkeypatch):
    weight = torch.zeros(4, 4)
    assert decoding.lays_out(weight)
    assert not decoding.lays_out(weight.double()) and not decoding.lays_out(weight.to("meta"))
    monkeypatch.setattr(decoding, "LITTLE", 17)
    assert not decoding.lays_out(weight)


def test_a_window_is_room_for_as_many_tokens_and_no_more():
    config = family("mistral", sliding_window=8)[0].config
    assert [all(type(x) is Slots for x in cache_for(config, most).layers) for most in (8, 9)] == [True, False]


def test_a_window_of_two_tokens_is_left_to_transformers():
    policy = policy_for("mistral", torch.float32, sliding_window=2)
    generate(policy, [[3]], SEEDS[:1], 1, [0])
    assert policy.uncovered == policy.plain == "the twin says something else"
