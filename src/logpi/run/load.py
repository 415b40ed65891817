"""`logpi.load`: a policy from a run folder or from one of its checkpoints."""

import warnings
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces

from logpi.errors import LogpiError
from logpi.layout import Seen
from logpi.policy import Policy, build_policy
from logpi.policy.heads import head_for
from logpi.run.checkpoint import choose
from logpi.run.files import read_json
from logpi.run.pack import fill, read_tensors
from logpi.run.paths import load_object
from logpi.run.policies import is_model, is_text
from logpi.run.spaces import space_from_json

KINDS = {
    "head": str,
    "log_std": str,
    "log_std_init": float,
    "hidden": list,
    "pictures": str,
    "memory": str,
    "shared": bool,
    "normalise_obs": bool,
    "normalise_reward": bool,
}
# what a policy saved before there was a choice had
LATER = {"log_std": "free", "log_std_init": 0.0, "pictures": "auto", "memory": "none"}


def described(file: Path) -> tuple[dict[str, Any], dict[str, Any], str | None, torch.dtype]:
    """(keywords of `build_policy`, its two spaces, the path of a network of the user's, dtype) from a policy.json."""
    try:
        spec = LATER | read_json(file)
        own, dtype = spec.pop("network"), {"float32": torch.float32, "float64": torch.float64}[spec.pop("dtype")]
        space = {k: space_from_json(spec.pop(k)) for k in ("observations", "actions")}
        fits = all(type(spec[k]) is kind for k, kind in KINDS.items()) and {*spec} == {*KINDS}
        if not fits or not all(type(n) is int and n > 0 for n in spec["hidden"]):
            raise ValueError(spec)
    except (LookupError, TypeError, ValueError, AttributeError, AssertionError) as wrong:
        if isinstance(wrong, LogpiError):
            raise
        raise LogpiError(f"{file} does not describe a policy: use another checkpoint.") from wrong
    return spec, space, own, dtype


def claimed_by(spec: dict[str, Any], observations: spaces.Space, actions: spaces.Space) -> set[int]:
    """Widths that some tensor of such a policy has."""
    shown, chosen = Seen(observations), head_for(actions, spec["head"], spec["log_std"], spec["log_std_init"])
    alone = shown.plain and shown.of("picture")  # a picture alone has no hidden layers
    return (set() if alone else {*spec["hidden"]}) | {chosen.outputs}


def text_from(folder: Path, device: str) -> Any:
    """The language model of a checkpoint, at the temperature that it was trained at; or of a model folder, at 1."""
    from logpi.lm import lora, pretrained
    from logpi.policy.tokens import Tokens
    from logpi.run import config
    from logpi.run.language import must_have_transformers

    must_have_transformers()

    adapted = lora.is_adapter(folder)
    model, tokenizer = pretrained.load(lora.base_of(folder)[0] if adapted else str(folder))
    asked = {} if is_model(folder) else config.read(folder / "config.toml").get("run", {})
    policy = Tokens(model.eval(), tokenizer, float(asked.get("temperature", 1.0)), bool(asked.get("bf16", False)))
    policy.fast = policy.fast and asked.get("fast", "auto") == "auto"
    if adapted:
        lora.put_on(policy, folder)
    return policy.place(device, policy.head.project.weight.dtype).requires_grad_(False)


def load(run: str | Path, network: Any = None, device: str = "cpu", allow_nonfinite: bool = False) -> Policy:
    """The policy of a run or of a checkpoint folder, normaliser included, ready for `.act(obs)`; or that of a model folder.

    A run's newest checkpoint that is whole is taken; a warning says which were skipped and why. `network` is needed where
    the run used one of the user's own: a folder never makes code run by itself.
    """
    if is_model(Path(run)):
        return text_from(Path(run), device)
    folder, skipped = choose(Path(run))
    for reason in skipped:
        warnings.warn(f"Skipped: {reason}", stacklevel=2)
    if is_text(folder):
        return text_from(folder, device)
    spec, space, own, dtype = described(folder / "policy.json")
    if own is not None and network is None:
        raise LogpiError(
            f"This policy has a network of yours ({own}): pass it again, --network {own} or load(run, network=build)."
        )
    network = load_object(network) if isinstance(network, str) and own is not None else network
    network = None if own is None else network
    file = folder / "policy.safetensors"
    tensors = read_tensors(file)
    claimed = claimed_by(spec, **space)
    strange = claimed - {n for x in tensors.values() for n in x.shape}
    if network is None and strange:  # before a network of such a size takes the memory
        raise LogpiError(f"{folder / 'policy.json'} claims a layer of {max(strange):,}: {file.name} holds none such.")
    with torch.random.fork_rng(devices=[]):
        policy = build_policy(**space, **spec, network=network)
    policy.place("cpu", dtype)
    fill(policy, tensors, file, allow_nonfinite)
    policy.spec = spec | space | {"network": own}
    return policy.place(device, dtype).eval().requires_grad_(False)


def must_be_there(run: Path, command: str) -> None:
    if not run.is_dir():
        raise LogpiError(f"There is no folder {run}: logpi {command} takes a run or a model folder.")


def load_actor(run: Path, network: Any = None) -> Policy:
    """The same, of a policy that acts in an environment; a language model is refused."""
    policy = load(run, network)
    if not isinstance(policy, Policy):
        raise LogpiError(
            f"{run} is a language model and acts in no environment: logpi generate {run} shows what it says."
        )
    return policy
