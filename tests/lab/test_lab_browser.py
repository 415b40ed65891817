"""The lab in a real browser: every page, every control, both themes. `visit` fails on any console error, CSP report or foreign request."""

import json
from pathlib import Path

import pytest

from logpi.lab import guide
from logpi.lab.demos import DEMOS

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PAGES = [
    "#/",
    *(f"#/{name}" for name in DEMOS),
    "#/runs",
    "#/guide",
    *(f"#/guide/{x['name']}" for x in guide.contents()),
]
NARROW = {"width": 360, "height": 760}
READY = '.picture[aria-busy="false"], article[data-page="home"] h1, .guide > p, .uplot'


def ready(page, place):
    page.wait_for_selector(f'article[data-page="{place.strip("#/").split("?")[0] or "home"}"]')
    page.wait_for_selector(READY)
    assert page.locator(".wrong:visible").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [None, NARROW], ids=["wide", "narrow"])
def test_every_page_is_whole_fits_and_is_accessible(visit, theme, viewport):
    page = visit(theme=theme, viewport=viewport or {"width": 1440, "height": 900})
    faults = []
    for place in PAGES:
        page.evaluate("place => { location.hash = place }", place)
        ready(page, place)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, place
        # as a tool of the test, past the page's policy: in the page's own world nothing is added
        found = page.evaluate(
            AXE.read_text() + "; axe.run({resultTypes: ['violations']}).then(r => JSON.stringify(r.violations))"
        )
        serious = [v for v in json.loads(found) if v["impact"] in ("serious", "critical")]
        faults += [(place, v["id"], node["html"]) for v in serious for node in v["nodes"][:2]]
    assert not faults


def test_the_first_page_is_there_in_half_a_second(visit):
    page = visit()
    times = []
    for _ in range(3):
        page.reload()
        page.wait_for_selector("html[data-ready]")
        times.append(page.evaluate("performance.now()"))
    assert min(times) < 500


@pytest.mark.parametrize("name", DEMOS)
def test_every_control_turns_the_picture_and_the_link_keeps_it(visit, name):
    page = visit(f"#/{name}")
    ready(page, f"#/{name}")
    form = page.locator(".controls")
    for slider in form.locator("input[type=range]").all():
        slider.focus()
        page.keyboard.press("ArrowLeft")
    for box in form.locator("input[type=checkbox]").all():
        box.focus()
        page.keyboard.press("Space")
    for group in form.locator("fieldset").all():
        group.locator("input").last.check(force=True)
    form.get_by_role("button", name="next seed").click()
    page.wait_for_function("() => location.hash.includes('seed=1')")
    page.wait_for_selector('.picture[aria-busy="false"]')
    turned = page.evaluate("location.hash")
    shown = page.locator(".picture").inner_text()
    page.goto("about:blank")
    page.go_back()
    ready(page, turned)
    assert page.evaluate("location.hash") == turned and page.locator(".picture").inner_text() == shown
    page.get_by_role("button", name="all as it was").click()
    page.wait_for_function(f"() => location.hash === '#/{name}'")
    assert page.locator(".wrong:visible").count() == 0


@pytest.mark.parametrize("name", DEMOS)
def test_every_button_and_every_fold_of_a_picture_works(visit, name):
    page = visit(f"#/{name}")
    ready(page, f"#/{name}")
    for i in range(page.locator(".picture button").count()):
        button = page.locator(".picture button").nth(i)
        if button.is_enabled():
            button.click()
            page.wait_for_selector('.picture[aria-busy="false"]')
    for node in page.locator(".picture [role=button]").all():
        node.focus()
        page.keyboard.press("Enter")
        assert node.get_attribute("aria-pressed") == "true"
    for fold in page.locator("article summary").all():
        fold.click()
    assert page.locator(".sources pre code").first.inner_text().strip()


SLOWLY = """const ask = window.fetch; window.posts = 0; window.fetch = async (...a) => {
  if (a[1]?.method === "POST") { window.posts++; await new Promise((go) => setTimeout(go, 700)); } return ask(...a); }; 0"""


def test_what_takes_long_says_so_and_a_dragged_slider_asks_for_where_it_rests(visit):
    page = visit("#/gae")
    ready(page, "#/gae")
    page.evaluate(SLOWLY)
    page.locator("#p-lam").focus()
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".waiting:not(:empty)")
    page.wait_for_selector('.picture[aria-busy="false"]')
    rests = page.locator(".control output").first.inner_text()
    assert page.locator(".waiting").inner_text() == "" and f"At λ = {rests} " in page.locator(".said").inner_text()
    assert 2 <= page.evaluate("posts") <= 6


