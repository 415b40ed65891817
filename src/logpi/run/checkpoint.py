"""Checkpoints: safetensors, JSON and a SHA-256 manifest in a folder that appears whole or not at all.

policy.*: what `logpi.load` needs; of a language model a Hugging Face folder's files. trainer.*: everything else that a
run is made of (critic, optimisers, adaptive state, every generator, environments, statistics). config.toml: page and
settings. Nothing is pickled, no folder is written twice, and older ones go only when the new one has been read back from
the disk.
"""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from logpi import chance
from logpi.errors import LogpiError
from logpi.loop import Parts
from logpi.run import config
from logpi.run.files import LARGEST, digest, digest_of, flush, read_json
from logpi.run.folder import versions
from logpi.run.pack import fill, pack, read_tensors, unpack
from logpi.run.policies import POLICY_FILES, TEXT_FILES, WEIGHTS, base_beside, files_of, is_text, take_weights
from logpi.run.undecorated import undecorated

FORMAT = 2
FACTS = {"format", "step", "method", "environments", "finite", "score", "log", "versions", "files"}
TRAINER = ("config.toml", "trainer.json", "trainer.safetensors")
FILES = (*TRAINER, *POLICY_FILES)
TEXT = (*TRAINER, *TEXT_FILES)  # of a language model; some have not all


def trainer_state(parts: Parts) -> dict[str, Any]:
    """All of a run but its policy and its settings."""
    with undecorated():
        optimizers = [o and o.state_dict() for o in (parts.optimizer, parts.critic_optimizer)]
    return {
        "critic": None if parts.critic is None else dict(parts.critic.state_dict()),
        "reference": None if parts.reference is None else dict(parts.reference.state_dict()),
        **dict(zip(("optimizer", "critic_optimizer"), optimizers, strict=True)),
        "sampler": parts.collect.generator.get_state(),
        "shuffler": parts.generator.get_state(),
        "global": chance.state(),
        "collect": parts.collect.state(),
        "state": parts.state,
    }


def save(parts: Parts, folder: Path, log: dict[str, Any] | None = None, score: float | None = None) -> Path:
    """Write `folder`/step-N and read it back; an existing one is left as it is.

    log: how far metrics.jsonl had come. score: what the best of several is chosen by.
    """
    final, policy = folder / f"step-{parts.state['steps']:012d}", parts.policy.state_dict()
    own = files_of(parts.policy, folder)
    if final.exists():
        there = verify(final)["files"]
        weights = next(name for name in WEIGHTS if name in own)
        if weights not in there or there[weights]["sha256"] != digest(own[weights]):
            raise LogpiError(f"{final} has other weights, it is of another run: save to another folder.")
        return final
    if log is None:
        folder.mkdir(parents=True, exist_ok=True)
    if base := base_beside(parts.policy, folder):
        publish(base[1], base[0])
    trainer, tensors = trainer_state(parts), dict[str, Tensor]()
    packed = json.dumps(pack(trainer, tensors))
    contents = own | {
        "config.toml": config.dump(parts.config).encode(),
        "trainer.json": packed.encode(),
        "trainer.safetensors": tensors_to_bytes(tensors),
    }
    manifest = {
        "format": FORMAT,
        "step": final.name,
        "method": parts.config["method"]["name"],
        "environments": "continue" if trainer["collect"]["envs"] is not None else "restart their episodes",
        "finite": all(bool(v.isfinite().all()) for v in policy.values() if v.is_floating_point()),
        "score": score if score is not None and math.isfinite(score) else None,
        "log": log,
        "versions": versions(),
        "files": {name: {"bytes": len(data), "sha256": digest(data)} for name, data in contents.items()},
    }
    publish(contents | {"manifest.json": seal(manifest)}, final)
    verify(final)
    return final


