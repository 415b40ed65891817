"""The real command behind a real browser: Debian's Chromium, or the one that CHROMIUM names."""

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
LIMITS = {"width": 1440, "height": 900}


def made_run(path, method, seed, rows=120, gap=()):
    """A run folder whose return rises."""
    luck = random.Random(f"{method}{seed}")
    path.mkdir(parents=True)
    (path / "config.toml").write_text(
        f'[method]\nname = "{method}"\nlr = 0.001\n[run]\nenv = "CartPole-v1"\nseed = {seed}\nsteps = 122880\n'
    )
    (path / "status.json").write_text(
        json.dumps({"state": "finished", "time": "2026-11-30T12:00:00", "steps": 1024 * rows})
    )
    with (path / "metrics.jsonl").open("w") as log:
        for i in range(rows):
            rise = 1 / (1 + math.exp(-(i - 40 - 6 * seed) / 12))
            row = {
                "return": 20 + 470 * rise + luck.gauss(0, 12),
                "kl": abs(luck.gauss(0.01, 0.002)),
                "entropy": 0.68 - 0.3 * rise,
            }
            row |= {"grad_snr": 2 + luck.random(), "seconds": 0.05 + 0.005 * luck.random()}
            if i in gap:
                row["kl"] = None
            log.write(json.dumps({"iteration": i + 1, "steps": 1024 * (i + 1)} | row) + "\n")


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
    command = [sys.executable, "-m", "logpi", "lab", "--runs", str(runs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield re.search(r"http://\S+", process.stdout.readline())[0]
        process.terminate()


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
        page.on("request", lambda r: faults.append(r.url) if not r.url.startswith(link.split("/#")[0]) else None)
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