def test_a_late_step_of_grpo_is_reached_by_those_before_it(visit):
    page, asked = visit("#/"), []
    page.on("request", lambda x: asked.append(x.post_data_json["params"]["step"]) if x.method == "POST" else None)
    page.evaluate("location.hash = '#/tokens?step=5&group=2'")
    ready(page, "#/tokens")
    assert asked == [2, 4, 5] and "After 5 steps" in page.locator(".said").inner_text()


def test_a_pressed_column_is_an_action_and_its_reward_moves_the_policy(visit):
    page = visit("#/bandit?seed=3")
    ready(page, "#/bandit")
    share = page.locator(".arm").nth(1).locator(".share")
    assert share.inner_text() == "25.0 %"
    page.locator(".arm").nth(1).press("Enter")
    page.wait_for_function("() => location.hash.includes('moves=1')")
    page.wait_for_selector(".arm.now")
    said = page.locator(".said").inner_text()
    assert ("more likely" in said) == (float(share.inner_text()[:-2]) > 25.0) and "You chose B" in said
    assert page.evaluate("document.activeElement.classList.contains('arm')")  # the keyboard stays where it was
    page.get_by_role("button", name="Forget all").click()
    page.wait_for_function("() => !location.hash.includes('moves')")


def test_a_run_of_moves_is_played_one_by_one_unless_motion_is_unwanted(visit):
    for still in (False, True):
        page = visit("#/bandit", still=still)
        ready(page, "#/bandit")
        page.get_by_role("button", name="Twenty more").click()
        page.wait_for_function(
            "() => document.querySelector('.history .chart')?.getAttribute('aria-label')?.match(/over (2|20) moves/)"
        )
        label = page.locator(".history .chart").first.get_attribute("aria-label")
        assert ("over 20 moves" in label) == still


def test_what_the_url_asks_in_vain_is_one_sentence_on_the_page(visit):
    page = visit("#/bandit?lr=99")
    page.wait_for_selector(".wrong:visible")
    assert "lr is 99: allowed is a number from 0.01 to 2" in page.locator(".wrong").inner_text()
    visit.faults[:] = [x for x in visit.faults if "400" not in x]  # the browser itself notes the refused request


def test_runs_are_chosen_compared_and_named_as_text(visit):
    page = visit("#/runs")
    ready(page, "#/runs")
    assert page.locator(".runs-table tbody tr").count() == 5
    assert page.locator("input[data-run]:checked").count() == 3  # the newest and its seeds are one curve
    assert page.locator(".legend li").all_inner_texts() == ["ppo on CartPole-v1"]
    assert "<img src=x onerror=alert(1)>" in page.locator(".runs-table").inner_text()
    page.get_by_label("trpo").check()
    page.wait_for_function("() => document.querySelectorAll('.legend li').length === 2")
    page.get_by_label("iteration").check()
    page.wait_for_function("() => location.hash.includes('x=iteration')")
    page.wait_for_selector('[aria-label*="over iteration"]')
    titles = page.locator(".charts h2").all_inner_texts()
    assert titles[0] == "return" and any("signal to noise" in title for title in titles)


def test_a_curve_grows_while_it_is_looked_at(visit, runs):
    page = visit("#/runs?run=CartPole-v1/trpo/0-20261129-110000")
    ready(page, "#/runs")
    before = page.locator(".charts [role=img]").first.get_attribute("aria-label")
    with next(runs.glob("CartPole-v1/trpo/*/metrics.jsonl")).open("a") as log:
        log.write('{"iteration": 121, "steps": 123904, "seconds": 0.05, "return": 9999.0}\n')
    page.wait_for_function("before => document.querySelector('.charts [role=img]')?.ariaLabel !== before", arg=before)


def test_the_theme_is_chosen_and_stays(visit):
    page = visit(theme="dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.get_by_role("button", name="Light theme").press("Enter")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_the_token_leaves_the_address_and_without_it_the_page_says_what_to_do(visit, browser, link):
    page = visit()
    assert "token" not in page.url and page.evaluate("Object.keys(localStorage).length") == 0
    other = browser.new_page()
    other.goto(link.split("#")[0])
    other.wait_for_selector("[role=alert]")
    assert "Open the lab by the link that logpi lab printed" in other.inner_text("main")
    other.close()
