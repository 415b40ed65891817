"""Attention as two products, beside transformers' own: the same values and gradients, and no less exact in bfloat16."""

from functools import partial

import pytest
import torch
from lm.families import family, saved
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from logpi.fast import attention
from logpi.lm import pretrained
from logpi.methods import PPO
from logpi.policy.tokens import Tokens
from logpi.run import checkpoint
from logpi.run.language import Text
from logpi.run.load import load
from logpi.run.setup import assemble

CAUSAL = torch.ones(7, 7, dtype=torch.bool).tril()
MASKS = {
    "none": None,
    "padding": (CAUSAL & (torch.arange(7) >= 2)).expand(3, 1, 7, 7),
    "a text read before": torch.ones(5, 7, dtype=torch.bool).tril(2).expand(3, 1, 5, 7),
}


class Layer(nn.Module):
    """What transformers' function looks at."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups, self.is_causal = groups, True


def heard(how, keys: int, mask, dtype=torch.float64):
    """Values, and gradients of q, k and v; rows that see nothing are left out."""
    chance = torch.Generator().manual_seed(0)
    queries = 7 if mask is None else mask.shape[2]
    q, k, v = (
        torch.randn(3, h, t, 8, generator=chance, dtype=dtype).requires_grad_()
        for h, t in ((4, queries), (keys, 7), (keys, 7))
    )
    said, _ = how(Layer(4 // keys), q, k, v, mask, scaling=0.3, dropout=0.0)
    sees = torch.ones(queries, dtype=torch.bool) if mask is None else mask[0, 0].any(-1)
    return [said[:, sees], *torch.autograd.grad(said[:, sees].square().sum(), (q, k, v))]


@pytest.mark.parametrize("keys", [1, 2, 4])
@pytest.mark.parametrize("mask", MASKS)
def test_values_and_gradients_are_transformers_own(keys, mask):
    products = partial(attention.attend, kernel=False)
    for one, other in zip(
        heard(products, keys, MASKS[mask]), heard(sdpa_attention_forward, keys, MASKS[mask]), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_only_short_bfloat16_on_the_cpu_without_more_is_taken():
    q = torch.zeros(1, 2, 3, 4, dtype=torch.bfloat16)
    mask = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    assert attention.short(q, q, mask, {"scaling": 1.0, "dropout": 0.0, "softcap": None})
    long = torch.zeros(1, 2, attention.LONG + 1, 4, dtype=torch.bfloat16)
    refused = [
        (q.float(), q.float(), None, {}),
        (long, long, None, {}),
        (q, q, mask.float(), {}),
        (q, q, mask.expand(1, 2, 3, 3), {}),
        (q, q, mask, {"softcap": 30.0}),
        (q, q, mask, {"dropout": 0.1}),
        (q.to("meta"), q.to("meta"), None, {}),
    ]
    assert not any(attention.short(*x) for x in refused)
    with torch.autocast("cpu", torch.bfloat16):
        assert attention.short(q.float(), q.float(), None, {})


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral"])
def test_a_model_in_bfloat16_is_no_further_from_float32_than_with_the_kernel(name, tmp_path):
    model, tokenizer = family(name, torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)), alpha=0.3)
    ids = torch.randint(0, 5, (16, 40), generator=torch.Generator().manual_seed(0))
    exact = Tokens(model, tokenizer).hidden(ids)
    policy = Tokens(model, tokenizer, bf16=True)
    kernel = policy.hidden(ids)
    policy.place("cpu", torch.float32)
    assert model.config._attn_implementation == attention.NAME
    products = policy.hidden(ids)
    one, other = ((x - exact).square().mean().sqrt() for x in (products, kernel))
    assert 0 < one < 1.1 * other
    pretrained.save(model, tokenizer, tmp_path / "saved")
    assert attention.NAME not in (tmp_path / "saved" / "config.json").read_text()


@pytest.mark.parametrize("fast", ["auto", "off"])
def test_all_models_of_a_run_have_the_same_attention_and_so_has_what_is_loaded_of_it(fast, tmp_path):
    folder = str(saved("qwen3", tmp_path / "model"))
    asked = Text(task="copy", model=folder, reference=folder, value_model="copy", max_tokens=4, bf16=True, fast=fast)
    parts = assemble(PPO(envs=4, kl=0.1), asked, "ppo")
    policies = (parts.policy, parts.reference, parts.critic.network, load(checkpoint.save(parts, tmp_path / "saved")))
    names = {x.model.config._attn_implementation for x in policies}
    assert names == {attention.NAME if fast == "auto" else "sdpa"}


def test_what_is_off_keeps_its_attention():
    model, tokenizer = family("llama", torch.float32)
    policy = Tokens(model, tokenizer, bf16=True)
    policy.fast = False
    assert not policy.place("cpu", torch.float32).lined
    assert model.config._attn_implementation == "sdpa"


def test_a_sparse_attention_that_asks_how_it_is_called_keeps_its_name():
    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "moe_intermediate_size", "index_head_dim"), 16)
    heads = dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_routed_experts", "index_n_heads"), 2)
    parts = dict.fromkeys(("kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8)
    one = dict.fromkeys(("num_hidden_layers", "num_experts_per_tok", "n_group", "topk_group"), 1)
    config = AutoConfig.for_model("deepseek_v32", vocab_size=16, index_topk=4, **sizes, **heads, **parts, **one)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    assert not attention.use(model)
    assert model.config._attn_implementation == "sdpa"
