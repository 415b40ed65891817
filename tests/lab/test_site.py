"""The site is built without a warning, asks nothing of another machine, and its pages are whole in a browser."""

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SHOWN = [
    "index.html",
    "docs/guide/index.html",
    "docs/reference/psi.html",
    "docs/reference/methods.html",
    "docs/papers.html",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("zensical")
    tree = tmp_path_factory.mktemp("site")
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "zensical.toml"):
        shutil.copy(ROOT / name, tree)
    for name in ("docs", "benchmarks", "examples", "src"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for command in (["docs/site.py"], ["-m", "zensical", "build", "--strict"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tree,
            env={"PYTHONPATH": str(tree / "src"), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return tree / "site"


def test_nothing_is_asked_of_another_machine(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        asked = re.findall(
            r"""<(?:script|link|img|iframe|source|object|embed)\b[^>]*?(?:src|href|data)=["']?([^"'\s>]+)""",
            page.read_text(),
        )
        assert asked and not [x for x in asked if re.match("(https?:)?//", x)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text()), sheet


def test_every_page_of_the_repository_is_there_and_in_the_navigation(site):
    index = (site / "index.html").read_text()
    linked = {
        x.removeprefix("./")
        for tag in re.findall("<a [^>]*md-nav__link[^>]*>", index)
        for x in re.findall('href="([^"#]+)"', tag)
    }
    for page in [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
        ROOT / "CHANGELOG.md",
        ROOT / "CONTRIBUTING.md",
    ]:
        built = page.relative_to(ROOT).with_suffix(".html").as_posix()
        assert (site / built).is_file() and built in linked, built


def test_docstrings_and_formulas_look_as_they_are_meant(site):
    psi = (site / "docs" / "reference" / "psi.html").read_text()
    assert 'id="logpi.psi.gae"' in psi and "A_t = sum_l (gamma lam)^l delta_{t+l}" in psi
    assert "<code>clip</code>" in (site / "docs" / "reference" / "methods.html").read_text()
    guide = (site / "docs" / "guide" / "index.html").read_text()
    assert guide.count("<math") > 20 and "$" not in re.sub(
        r"<(script|style|code|pre)\b.*?</\1>", "", guide.split("<article")[1].split("</article")[0], flags=re.S
    )
    assert "reference/objective.html#logpi.objective" in "".join(x.read_text() for x in (site / "docs").rglob("*.html"))


@pytest.fixture
def address(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_fit_and_the_console_is_silent(browser, address, theme):
    faults = []
    for width in (1440, 360):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        page = context.new_page()
        page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on(
            "request", lambda r: faults.append(r.url) if not r.url.startswith((address, "data:", "blob:")) else None
        )
        for name in SHOWN:
            page.goto(address + name)
            assert page.locator("article h1").first.is_visible()
            if page.evaluate("document.documentElement.scrollWidth - innerWidth") > 0:
                faults.append(f"{name} is wider than {width}")
        context.close()
    assert not faults
