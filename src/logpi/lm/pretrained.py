"""A causal LM and its tokenizer: from a folder, from the hub by name, or tiny and new."""

import json
import tempfile
import warnings
from math import inf, prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from logpi.errors import LogpiError, short

CONTEXT = 512  # letters of prompt and answer together
SIZES = {"tiny": (2, 64), "small": (3, 128)}  # layers, width
KEPT = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def new(size: str, alphabet: str, eager: bool = False) -> tuple[nn.Module, Any]:
    """A GPT-2 of a few layers with random weights, in whose vocabulary each letter is a token; it computes in any float type."""
    from transformers import AutoModelForCausalLM, GPT2Config

    from logpi.lm.letters import letters

    quiet()
    tokenizer = letters(alphabet)
    layers, width = SIZES[size]
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=width,
        n_layer=layers,
        n_head=4,
        n_positions=CONTEXT,
        initializer_range=0.08,
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager" if eager else "sdpa"), tokenizer


def begin(where: str, alphabet: str, seed: int = 0, eager: bool = False) -> tuple[nn.Module, Any]:
    """(model, tokenizer): new ones of a size in `SIZES`, their weights from the seed alone; else as `load`."""
    if where not in SIZES:
        return load(where, eager)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return new(where, alphabet, eager)


def load(where: str, eager: bool = False, headless: bool = False) -> tuple[nn.Module, Any]:
    """(model, tokenizer) of a folder or a hub name: safetensors only, no code of the folder's. eager: plain attention and experts.

    An adapter is merged with its base. headless: its projection will not be used, so a reward model may be one, too.
    """
    from transformers import AutoModelForCausalLM

    from logpi.lm import lora

    if lora.is_adapter(Path(where)):
        return lora.merged(Path(where), eager)
    how: dict[str, Any] = {"dtype": "auto", "attn_implementation": "sdpa", "output_loading_info": True}
    if eager:
        how |= dict.fromkeys(("attn_implementation", "experts_implementation"), "eager")
    (model, found), tokenizer = read(AutoModelForCausalLM, where, **how)
    if not headless and any(key.startswith("score.") for key in found["unexpected_keys"]):
        raise LogpiError(f"{where} is a reward model, which says nothing: give a causal language model.")
    head = model.get_output_embeddings().weight
    unused = {name for name, p in model.named_parameters() if headless and p is head}
    if missing := sorted({*found["missing_keys"]} - unused):
        raise LogpiError(f"{where} has no weights for {missing[0]}, which would be random: save the model whole.")
    must_match(model, tokenizer, where)
    return model, tokenizer


def read(kind: Any, where: str, **how: Any) -> tuple[Any, Any]:
    """What a class of transformers makes of a folder or a hub name, and the tokenizer there."""
    from transformers import AutoTokenizer

    quiet()
    if Path(where).is_dir():
        must_be_whole(Path(where))
    else:
        must_be_on_the_hub(where)
    safe = {"trust_remote_code": False}
    try:
        return attending(kind, where, use_safetensors=True, **safe, **how), AutoTokenizer.from_pretrained(where, **safe)
    except Exception as wrong:  # whatever is wrong with files of other people's
        raise LogpiError(f"The model {where} cannot be loaded: {short(str(wrong), 200).rstrip('.')}.") from wrong


def attending(kind: Any, where: str, **how: Any) -> Any:
    """The model with the attention asked for; with plain attention, which is said, where it has no fused one."""
    try:
        return kind.from_pretrained(where, **how)
    except ValueError as wrong:  # transformers has no class of its own for it
        if "scaled_dot_product_attention" not in str(wrong):
            raise
    warnings.warn(f"{where} has no fused attention: plain attention takes more time and memory.", stacklevel=2)
    return kind.from_pretrained(where, **how | {"attn_implementation": "eager"})


def must_be_on_the_hub(where: str) -> None:
    """Refuse a path, and a name that the hub does not know: it is asked once, where transformers asks for most of a minute."""
    import huggingface_hub as hub

    if where.startswith((".", "/")) or where.count("/") > 1 or where in (*SIZES, "copy"):
        raise LogpiError(f"There is no folder {where}: give a folder, or the name of a hub model.")
    try:
        if not isinstance(hub.try_to_load_from_cache(where, "config.json"), str):
            hub.HfApi().model_info(where, timeout=5)
    except Exception as wrong:  # of its own many kinds, and of the network's
        raise LogpiError(
            f"There is no folder {where}, and the hub has no such model or cannot be reached: give another."
        ) from wrong


def must_be_whole(folder: Path) -> None:
    """Refuse a folder without a model, or with weights that only a pickle holds."""
    if not (folder / "config.json").is_file():
        raise LogpiError(f"{folder} is no model: it has no config.json.")
    try:
        json.loads((folder / "config.json").read_text())
    except ValueError as wrong:
        raise LogpiError(f"{folder / 'config.json'} is not JSON ({wrong}): save the model again.") from wrong
    if not [*folder.glob("*.safetensors")]:
        pickles = [x.name for pattern in ("*.bin", "*.pt", "*.pth") for x in folder.glob(pattern)]
        there = f"only {pickles[0]}, and a pickle can run code" if pickles else "none"
        raise LogpiError(f"{folder} has no weights as safetensors ({there}): save it with safetensors.")


def must_match(model: Any, tokenizer: Any, where: str) -> None:
    """Refuse a tokenizer that has tokens which the model does not, or no token for the end."""
    rows = model.get_output_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise LogpiError(
            f"The tokenizer of {where} has {len(tokenizer):,} tokens, its model {rows:,}: they are of two different models."
        )
    if len(tokenizer) <= len({*tokenizer.all_special_tokens}):
        raise LogpiError(f"{where} has no tokenizer: save it beside the model.")
    if tokenizer.eos_token_id is None:
        raise LogpiError(f"The tokenizer of {where} has no end token: set eos_token in its tokenizer_config.json.")


def size_of(where: str) -> float:
    """Parameters of a model that is not loaded, by the heads of its files; infinitely many where they are not in a folder."""
    if where in SIZES:
        return 0
    shapes = []
    for file in Path(where).glob("model*.safetensors"):
        try:
            with safe_open(file, "pt") as opened:
                names = opened.keys()
                shapes += [opened.get_slice(name).get_shape() for name in names]
        except (OSError, SafetensorError):  # which is told once it is loaded
            return inf
    return sum(map(prod, shapes)) if shapes else inf


def quiet() -> None:
    """transformers shows bars for files that take a moment, and reports on them; a run has a display of its own."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def must_be_new(folder: Path) -> None:
    """Refuse a folder that is there: nothing is overwritten."""
    if folder.exists() or folder.is_symlink():
        raise LogpiError(f"{folder} is there already, and nothing is overwritten: give another --out.")


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """What transformers alone reads, in a new folder that appears whole or not at all."""
    must_be_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
        whole = Path(beside) / folder.name
        model.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        whole.rename(folder)
