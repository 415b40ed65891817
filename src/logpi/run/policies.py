"""The policy's own files in a checkpoint: a network's tensors and its description, or a language model as transformers reads it."""

import json
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save as tensors_to_bytes

from logpi.errors import LogpiError
from logpi.policy.tokens import Tokens
from logpi.run.pack import fill, read_tensors
from logpi.run.spaces import space_to_json

POLICY_FILES = ("policy.json", "policy.safetensors")
TEXT_FILES = (
    *("config.json", "generation_config.json", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    *("adapter_config.json", "adapter_model.safetensors"),
)
WEIGHTS = ("policy.safetensors", "adapter_model.safetensors", "model.safetensors")  # a checkpoint has one of them


def is_text(folder: Path) -> bool:
    """Does a checkpoint hold a language model?"""
    return any((folder / name).exists() for name in WEIGHTS[1:])


def is_model(folder: Path) -> bool:
    """Is it a language model's folder of transformers' or peft's own, and no checkpoint?"""
    whole = any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))
    return whole and not (folder / "manifest.json").is_file()


def files_of(policy: Any, checkpoints: Path) -> dict[str, bytes]:
    """All that is needed to make it again, but the code of the user's, and the base of an adapter."""
    if isinstance(policy, Tokens):
        return text_files(policy, checkpoints)
    spec = {k: space_to_json(v) if k in ("observations", "actions") else v for k, v in policy.spec.items()}
    spec["dtype"] = str(next(policy.parameters()).dtype).removeprefix("torch.")
    tensors = {k: v.detach().cpu().contiguous() for k, v in policy.state_dict().items()}
    return {"policy.json": json.dumps(spec).encode(), "policy.safetensors": tensors_to_bytes(tensors)}


def text_files(policy: Tokens, checkpoints: Path) -> dict[str, bytes]:
    """What transformers, or peft, writes, and reads without logpi."""
    with tempfile.TemporaryDirectory() as folder:
        if policy.adapter is None:
            policy.model.save_pretrained(folder, max_shard_size="1000GB")  # type: ignore[operator]
        policy.tokenizer.save_pretrained(folder)
        found = {x.name: x.read_bytes() for x in Path(folder).iterdir() if x.is_file()}
    if policy.adapter is not None:
        from logpi.lm import lora

        found |= lora.files_of(policy, checkpoints)
    if strange := sorted({*found} - {*TEXT_FILES}):
        raise LogpiError(f"This model or tokenizer saves a file that no checkpoint keeps ({strange[0]}): use another.")
    return found


def base_beside(policy: Any, checkpoints: Path) -> tuple[Path, dict[str, bytes]] | None:
    """(folder, files) of the base of an adapter, where it lies nowhere else yet."""
    if not isinstance(policy, Tokens) or policy.adapter is None or policy.adapter.base is not None:
        return None
    from logpi.lm import lora

    folder = checkpoints / lora.OWN
    if not folder.exists():
        tokenizer = {k: x for k, x in text_files(policy, checkpoints).items() if not k.startswith("adapter")}
        return folder, lora.base_files(policy) | tokenizer
    if lora.told(folder / "model.safetensors") != policy.adapter.sum:
        raise LogpiError(f"{folder} is the base of another run: save to another folder.")
    return None


def take_weights(policy: Any, folder: Path, fresh: bool = False) -> None:
    """The weights of a checkpoint for a policy of the same make. fresh: as a new beginning, an adapter merged with its base."""
    if not isinstance(policy, Tokens):
        file = folder / "policy.safetensors"
        if not file.is_file():
            raise LogpiError(f"{folder} holds a language model, not a policy for environments: give a run of those.")
        fill(policy, read_tensors(file), file)
        return
    from logpi.lm import lora, pretrained

    if policy.adapter is not None and not fresh:
        lora.take(policy, folder)
        return
    model, tokenizer = pretrained.load(str(folder))
    if tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise LogpiError(f"The model of {folder} has other tokens than this run's: give one of its own family.")
    if policy.adapter is not None:
        lora.rebase(policy, model, folder)
    else:
        fill(policy.model, model.state_dict(), folder / "model.safetensors")
