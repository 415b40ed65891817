"""Qwen3 models with random weights, a vocabulary of 1,024 and a chosen chance to end: what both libraries train, made anew for each run.

One channel of the embedding is 1 for every token; the projection's row of the end token reads it alone, and no other row does, so that the
chance of ending hardly depends on the text.
"""

import json
import math
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

VOCABULARY, END = 1024, 1
LR = 1e-9  # so small that the chance of ending stays: by 1e-6 it doubles or halves in four steps, and seeds do not compare
SIZES = {"S": (4, 256, 4, 768), "M": (8, 512, 8, 1536)}  # layers, width, heads, width of the MLP
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz +=:"


def make(folder: Path, size: str, ends: float, width: int | None = None) -> str:
    """A folder with the model and its tokenizer. ends: the chance that a token is the last; width: another than the size's."""
    layers, width, heads, inside = SIZES[size] if width is None else (SIZES[size][0], width, width // 64, 3 * width)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=inside, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, head_dim=width // heads, max_position_embeddings=1024,
        tie_word_embeddings=False, eos_token_id=END, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        embedding, project = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        embedding[:, 0], project[:, 0], project[END] = 1.0, 0.0, 0.0
        seen = model.model(torch.randint(2, VOCABULARY, (8, 64))).last_hidden_state[..., 0].mean()
        wanted = math.log(ends * VOCABULARY / (1 - ends)) if ends else -100.0
        project[END, 0] = wanted / seen
    model.save_pretrained(folder)
    words = ["<pad>", "<end>", *LETTERS]
    words += [f"<{k}>" for k in range(len(words), VOCABULARY)]
    tokenizer = Tokenizer(models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>").save_pretrained(folder)
    return str(folder)


def prompts(count: int) -> list[dict[str, str]]:
    """Of 15 tokens each, with their answers."""
    chance = torch.Generator().manual_seed(0)
    pairs = torch.randint(100, 1000, (count, 2), generator=chance).tolist()
    return [{"prompt": f"add up {a}+{b}=", "answer": str(a + b)} for a, b in pairs]


def write(file: Path, count: int) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in prompts(count)))
    return str(file)
