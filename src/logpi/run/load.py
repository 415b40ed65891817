"""`logpi.load`: a policy from a run folder or from one of its checkpoints."""

import warnings
from pathlib import Path
from typing import Any

import torch

from logpi.errors import LogpiError
from logpi.policy import Policy, build_policy
from logpi.run.checkpoint import choose, fill
from logpi.run.files import read_json
from logpi.run.pack import read_tensors
from logpi.run.paths import load_object
from logpi.run.spaces import space_from_json


def load(run: str | Path, network: Any = None, device: str = "cpu", allow_nonfinite: bool = False) -> Policy:
    """The policy of a run or of a checkpoint folder, normaliser included, ready for `.act(obs)`.

    A run's newest checkpoint that is whole is taken; a warning says which were skipped and why. `network` is needed where
    the run used one of the user's own: a folder never makes code run by itself.
    """
    folder, skipped = choose(Path(run))
    for reason in skipped:
        warnings.warn(f"Skipped: {reason}", stacklevel=2)
    spec = read_json(folder / "policy.json")
    own = spec.pop("network")
    dtype = getattr(torch, spec.pop("dtype"))
    if own is not None and network is None:
        raise LogpiError(
            f"This policy has a network of yours ({own}): pass it again, --network {own} or load(run, network=build)."
        )
    network = load_object(network) if isinstance(network, str) and own is not None else network
    network = None if own is None else network
    space: dict[str, Any] = {k: space_from_json(spec.pop(k)) for k in ("observations", "actions")}
    with torch.random.fork_rng(devices=[]):
        policy = build_policy(**space, **spec, network=network)
    policy.place("cpu", dtype)
    fill(policy, read_tensors(folder / "policy.safetensors"), folder / "policy.safetensors", allow_nonfinite)
    policy.spec = spec | space | {"network": own}
    return policy.place(device, dtype).eval().requires_grad_(False)
