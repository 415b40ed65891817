"""How the site reads docstrings: they are plain text, so nothing in them is markup but code in backticks, lists and tables."""

import re
from typing import Any

import griffe

MARKUP = re.compile(r"[\\*_\[\]>#]")
ENTITIES = {"&": "&amp;", "<": "&lt;", "$": "&#36;"}
LINE = 8  # a line that ends so many letters early was ended on purpose


class Plain(griffe.Extension):
    """The text of each docstring as Markdown that shows it as it stands; the fields of a class as a table, with their comments."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value, obj.docstring.parser = markdown(obj.docstring.value), None

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        fields = [(x, re.search(r"  # (.*)$", x.lines[0])) for x in cls.attributes.values() if x.lines]
        rows = [
            f"| `{x.name}` | `{x.value}` | {escaped(said[1])} |"
            for x, said in fields
            if said and x.annotation is not None
        ]
        if rows and cls.docstring is not None:
            cls.docstring.value += "\n\n| field | default | |\n|---|---|---|\n" + "\n".join(rows)


def escaped(text: str) -> str:
    """`text` with every sign of Markdown taken literally, outside of backticks."""
    parts = re.split(r"(`[^`]+`)", text)
    plain = [MARKUP.sub(r"\\\g<0>", re.sub("[&<$]", lambda m: ENTITIES[m[0]], part)) for part in parts]
    return "".join(part if i % 2 else plain[i] for i, part in enumerate(parts))


def markdown(text: str) -> str:
    lines = text.splitlines()
    width = max(map(len, lines), default=0)
    told = []
    for i, line in enumerate(lines):
        following = lines[i + 1].split() if i + 1 < len(lines) else []
        if line.startswith("    "):
            told.append(line)  # a block of code, or a formula on a line of its own
        elif line.lstrip().startswith(("* ", "- ", "| ", "|-", "1. ")):
            told.append(re.match(r"\s*(\* |- |\| |\|-|1\. )", line)[0] + escaped(line.lstrip()[2:]))
        else:
            short = line and following and len(line) + len(following[0]) + LINE < width
            told.append(escaped(line) + ("  " if short else ""))
    return "\n".join(told)
