"""The site's pages: README, docs/, benchmarks/*.md and what they link to, put together in build/site as they lie in the repository.

`make docs` calls it before zensical. Links need no change where the pages lie as they do; only a link to a module of the library leads
to its reference where there is one.
"""

import os
import re
import shutil
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
STAGE = ROOT / "build" / "site"
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
REFERENCE = ROOT / "docs" / "reference"


def pages() -> list[Path]:
    single = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    return [*single, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md"))]


def stage() -> None:
    shutil.rmtree(STAGE, ignore_errors=True)
    beside = {ROOT / "docs" / "site.css"}
    for page in pages():
        text = page.read_text()
        beside |= {page.parent / path.split("#")[0] for _, path in LINK.findall(text) if "://" not in path}
        target = STAGE / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(LINK.sub(partial(_referred, page), text))
    (STAGE / "README.md").rename(STAGE / "index.md")
    shutil.copy(ROOT / "docs" / "nav.yml", STAGE)
    for file in {x.resolve() for x in beside} - {x.resolve() for x in pages()}:
        if file.is_file():
            target = STAGE / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)


def _referred(page: Path, link: re.Match[str]) -> str:
    """[psi.gae](../src/logpi/psi.py) as a link to the reference, where that has the module."""
    text, target = link[1], (page.parent / link[2]).resolve()
    module = (
        ".".join(target.relative_to(ROOT / "src").with_suffix("").parts) if target.is_relative_to(ROOT / "src") else ""
    )
    for at in sorted(REFERENCE.glob("*.md")):
        if module and f"::: {module}\n" in at.read_text():
            words = [
                x
                for x in re.findall(r"\w+", text)
                if re.search(rf"^(def|class) {x}\b", target.read_text(), re.MULTILINE)
            ]
            name = f"{module}.{words[0]}" if len(words) == 1 else module
            return f"[{text}]({os.path.relpath(at, page.parent)}#{name})"
    return link[0]


if __name__ == "__main__":
    stage()
