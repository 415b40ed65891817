"""Tiny causal LMs of many families, with random weights and letters for tokens."""

from pathlib import Path

import torch
from torch.nn.functional import rms_norm
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from logpi.lm import pretrained
from logpi.lm.letters import letters
from logpi.lm.tasks import find

ALIKE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
FAMILIES = {
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.3},
    "cohere": ALIKE | {"logit_scale": 0.25},
    "gemma2": ALIKE | {"final_logit_softcapping": 2.0, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": ALIKE | {"final_logit_softcapping": 2.0, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "gpt_neo": {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]}
    | {"max_position_embeddings": 64, "window_size": 8, "initializer_range": 0.3},
    "granite": ALIKE | {"logits_scaling": 4.0},
    "llama": ALIKE,
    "mistral": ALIKE,
    "mpt": {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 64, "initializer_range": 0.3},
    "opt": {"hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "init_std": 0.3}
    | {"max_position_embeddings": 64, "word_embed_proj_dim": 8, "dropout": 0.0},
    "phi": ALIKE,
    "qwen2": ALIKE,
    "qwen3": ALIKE,
}
EXPERTS = ALIKE | {"num_experts_per_tok": 2}
OTHERS = {  # which do not take part in everything
    "gpt_oss": EXPERTS | {"num_local_experts": 4},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "initializer_range": 0.3},
    "qwen3_moe": EXPERTS | {"num_experts": 4, "moe_intermediate_size": 16},
}


def family(name: str, dtype: torch.dtype = torch.float32, **more: object):
    """(model, tokenizer) of a family, for the task copy. more: of its config."""
    tokenizer = letters(find("copy").letters)
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
    config = AutoConfig.for_model(name, vocab_size=len(tokenizer) + 4, **special | (FAMILIES | OTHERS)[name] | more)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    return model.eval().to(dtype), tokenizer


def saved(name: str, folder: Path) -> Path:
    pretrained.save(*family(name), folder)
    return folder


def exact_norms(monkeypatch) -> None:
    """In float64 throughout: the norms of these families' own code are in float32."""
    for norm in (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm):
        monkeypatch.setattr(
            norm, "forward", lambda self, x: rms_norm(x, x.shape[-1:], self.weight, self.variance_epsilon)
        )
