"""The real command behind a real browser: Debian's Chromium, or the one that CHROMIUM names."""

import os
import shutil

import pytest
from made_runs import made_run, serving

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
LIMITS = {"width": 1440, "height": 900}


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    runs = tmp_path_factory.mktemp("lab") / "runs"
    for seed in range(3):
        made_run(runs / "CartPole-v1" / "ppo" / f"{seed}-20261130-12000{seed}", "ppo", seed)
    made_run(runs / "CartPole-v1" / "trpo" / "0-20261129-110000", "trpo", 4, gap=range(60, 66))
    (runs / "<img src=x onerror=alert(1)>" / "=1+1" / "0-\u202egnp").mkdir(parents=True)
    (runs / "<img src=x onerror=alert(1)>" / "=1+1" / "0-\u202egnp" / "status.json").write_text("{")
    return runs


@pytest.fixture(scope="session")
def link(runs):
    with serving(runs) as link:
        yield link


@pytest.fixture(scope="module")  # while Playwright is open its event loop is this thread's, and asyncio.run has none
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt install chromium, or CHROMIUM=/its/path")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visit(browser, link):
    """visit(place) -> an open page; at the end nothing was asked of another machine, said on the console, or refused by the CSP."""
    contexts, faults = [], []

    def open_page(place="", theme="light", viewport=LIMITS, still=True):
        context = browser.new_context(
            viewport=viewport, color_scheme=theme, reduced_motion="reduce" if still else "no-preference"
        )
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('CSP ' + e.violatedDirective + e.blockedURI))"
        )
        page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on("dialog", lambda d: faults.append(d.message) or d.dismiss())
        own = "/".join(link.split("/")[:3])  # the page's own blobs are of its origin, too
        page.on(
            "request", lambda r: faults.append(r.url) if not r.url.removeprefix("blob:").startswith(f"{own}/") else None
        )
        page.goto(link)
        page.wait_for_selector("html[data-ready]")
        if place:
            page.evaluate("place => { location.hash = place }", place)
        return page

    open_page.faults = faults
    yield open_page
    for context in contexts:
        context.close()
    assert not faults
