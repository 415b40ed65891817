"""The guide inside the lab: docs/guide's chapters, their Markdown as fragments of HTML.

Raw HTML in a chapter is shown as the text it is, and a link leads only to what the lab itself has: another chapter, a
demonstration, the source of a function. So a fragment holds nothing that Markdown and MathML do not make.
"""

import ast
import posixpath
import re
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from logpi.errors import LogpiError
from logpi.lab.demos import DEMOS

CHAPTERS = Path(__file__).with_name("chapters")  # docs/guide, by a link in the repository, as files in a wheel
PACKAGE = Path(__file__).parent.parent
TEXTS = {p.relative_to(CHAPTERS).with_suffix("").as_posix(): p for p in sorted(CHAPTERS.rglob("*.md"))}
FIGURES = {p.relative_to(CHAPTERS).as_posix(): p for p in sorted(CHAPTERS.glob("figures/*.svg"))}
SHORT = 100  # lines of a file that is shown whole
DEMO_LINK = re.compile(r"\]\((?:\.\./)+lab\.md#(\w+)\)")


def contents() -> list[dict[str, Any]]:
    """The chapters in their order: name, title, and the demonstrations that each leads to."""
    return [
        {
            "name": name,
            "title": _title(text),
            "demos": [x for x in dict.fromkeys(DEMO_LINK.findall(text)) if x in DEMOS],
        }
        for name, text in (
            (name, file.read_text()) for name, file in TEXTS.items() if re.fullmatch(r"\d\d-[\w-]+", name)
        )
    ]


def fragment(name: str) -> dict[str, Any]:
    """A text by its name: title, HTML without the title, and the sources of the functions that it links to."""
    return _fragment(name, TEXTS[name].stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _fragment(name: str, changed: int) -> dict[str, Any]:
    try:
        from markdown import Markdown

        from logpi.lab.maths import Maths, slug
    except ModuleNotFoundError as without:
        raise LogpiError('The guide needs markdown and math-core: pip install "logpi[lab]".') from without
    text = TEXTS[name].read_text()
    links = _Links(name)
    settings = {"toc": {"slugify": slug}, "tables": {"use_align_attribute": True}}
    md = Markdown(extensions=["tables", "fenced_code", "toc", Maths()], extension_configs=settings)
    md.preprocessors.deregister("html_block")
    for pattern in ("html", "autolink", "automail"):
        md.inlinePatterns.deregister(pattern)
    md.treeprocessors.register(links, "links", -1)
    body = md.convert(re.sub(r"\A# .*\n", "", text))
    return {"name": name, "title": _title(text), "html": body, "shown": links.shown}


class _Links:
    """Of a text's tree, after everything else: what leads somewhere leads to a place of the lab, or is no link."""

    def __init__(self, name: str) -> None:
        self.name, self.shown = name, list[dict[str, str]]()

    def run(self, root: Element) -> None:
        for x in root.iter():
            if "id" in x.attrib:
                x.attrib["id"] = f"at-{x.attrib['id']}"
            if x.tag == "a":
                x.tag, x.attrib = self._link(x.attrib.get("href", ""), "".join(x.itertext()))
            elif x.tag == "img":
                figure = posixpath.normpath(posixpath.join(posixpath.dirname(self.name), x.attrib["src"]))
                alt = x.attrib.get("alt", "")
                if figure in FIGURES:
                    x.attrib = {"src": f"static/guide/{figure}", "alt": alt}
                else:
                    x.tag, x.attrib, x.text = "span", {}, alt

    def _link(self, href: str, text: str) -> tuple[str, dict[str, str]]:
        """The element that a link becomes: a button for a source, which opens where it stands."""
        path, _, anchor = href.partition("#")
        at = f"?at={anchor}" if re.fullmatch(r"[\w-]+", anchor) else ""
        target = posixpath.normpath(posixpath.join("docs/guide", posixpath.dirname(self.name), path))
        inside = target.removeprefix("docs/guide/").removesuffix(".md") if path else self.name
        if target == "docs/lab.md":
            return "a", {"href": f"#/{anchor}" if anchor in DEMOS else "#/"}
        if inside in TEXTS and (target == f"docs/guide/{inside}.md" or (at and not path)):
            return "a", {"href": f"#/{place_of(inside)}{at}"}
        found = source(target.removeprefix("src/logpi/"), text) if target.startswith("src/logpi/") else None
        if found is None:
            return "span", {}
        if found not in self.shown:
            self.shown.append(found)
        return "button", {"type": "button", "value": str(self.shown.index(found))}


def place_of(name: str) -> str:
    return "guide" if name == "index" else f"guide/{name}"


def source(target: str, text: str) -> dict[str, str] | None:
    """The functions of a module that `text` names, else the whole module where it is short, or the classes that it names."""
    file = PACKAGE / target
    if file.suffix != ".py" or not file.is_file():
        return None
    whole, words = file.read_text(), re.findall(r"\w+", text)
    module = "logpi." + target.removesuffix(".py").replace("/", ".")
    named = [x for x in ast.parse(whole).body if isinstance(x, ast.FunctionDef | ast.ClassDef) and x.name in words]
    if whole.count("\n") <= SHORT and not any(isinstance(x, ast.FunctionDef) for x in named):
        return {"name": file.stem, "module": module, "text": whole}
    if not named:
        return None
    code = "\n\n\n".join(ast.get_source_segment(whole, x) or "" for x in named)
    return {"name": ", ".join(x.name for x in named), "module": module, "text": code}


def _title(text: str) -> str:
    first = re.match(r"# (.*)", text)
    return first[1].replace("$", "") if first else ""
