"""Mistakes of the caller's: one sentence that names the thing and the cure."""

import difflib
from collections.abc import Iterable


class LogpiError(ValueError):
    """Something asked for cannot be done; the message is one sentence that says what to do instead.

    The command line prints the sentence and exits with code 2; a traceback needs `--debug`.
    """

    def __init__(self, sentence: str) -> None:
        line = " ".join(sentence.split())  # whatever a space or a library said in it
        super().__init__(line[:-1] if line.endswith(("?.", "!.")) else line)  # a question that it quotes ends it, too


class EnvironmentFailed(LogpiError):  # noqa: N818
    """An environment raised, returned what its spaces forbid, or took its process with it."""

    def __init__(self, sentence: str, number: int, details: str = "") -> None:
        super().__init__(sentence)
        self.number = number  # which of the n environments
        self.details = details  # its own traceback, where there is one


def short(text: str, limit: int = 80) -> str:
    """One line of at most `limit` characters that a terminal only prints, for a sentence; cut between words where it can be."""
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    if len(line) <= limit:
        return line
    words = line[: limit - 2].rpartition(" ")[0]
    return (words if len(words) > limit // 2 else line[: limit - 3]) + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean X?', or the list of what there is when nothing is near."""
    known = sorted(known)
    folded = {x.lower(): x for x in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {folded[close[0]]}?"
    return f" There is: {', '.join(known)}." if known and len(known) <= 24 else ""
