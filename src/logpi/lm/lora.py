"""Low-rank adapters (Hu et al. 2021), by peft: a layer says W x + alpha / r B A x, and A and B alone move; B is 0 at first.

With the adapter off the model is its base: a reference policy that takes no memory of its own. A checkpoint holds the adapter
in peft's own files; the base lies where it came from or, where it was new, once beside the checkpoints.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from logpi.batch import Batch
from logpi.errors import LogpiError, short
from logpi.lm import pretrained
from logpi.policy.tokens import Tokens
from logpi.run.pack import fill, read_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OWN = "base"  # the folder beside checkpoints for a base that is nowhere else
PREFIX = "base_model.model."  # of names in peft's files


@dataclass(frozen=True)
class Adapter:
    """What an adapter was put on: the base's folder or hub name (None: beside the checkpoints), and the sum of its weights."""

    base: str | None
    sum: str


def must_have_peft() -> None:
    if find_spec("peft") is None:
        raise LogpiError('--lora needs peft: pip install "logpi[lm]"')


def must_have_rank(rank: int, alpha: float | None) -> None:
    """Refuse a weight of what is not there."""
    if alpha is not None and not rank:
        raise LogpiError("--lora-alpha is the weight of an adapter, and there is none: give --lora, its rank.")


def add(policy: Tokens, rank: int, alpha: float, seed: int, base: str | None) -> None:
    """An adapter whose base is remembered; all else is frozen from here on."""
    policy.adapter = Adapter(base, sum_of(policy.model))
    put_in(policy.model, rank, alpha, seed)


def put_in(model: nn.Module, rank: int, alpha: float, seed: int) -> None:
    """An adapter on every linear layer but the last, what the hidden states are projected with; all else is frozen."""
    must_have_peft()
    from peft import LoraConfig, TaskType, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    turned = any(isinstance(layer, Conv1D) for layer in model.modules())
    kind = TaskType.SEQ_CLS if model.get_output_embeddings() is None else TaskType.CAUSAL_LM  # type: ignore[operator]
    how: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "fan_in_fan_out": turned, "task_type": kind}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        torch.manual_seed(seed)  # peft warns of its own patterns, for experts, which are no linear layers
        try:
            inject_adapter_in_model(LoraConfig(target_modules="all-linear", **how), model)
        except ValueError as wrong:  # peft has no class of its own for it
            raise LogpiError(
                f"peft puts no adapter on {type(model).__name__} ({short(str(wrong))}): leave --lora out."
            ) from wrong


def fold(model: nn.Module) -> None:
    """The adapter becomes part of its base, in place: a plain model, all of which moves."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in [*model.named_modules()]:
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    model.requires_grad_(True)


def layers(model: nn.Module) -> list[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [x for x in model.modules() if isinstance(x, BaseTunerLayer)]


@contextmanager
def off(model: nn.Module) -> Iterator[None]:
    """The model without its adapter; what moves is the same afterwards."""
    moving, adapted = [p.requires_grad for p in model.parameters()], layers(model)
    for layer in adapted:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in adapted:
            layer.enable_adapters(True)
        for p, moves in zip(model.parameters(), moving, strict=True):
            p.requires_grad_(moves)


class Without(nn.Module):
    """A policy whose adapter is off, for what a reference is asked. It has no weights of its own."""

    memory = normaliser = None

    def __init__(self, policy: Tokens) -> None:
        super().__init__()
        self.asked = (policy,)  # in a tuple it is no part of this module
        self.head = policy.head

    def features(self, b: Batch) -> Any:
        with off(self.asked[0].model):
            return self.asked[0].features(b)

    def params(self, features: Any, obs: Tensor) -> Tensor:
        with off(self.asked[0].model):
            return self.asked[0].params(features, obs)

    def normalise(self, obs: Tensor) -> Tensor:
        return obs

    def start(self, n: int) -> None:
        return None


def base_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The base's weights under its own names, each once where layers share them."""
    found = {k.replace("base_layer.", ""): x.detach() for k, x in model.state_dict().items() if not of_adapter(k)}
    first = {x.data_ptr(): k for k, x in reversed(found.items())}
    return {k: x for k, x in found.items() if not x.numel() or first[x.data_ptr()] == k}


def of_adapter(name: str) -> bool:
    return ".lora_" in name


