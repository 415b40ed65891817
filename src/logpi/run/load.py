"""`logpi.load`: a policy from a run folder or from one of its checkpoints."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from logpi.errors import LogpiError
from logpi.policy import Policy, build_policy
from logpi.run.checkpoint import newest, verify
from logpi.run.paths import load_object
from logpi.run.spaces import space_from_json


def load(run: str | Path, network: Any = None, device: str = "cpu") -> Policy:
    """The policy of a run (its newest checkpoint) or of a checkpoint folder, normaliser included, ready for `.act(obs)`.

    `network` is needed where the run used one of the user's own: a folder never makes code run by itself.
    """
    folder = newest(Path(run))
    verify(folder)
    spec = json.loads((folder / "policy.json").read_text())
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
        policy = build_policy(**space, **spec, network=network).place(device, dtype)
    try:
        policy.load_state_dict(load_file(folder / "policy.safetensors", device=device))
    except RuntimeError as wrong:
        raise LogpiError(
            f"The parameters in {folder} do not fit the network: was it built by another function?"
        ) from wrong
    policy.spec = spec | space | {"network": own}
    return policy.eval().requires_grad_(False)
