"""Files that are whole or not there, and JSON from strangers. Nothing here imports torch."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from logpi.errors import LogpiError, short

LARGEST = 64 * 2**20  # bytes of a JSON file that are still read


def write_whole(file: Path, text: str) -> None:
    """The file with its new text, or as it was: a temporary file beside it, flushed, renamed."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        temporary.rename(file)
    finally:
        temporary.unlink(missing_ok=True)


def rounded(x: float) -> float | None:
    """Six digits, which is what a picture shows; null where there is no number."""
    return float(f"{x:.6g}") if math.isfinite(x) else None


def flush(path: Path) -> None:
    """A file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of(file: Path) -> str:
    """The same of a file, a piece at a time."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def read_json(file: Path) -> Any:
    """JSON as we write it: UTF-8, no NaN, no key twice, no lone surrogate, of a sane size and depth; else one sentence."""
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST // 2**20} MB")
        return parsed(file.read_bytes())
    except (OSError, ValueError, RecursionError) as wrong:
        raise LogpiError(f"{file} cannot be read: {reason(wrong)}.") from wrong


def parsed(data: bytes) -> Any:
    """The same of bytes; ValueError or RecursionError where it is not such."""
    found = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    json.dumps(found, ensure_ascii=False).encode()
    return found


def reason(wrong: Exception) -> str:
    """Why JSON cannot be read."""
    return "it is nested too deeply" if isinstance(wrong, RecursionError) else short(str(wrong), 200)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
