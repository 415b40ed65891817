"""What a run keeps beside its log: films and episodes in video/, token views in tokens/. By name, of fixed kinds, bounded.

A client names a file, and only a name that is in the listing is opened: never a path of a client's, a link or a pipe.
"""

import os
import stat
from pathlib import Path
from typing import Any

from logpi.errors import LogpiError
from logpi.run.files import parsed, reason
from logpi.run.table import asked

JSON = "application/json"
KINDS = {
    "video": {".mp4": "video/mp4", ".webm": "video/webm", ".gif": "image/gif", ".json": JSON},
    "tokens": {".json": JSON},
}
LARGEST = {JSON: 8_000_000}  # bytes of a file that is shown
FILM = 64_000_000  # of any other kind
LISTED = 200  # files of a folder, the newest


def listing(run: Path) -> dict[str, Any]:
    """{text: is it a language model's?, files: name, bytes, time and `large`, the newest first}."""
    found = [line for folder, kinds in KINDS.items() for line in _files(run / folder, folder, kinds)]
    return {"text": _is_text(run), "files": sorted(found, key=lambda line: line["time"], reverse=True)}


def _files(folder: Path, name: str, kinds: dict[str, str]) -> list[dict[str, Any]]:
    if folder.is_symlink():
        return []
    try:
        with os.scandir(folder) as entries:
            plain = [(x.name, x.stat()) for x in entries if x.is_file(follow_symlinks=False) and not x.is_symlink()]
    except OSError:
        return []
    plain = [x for x in plain if Path(x[0]).suffix in kinds and not x[0].startswith(".")]
    newest = sorted(plain, key=lambda x: x[1].st_mtime, reverse=True)[:LISTED]
    return [
        {
            "name": f"{name}/{x}",
            "bytes": told.st_size,
            "time": told.st_mtime,
            "large": told.st_size > most(kinds[Path(x).suffix]),
        }
        for x, told in newest
    ]


def most(kind: str) -> int:
    return LARGEST.get(kind, FILM)


def _is_text(run: Path) -> bool:
    try:
        return "task" in asked(run).get("run", {})
    except LogpiError:
        return False


def contents(run: Path, name: str) -> tuple[bytes, str] | None:
    """(bytes, type) of a file in the listing; None for any other name. LogpiError: it is too large, or no JSON."""
    known = {line["name"] for line in listing(run)["files"]}
    if name not in known:
        return None
    folder, _, file = name.partition("/")
    kind = KINDS[folder][Path(file).suffix]
    limit = most(kind)
    try:
        handle = os.open(run / folder / file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as opened:
            plain = stat.S_ISREG(os.fstat(handle).st_mode)  # it may have become something else since it was listed
            found = opened.read(limit + 1) if plain else None
    except OSError:
        return None
    if found is None:
        return None
    if len(found) > limit:
        raise LogpiError(f"{name} is larger than {limit // 10**6} MB, and the lab shows no larger file of its kind.")
    if kind == JSON:
        try:
            parsed(found)
        except (ValueError, RecursionError) as wrong:
            raise LogpiError(f"{name} cannot be read: {reason(wrong)}.") from wrong
    return found, kind
