"""A copy that `logpi lab export` wrote, served by Python's own file server, in a real browser: no API, no token."""

import http.server
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from made_runs import kept_by, made_run
from test_lab_inside_browser import NARROW, WIDE, faults_of

from logpi.lab import export
from logpi.lab.demos import DEMOS

RUN = "CartPole-v1/ppo/0-20261130-120000"


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def link(tmp_path_factory):
    """Every demonstration, as it is at first; one of them with its controls."""
    runs, out = tmp_path_factory.mktemp("made") / "runs", tmp_path_factory.mktemp("copied") / "below" / "site"
    for seed in range(2):
        made_run(runs / "CartPole-v1" / "ppo" / f"{seed}-20261130-12000{1 - seed}", "ppo", seed)
    kept_by(runs / RUN.replace("120000", "120001"))
    whole = export.asked
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "MORE", {"bandit": [{"moves": m} for m in ("1", "1s", "s")]})
        patch.setattr(
            export, "asked", lambda name, fields, seeds: whole(name, fields if name == "bandit" else [], seeds)
        )
        with ThreadPoolExecutor(1) as other:  # this thread has the event loop of Playwright
            other.submit(export.export, out, runs, seeds=2).result()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(out.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/site/#/"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_is_there(visit, theme, viewport):
    page = visit(theme=theme, viewport=viewport)
    for name in DEMOS:
        page.evaluate("place => { location.hash = place }", f"#/{name}")
        page.wait_for_selector(f'article[data-page="{name}"] .picture[aria-busy="false"]')
        assert page.locator(".formula math").count() == 1 and page.locator(".sources details").count() > 0
        assert page.locator(".wrong:visible").count() == 0, name
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
        assert not faults_of(page), name


def test_the_guide_is_read_in_it(visit):
    page = visit("#/guide")
    page.get_by_role("link", name="Baselines").first.click()
    page.wait_for_selector(".guide .display math")
    shown = "() => [...document.querySelectorAll('.guide img')].every(x => x.complete && x.naturalWidth > 0)"
    page.wait_for_function(shown)
    assert page.locator(".guide img").count() > 2 and page.locator(".wrong:visible").count() == 0


def test_what_is_not_answered_is_not_offered_and_each_control_turns_alone(visit):
    page = visit("#/bandit")
    page.wait_for_selector('.picture[aria-busy="false"]')
    form = page.locator(".controls")
    assert form.locator("input[type=range]").count() == 0 and form.locator("input[name=p-lr]").count() == 4
    form.locator("input[name=p-lr]").last.check(force=True)
    page.wait_for_function("() => location.hash === '#/bandit?lr=2'")
    form.get_by_label("reveal").check()
    page.wait_for_function("() => location.hash === '#/bandit?reveal=true'")  # lr is as it was
    page.get_by_role("button", name="all as it was").click()
    page.wait_for_function("() => location.hash === '#/bandit'")
    page.locator(".arm").nth(1).click()
    page.wait_for_function("() => location.hash === '#/bandit?moves=1'")
    page.wait_for_selector(".arm.now")
    assert page.locator(".arm:disabled").count() == 4  # no answer to a second press
    page.get_by_role("button", name="Let the policy choose").click()
    page.wait_for_function("() => location.hash === '#/bandit?moves=1s'")
    page.wait_for_selector('.picture[aria-busy="false"]')
    assert page.get_by_role("button", name="Let the policy choose").is_disabled()
    for seed in ("1", ""):  # and from the last seed to the first
        form.get_by_role("button", name="next seed").click()
        page.wait_for_function(
            "s => (new URLSearchParams(location.hash.split('?')[1]).get('seed') ?? '') === s", arg=seed
        )
    page.evaluate("location.hash = '#/advantage'")
    page.wait_for_selector('article[data-page="advantage"] .picture[aria-busy="false"]')
    assert page.locator(".controls input").count() == 1  # the seed


def test_a_link_to_what_has_no_answer_is_one_sentence(visit):
    page = visit("#/bandit?lr=1.5")
    page.wait_for_selector(".wrong:visible")
    assert "This copy has no answer to that; logpi lab has." in page.locator(".wrong:visible").inner_text()


def test_runs_are_there_as_they_were(visit):
    page = visit("#/runs")
    page.wait_for_selector(".uplot")
    assert page.locator("input[data-run]:checked").count() == 2
    page.get_by_label("iteration").check(force=True)
    page.wait_for_selector('[aria-label*="over iteration"]')
    page.wait_for_selector("video")
    page.wait_for_function("() => document.querySelector('video').readyState >= 2")
    page.locator("#inside-file").select_option("tokens/iteration-2")
    page.wait_for_selector(".piece")
    page.locator("input[data-run]").first.uncheck()
    page.wait_for_function("() => document.querySelectorAll('input[data-run]:checked').length === 1")
    page.wait_for_selector(".uplot")
    assert not faults_of(page)