def sum_of(model: nn.Module) -> str:
    """SHA-256 of the base's weights as float32: the same in every wider type."""
    whole = hashlib.sha256()
    for name, x in sorted(base_tensors(model).items()):
        whole.update(name.encode())
        whole.update(x.float().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def files_of(policy: Tokens, checkpoints: Path) -> dict[str, bytes]:
    """The adapter as peft writes it; its base's sum is among the metadata of the tensors."""
    from peft import get_peft_model_state_dict

    assert policy.adapter is not None
    config: dict[str, Any] = policy.model.peft_config["default"].to_dict()  # type: ignore[index, union-attr]
    config |= {"base_model_name_or_path": policy.adapter.base or str((checkpoints / OWN).resolve())}
    config |= {"inference_mode": True}
    tensors = {PREFIX + k: x.detach().cpu().contiguous() for k, x in get_peft_model_state_dict(policy.model).items()}
    return {
        CONFIG: json.dumps(config, indent=1, default=sorted).encode(),  # peft has sets
        WEIGHTS: tensors_to_bytes(tensors, {"format": "pt", OWN: policy.adapter.sum}),
    }


def base_files(policy: Tokens) -> dict[str, bytes]:
    """The base as transformers reads it."""
    assert policy.adapter is not None
    config = json.loads(policy.model.config.to_json_string(use_diff=False))  # type: ignore[union-attr, operator]
    tensors = {k: x.cpu().contiguous() for k, x in base_tensors(policy.model).items()}
    config |= {"architectures": [type(policy.model).__name__]}
    config |= {"dtype": str(policy.head.project.weight.dtype).removeprefix("torch.")}
    return {
        "config.json": json.dumps(config, indent=1).encode(),
        "model.safetensors": tensors_to_bytes(tensors, {"format": "pt", OWN: policy.adapter.sum}),
    }


def told(file: Path) -> str | None:
    """The sum that a file of tensors names."""
    with safe_open(file, "pt") as opened:
        found: str | None = (opened.metadata() or {}).get(OWN)
    return found


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def config_of(folder: Path) -> dict[str, Any]:
    """adapter_config.json, as far as it is read here."""
    try:
        found = json.loads((folder / CONFIG).read_text())
        kinds = {"base_model_name_or_path": str, "r": int, "lora_alpha": int | float}
        if not all(isinstance(found[k], kind) for k, kind in kinds.items()):
            raise ValueError("it names no base, r or lora_alpha")
    except (OSError, ValueError, LookupError, TypeError) as wrong:
        raise LogpiError(f"{folder / CONFIG} does not describe an adapter ({wrong}): use another.") from wrong
    return found


def base_of(folder: Path) -> tuple[str, str | None]:
    """(where the base of an adapter lies, its name for `Adapter`): beside a checkpoint, however the run was moved, or elsewhere."""
    name = config_of(folder)["base_model_name_or_path"]
    beside = folder.parent / OWN
    if Path(name).name == OWN and beside.is_dir():
        return str(beside), None
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise LogpiError(f"The base model of {folder} is not at {name}: put it there, or beside the checkpoint.")
    return name, name


def put_on(policy: Tokens, folder: Path) -> None:
    """The adapter of a folder on its base, in its own float type."""
    found, tensors = config_of(folder), read_tensors(folder / WEIGHTS)
    policy.model.to(next(iter(tensors.values())).dtype)
    add(policy, found["r"], found["lora_alpha"], 0, base_of(folder)[1])
    take(policy, folder)


def take(policy: Tokens, folder: Path) -> None:
    """The weights of an adapter of the same make, trained on the same base."""
    assert policy.adapter is not None
    if told(folder / WEIGHTS) not in (None, policy.adapter.sum):
        where = base_of(folder)[0]
        raise LogpiError(
            f"The adapter of {folder} was not trained on the weights that {where} has: put the old ones back."
        )
    fill(policy.model, spelt(policy.model, read_tensors(folder / WEIGHTS), True), folder / WEIGHTS)


def rebase(policy: Tokens, plain: nn.Module, file: Path) -> None:
    """Another model's weights for the base; the adapter stays as it is."""
    fill(policy.model, spelt(policy.model, plain.state_dict(), False), file)
    policy.adapter = Adapter(None, sum_of(policy.model))


def merged(folder: Path, eager: bool = False) -> tuple[nn.Module, Any]:
    """(the model that base and adapter are together, tokenizer): no adapter any more."""
    must_have_peft()
    from peft import PeftModel

    model, tokenizer = pretrained.load(base_of(folder)[0], eager)
    with warnings.catch_warnings(action="ignore"):  # peft asks what transformers has renamed, and as in `put_in`
        whole = PeftModel.from_pretrained(model, str(folder))
    return whole.merge_and_unload().requires_grad_(True), tokenizer


def spelt(model: nn.Module, tensors: dict[str, Tensor], adapter: bool) -> dict[str, Tensor]:
    """Tensors of peft's file, or of a plain model, under the names of a model with an adapter; its other part as it is."""
    own = model.state_dict()
    names = {k.replace(".default.", ".") if of_adapter(k) else k.replace("base_layer.", ""): k for k in own}
    kept = {k: x for k, x in own.items() if of_adapter(k) != adapter}
    return kept | {names.get(k.removeprefix(PREFIX), k): x for k, x in tensors.items()}
