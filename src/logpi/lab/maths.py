"""LaTeX between dollars, in Markdown, as MathML: browsers draw it by themselves. For the lab's guide and for the site alike.

`$...$` stands in a line, `$$...$$` is a block; where a space follows the first dollar, or a digit or a letter the second, they are dollars.
What MathML Core cannot say is refused by math-core, so no formula is drawn wrongly in silence.
"""

import html
import re
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.blockprocessors import BlockProcessor
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.util import AtomicString
from math_core import LatexError, LatexToMathML

from logpi.errors import LogpiError

STYLES = {"text-align: right": "right", "text-align: left": "left", "padding-left:1em": "gap", "margin-left:-": "tight"}
INLINE = r"(?<![\\$])\$(?![\s$])((?:\\.|[^\\$])+?)(?<!\s)\$(?![\w$])"
BLOCK = re.compile(r"(?:^|\n) {0,3}\$\$(.+?)\$\$[ ]*(?:\n|$)", re.DOTALL)


def mathml(latex: str, block: bool = False) -> Element:
    """The formula's element. Styles, which a strict page refuses inline, are classes."""
    try:
        text = LatexToMathML(fancy_error=False).convert_with_local_state(latex.strip(), displaystyle=block)
    except LatexError as wrong:
        raise LogpiError(f"The formula {latex.strip()!r} has no MathML ({wrong}): write it otherwise.") from wrong
    names = re.sub(r"&(?!(?:amp|lt|gt|quot);)\w+;", lambda m: html.unescape(m[0]), text)
    found = ElementTree.fromstring(names)
    for x in found.iter():
        style = x.attrib.pop("style", "")
        classes = [name for said, name in STYLES.items() if said in style]
        x.attrib |= {"class": " ".join(classes)} if classes else {}
        x.text = AtomicString(x.text) if x.text else None
    return found


class _Inline(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Element, int, int]:  # noqa: N802
        return mathml(m[1]), m.start(0), m.end(0)


class _Block(BlockProcessor):
    def test(self, parent: Element, block: str) -> bool:
        return BLOCK.search(block) is not None

    def run(self, parent: Element, blocks: list[str]) -> None:
        block = blocks.pop(0)
        found = BLOCK.search(block)
        assert found is not None
        self.parser.parseBlocks(parent, [block[: found.start()]] if block[: found.start()].strip() else [])
        box = ElementTree.SubElement(parent, "div", {"class": "display"})
        box.append(mathml(found[1], block=True))
        if block[found.end() :].strip():
            blocks.insert(0, block[found.end() :])


class Maths(Extension):
    """For `Markdown(extensions=[Maths()])`, or by its module's name."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        md.inlinePatterns.register(_Inline(INLINE, md), "maths", 185)  # code stays code, a backslash stays a backslash
        md.parser.blockprocessors.register(_Block(md.parser), "maths", 78)


def makeExtension(**settings: Any) -> Maths:  # noqa: N802
    return Maths(**settings)


def slug(text: str, separator: str = "-") -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", html.unescape(text).strip().lower()).replace(" ", separator)
