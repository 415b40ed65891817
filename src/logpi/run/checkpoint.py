"""Checkpoints: safetensors, JSON and a SHA-256 manifest in a folder that appears whole or not at all.

policy.*: what `logpi.load` needs. trainer.*: everything else that a run is made of (critic, optimisers, adaptive
state, generators, environments, statistics). Nothing is pickled.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from logpi.errors import LogpiError
from logpi.loop import Parts
from logpi.run.spaces import space_to_json

FORMAT = 1


def pack(x: Any, tensors: dict[str, Tensor], at: str = "") -> Any:
    """x as JSON, its tensors moved to `tensors` under their path."""
    if isinstance(x, Tensor):
        tensors[at] = x.detach().cpu().contiguous().clone()
        return {"tensor": at}
    if isinstance(x, dict):
        return {"dict": [[k, pack(v, tensors, f"{at}/{k}")] for k, v in x.items()]}
    if isinstance(x, list | tuple):
        return {"list": [pack(v, tensors, f"{at}/{i}") for i, v in enumerate(x)]}
    return x


def unpack(x: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `pack`; tuples come back as lists."""
    if not isinstance(x, dict):
        return x
    if "tensor" in x:
        return tensors[x["tensor"]]
    if "list" in x:
        return [unpack(v, tensors) for v in x["list"]]
    return {k: unpack(v, tensors) for k, v in x["dict"]}


def trainer_state(parts: Parts) -> dict[str, Any]:
    """All of a run but its policy and its settings."""
    return {
        "critic": None if parts.critic is None else dict(parts.critic.state_dict()),
        "reference": None if parts.reference is None else dict(parts.reference.state_dict()),
        "optimizer": parts.optimizer.state_dict(),
        "critic_optimizer": None if parts.critic_optimizer is None else parts.critic_optimizer.state_dict(),
        "sampler": parts.collect.generator.get_state(),
        "shuffler": parts.generator.get_state(),
        "collect": parts.collect.state(),
        "state": parts.state,
    }


def save(parts: Parts, folder: Path) -> Path:
    """Write `folder`/step-N: a temporary folder, flushed to disk, renamed. An existing one is left as it is."""
    final = folder / f"step-{parts.state['steps']:012d}"
    if final.exists():
        return final
    temporary = folder / f".{final.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    spec = {k: space_to_json(v) if k in ("observations", "actions") else v for k, v in parts.policy.spec.items()}
    spec["dtype"] = str(next(parts.policy.parameters()).dtype).removeprefix("torch.")
    tensors: dict[str, Tensor] = {}
    trainer = pack(trainer_state(parts), tensors)
    save_file(
        {k: v.detach().cpu().contiguous().clone() for k, v in parts.policy.state_dict().items()},
        temporary / "policy.safetensors",
    )
    save_file(tensors, temporary / "trainer.safetensors")
    (temporary / "policy.json").write_text(json.dumps(spec))
    (temporary / "trainer.json").write_text(json.dumps(trainer))
    files = {f.name: digest(f) for f in sorted(temporary.iterdir())}
    environments = "restart their episodes" if parts.collect.envs.state() is None else "continue"
    manifest = {"format": FORMAT, "sha256": files, "environments": environments}
    (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for f in [*temporary.iterdir(), temporary]:
        flush(f)
    temporary.rename(final)
    flush(folder)
    return final


def restore(parts: Parts, folder: Path) -> None:
    """Bring freshly assembled parts of the same settings to where a checkpoint was saved."""
    verify(folder)
    state = unpack(json.loads((folder / "trainer.json").read_text()), load_file(folder / "trainer.safetensors"))
    parts.policy.load_state_dict(load_file(folder / "policy.safetensors"))
    for name in ("critic", "reference", "optimizer", "critic_optimizer"):
        if state[name] is not None:
            getattr(parts, name).load_state_dict(state[name])
    parts.collect.generator.set_state(state["sampler"])
    parts.collect.load_state(state["collect"])
    parts.generator.set_state(state["shuffler"])
    parts.state.update(state["state"])


def newest(run: Path) -> Path:
    """The newest checkpoint of a run folder, or the folder itself where it is a checkpoint."""
    if (run / "manifest.json").is_file():
        return run
    found = sorted((run / "checkpoints").glob("step-*"))
    if not found:
        raise LogpiError(f"{run} has no checkpoint: it must be a run folder, or one of its checkpoints/step-*.")
    return found[-1]


def verify(folder: Path) -> None:
    """Raise unless every file of a checkpoint is the one its manifest names."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        files, version = dict(manifest["sha256"]), manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        raise LogpiError(f"The checkpoint {folder} has no readable manifest.json: use another checkpoint.") from wrong
    if version != FORMAT:
        raise LogpiError(
            f"The checkpoint {folder} has format {version}, this logpi reads {FORMAT}: use the version that wrote it."
        )
    for name in ("policy.json", "policy.safetensors", "trainer.json", "trainer.safetensors"):
        expected = files.get(name)
        if not (folder / name).is_file() or digest(folder / name) != expected:
            raise LogpiError(
                f"{folder / name} is missing or damaged (its SHA-256 is not the manifest's): use another checkpoint."
            )


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