def publish(contents: dict[str, bytes], final: Path) -> None:
    """The folder with all its files, flushed to the disk under another name and then renamed; or no folder."""
    temporary = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        for name, data in contents.items():
            (temporary / name).write_bytes(data)
            flush(temporary / name)
        flush(temporary)
        temporary.rename(final)
        flush(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def seal(manifest: dict[str, Any]) -> bytes:
    """The manifest's text, which ends with a sum of itself."""
    body = json.dumps(manifest, indent=1)
    return json.dumps(manifest | {"sum": digest(body.encode())}, indent=1).encode()


def unseal(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, if it is the one that was written and no strange file lies beside it."""
    if folder.is_symlink() or not folder.is_dir():
        raise LogpiError(
            f"{folder} is not a checkpoint: that is a folder step-*, and no other kind of file is ever read."
        )
    known = TEXT if is_text(folder) else FILES
    for found in sorted(folder.iterdir()):
        if found.name not in (*known, "manifest.json") or found.is_symlink() or not found.is_file():
            raise LogpiError(f"{found} does not belong in a checkpoint: only its own files are ever read.")
    file = folder / "manifest.json"
    if not file.is_file():
        raise LogpiError(f"The checkpoint {folder} has no manifest.json: use another checkpoint.")
    manifest = read_json(file)
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version != FORMAT:
        raise LogpiError(
            f"The checkpoint {folder} has format {version}, this logpi reads {FORMAT}: use the version that wrote it."
        )
    body = {k: v for k, v in manifest.items() if k != "sum"} if isinstance(manifest, dict) else {}
    if file.read_bytes() != seal(body) or not well_formed(body, folder.name):
        raise LogpiError(f"{file} is damaged (it is not what was written): use another checkpoint.")
    return body


def well_formed(body: dict[str, Any], name: str) -> bool:
    """Whether a manifest has all that is ever asked of one, each of its kind: a sum can be anybody's."""
    files, log = body.get("files"), body.get("log")
    return (
        {*body} == FACTS
        and (body["format"], body["step"]) == (FORMAT, name)
        and isinstance(body.get("finite"), bool)
        and isinstance(body.get("score"), float | int | None)
        and isinstance(body.get("versions"), dict)
        and isinstance(files, dict)
        and ({*files} == {*FILES} or ({*TRAINER} <= {*files} <= {*TEXT} and len({*WEIGHTS} & {*files}) == 1))
        and all(
            isinstance(entry, dict)
            and isinstance(entry.get("sha256"), str)
            and isinstance(size := entry.get("bytes"), int)
            and size >= 0
            for entry in (*files.values(), *([] if log is None else [log]))
        )
    )


def verify(folder: Path) -> dict[str, Any]:
    """The manifest, if every file of the checkpoint is to the byte the one that was written; else one sentence."""
    manifest = unseal(folder)
    for name, said in manifest["files"].items():
        file = folder / name
        if said["bytes"] > LARGEST and not name.endswith(".safetensors"):
            raise LogpiError(f"{file} claims {said['bytes']:,} bytes, more than is ever read: use another checkpoint.")
        if not file.is_file() or file.stat().st_size != said["bytes"] or digest_of(file) != said["sha256"]:
            raise LogpiError(
                f"{file} is missing or damaged (its SHA-256 is not the manifest's): use another checkpoint."
            )
    return manifest


def choose(run: Path, fits: Callable[[dict[str, Any]], str | None] = lambda _: None) -> tuple[Path, list[str]]:
    """(the newest checkpoint of a run that is whole, why each newer one was skipped).

    `run` may be a checkpoint itself. `fits` may give a reason against one that is whole.
    """
    run = run if run.name.strip(".") else run.resolve()  # "." and ".." have a name, too
    if run.is_file() or run.name.startswith("step-") or (run / "manifest.json").is_file():
        verify(run)
        return run, []
    skipped: list[str] = []
    places = [*(run / "checkpoints").glob("step-*"), *run.glob("step-*")]  # of a run, or of `record.save`
    for folder in sorted(places, reverse=True):
        try:
            reason = fits(verify(folder))
        except LogpiError as wrong:
            reason = str(wrong)
        if reason is None:
            return folder, skipped
        skipped.append(reason)
    if skipped:
        raise LogpiError(f"{run} has no checkpoint that can be taken: {skipped[0]}")
    raise LogpiError(f"{run} has no checkpoint: it must be a run folder, or one of its checkpoints/step-*.")


def run_of(folder: Path) -> Path:
    """The run folder, or that of `record.save`, of one of its checkpoints; any other folder is one."""
    above = folder.resolve().parent
    return folder if not is_checkpoint(folder) else above.parent if above.name == "checkpoints" else above


def is_checkpoint(folder: Path) -> bool:
    return folder.resolve().name.startswith("step-") and (folder / "manifest.json").is_file()


def standing(checkpoints: Path) -> list[tuple[Path, dict[str, Any]]]:
    """(folder, manifest) of every checkpoint whose manifest is whole, oldest first."""
    found = []
    for folder in sorted(checkpoints.glob("step-*")):
        try:
            found.append((folder, unseal(folder)))
        except LogpiError:
            continue
    return found


def best(checkpoints: Path) -> Path | None:
    """The checkpoint of the highest score, the newest of equals."""
    scored = [(m["score"], folder) for folder, m in standing(checkpoints) if m["score"] is not None]
    return max(scored)[1] if scored else None


def best_of(run: Path) -> Path:
    """The best checkpoint of a run folder."""
    found = best(run / "checkpoints")
    if found is None:
        raise LogpiError(
            f"{run} has no best checkpoint: that takes 100 finished episodes, or --eval-every in training."
        )
    return found


def prune(checkpoints: Path, keep: int) -> None:
    """Remove all but the newest `keep`, the best and the newest finite one. What is damaged is not touched."""
    found = standing(checkpoints)
    kept = {folder for folder, _ in found[-keep:]} | {best(checkpoints)}
    kept |= set([folder for folder, manifest in found if manifest["finite"]][-1:])
    for folder, _ in found:
        if folder not in kept:
            away = folder.with_name(f".old-{folder.name}.{os.getpid()}")
            folder.rename(away)
            shutil.rmtree(away)


def sweep(checkpoints: Path) -> None:
    """Remove what killed processes left half written or half removed. Only for who holds the run's lock."""
    for pattern in (".step-*", ".old-*", ".base.*"):
        for left in checkpoints.glob(pattern):
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def restore(parts: Parts, folder: Path) -> dict[str, Any]:
    """Bring freshly assembled parts of the same settings to where a checkpoint was saved; its manifest."""
    manifest = verify(folder)
    config.must_agree(parts.config, config.read(folder / "config.toml"), folder)
    take_weights(parts.policy, folder)
    try:
        _take(parts, unpack(read_json(folder / "trainer.json"), read_tensors(folder / "trainer.safetensors")), folder)
    except LogpiError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as wrong:
        raise LogpiError(
            f"{folder / 'trainer.json'} does not hold the state of this run: use another checkpoint."
        ) from wrong
    return manifest


def _take(parts: Parts, state: dict[str, Any], folder: Path) -> None:
    """All but the policy, from what `trainer_state` gave."""
    for name in ("critic", "reference"):
        if state[name] is not None:
            fill(getattr(parts, name), state[name], folder / "trainer.safetensors")
    for name in ("optimizer", "critic_optimizer"):
        if state[name] is not None:
            with undecorated():
                getattr(parts, name).load_state_dict(state[name])
    parts.collect.generator.set_state(state["sampler"])
    parts.collect.load_state(state["collect"])
    parts.generator.set_state(state["shuffler"])
    parts.state.update(state["state"])
    chance.load_state(state["global"])


def inherit(parts: Parts, run: Path) -> str:
    """The weights, and the normalisers, of an older run for a new one; what was taken, in words."""
    folder, skipped = choose(run)
    take_weights(parts.policy, folder, fresh=True)
    adapted = getattr(parts.policy, "adapter", None) is not None
    if parts.reference is not None and not adapted and parts.config["run"]["reference"] is None:
        parts.reference.load_state_dict(parts.policy.state_dict())
    critic = unpack(read_json(folder / "trainer.json"), read_tensors(folder / "trainer.safetensors"))["critic"]
    own = {} if parts.critic is None else parts.critic.state_dict()
    same = critic is not None and {k: v.shape for k, v in critic.items()} == {k: v.shape for k, v in own.items()}
    if parts.critic is not None and same:
        fill(parts.critic, critic, folder / "trainer.safetensors")
    return f"policy{' and critic' if same else ''} of {folder}{''.join(f' (skipped: {s})' for s in skipped)}"
