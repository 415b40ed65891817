"""A run from within, in a real browser: films, episodes and tokens; every control, by keyboard too, both themes, 360 pixels."""

import json
import os
from pathlib import Path

import pytest
from made_runs import episode_of, kept_by, made_run, rollout_of, serving

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
NARROW, WIDE = {"width": 360, "height": 760}, {"width": 1440, "height": 900}
PPO, GRPO, BARE = (
    "CartPole-v1/ppo/0-20261130-120000",
    "copy/grpo/0-20261129-120000",
    "CartPole-v1/trpo/0-20261128-120000",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    runs = tmp_path_factory.mktemp("within") / "runs"
    for name in (PPO, GRPO, BARE):
        made_run(runs / name, name.split("/")[1], 0, rows=20)
    kept_by(runs / PPO)
    config = (runs / GRPO / "config.toml").read_text()
    (runs / GRPO / "config.toml").write_text(config.replace('env = "CartPole-v1"', 'task = "copy"'))
    return runs


@pytest.fixture(scope="module")
def link(runs):
    with serving(runs) as link:
        yield link


def opened(visit, run, file="", **how):
    page = visit(f"#/runs?run={run}{file and f'&file={file}'}", **how)
    page.wait_for_selector(".uplot")
    page.wait_for_selector(".inside > *")
    return page


def faults_of(page):
    found = page.evaluate(
        AXE.read_text() + "; axe.run({resultTypes: ['violations']}).then(r => JSON.stringify(r.violations))"
    )
    return [(v["id"], v["nodes"][0]["html"]) for v in json.loads(found) if v["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("file", ["video/a", "tokens/iteration-2", "video/b"])
def test_what_is_kept_fits_and_is_accessible(visit, file, theme, viewport):
    page = opened(visit, PPO, file, theme=theme, viewport=viewport)
    if file.startswith("tokens"):
        page.locator(".piece").first.focus()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert not faults_of(page)


def test_an_episode_has_one_cursor_for_film_curves_and_words(visit):
    page = opened(visit, PPO)
    assert page.locator("#inside-file").input_value() == "video/a"  # the newest
    captions = page.locator(".inside figcaption").all_inner_texts()
    assert [x.split(" ")[0] for x in captions] == ["Reward", "What", "Probability", "The", "Entropy", "log"]
    slider, said = page.locator("#inside-step"), page.locator(".inside .said")
    assert said.inner_text().startswith("Step 0: action ") and "V –" in said.inner_text()  # null: no number there
    before = page.locator(".cursor").first.get_attribute("x1")
    for _ in range(3):
        slider.press("ArrowRight")
    episode = episode_of(30, 1)
    words = f"Step 3: action {episode['action'][0][3]} of probability"
    assert said.inner_text().startswith(words) and "V 27" in said.inner_text() and "to an end" in said.inner_text()
    assert slider.get_attribute("aria-valuetext").startswith(words)
    assert page.locator(".cursor").first.get_attribute("x1") != before
    page.wait_for_function("() => Math.abs(document.querySelector('video').currentTime - 0.35) < 0.01")
    page.get_by_role("radio", name="2", exact=True).check(force=True)
    assert "Return 20 in 20 steps" in said.inner_text() and slider.get_attribute("max") == "19"
    page.wait_for_function("() => Math.abs(document.querySelector('video').currentTime - 3.15) < 0.01")
    page.get_by_text("All steps").click()
    assert page.locator(".inside details[open] tbody tr").count() == 20


def test_a_long_episode_is_seen_near_its_cursor_or_whole(visit, runs):
    file = "step-000000081920-CartPole-v1-seed10000"  # as logpi play names it
    told = {"env": "CartPole-v1", "checkpoint": "step-000000081920", "deterministic": True, "seed": 0, "fps": None}
    where = runs / BARE / "video" / f"{file}.json"
    where.parent.mkdir()
    where.write_text(json.dumps(told | {"film": None, "episodes": [episode_of(250, 1)]}))
    page = opened(visit, BARE, viewport=NARROW)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    curve, slider = page.locator(".inside .chart").first, page.locator("#inside-step")
    assert "Steps 0 to 99 of 250" in curve.get_attribute("aria-label")
    slider.fill("120")
    assert "Steps 100 to 199 of 250" in curve.get_attribute("aria-label")
    slider.press("End")
    assert "Steps 150 to 249 of 250" in curve.get_attribute("aria-label")
    assert float(page.locator(".cursor").first.get_attribute("x1")) > 200
    page.get_by_role("radio", name="the whole episode").check(force=True)
    assert "Steps 0 to 249 of 250" in curve.get_attribute("aria-label") and slider.input_value() == "249"
    where.unlink()
    where.parent.rmdir()


def test_the_film_is_played_and_the_cursor_follows_it(visit):
    page = opened(visit, PPO)
    video = page.locator("video")
    page.wait_for_function("() => document.querySelector('video').readyState >= 2")
    assert video.evaluate("v => [v.videoWidth, v.videoHeight, v.controls]") == [96, 64, True]
    assert video.get_attribute("src").startswith("blob:")
    video.evaluate("v => v.play()")
    page.wait_for_function("() => +document.querySelector('#inside-step').value > 2")
    video.evaluate("v => { v.currentTime = 4 }")
    page.wait_for_function("() => document.querySelector('input[name=episode][value=\"1\"]').checked")


def test_a_gif_and_a_film_that_cannot_be_played(visit, runs):
    page = opened(visit, PPO, "video/b")
    page.wait_for_function("() => document.querySelector('.film img')?.naturalWidth === 96")
    (runs / PPO / "video" / "broken.mp4").write_bytes(b"no film")
    os.utime(runs / PPO / "video" / "broken.mp4", (1, 1))
    page = opened(visit, PPO, "video/broken")
    page.wait_for_selector(".film [role=alert]")
    assert "This browser cannot play broken.mp4: open it with another" in page.locator(".film").inner_text()
    (runs / PPO / "video" / "broken.mp4").unlink()


def test_tokens_are_coloured_by_what_is_chosen_and_told_by_keyboard(visit):
    page = opened(visit, PPO, "tokens/iteration-2")
    pieces, told = page.locator(".piece"), page.locator(".told").first
    assert page.locator(".completion").count() == 3 and pieces.first.inner_text() == "<b>"  # text, no markup
    assert page.locator(".asked").first.inner_text() == "ab=" and page.locator(".rewards .own").count() == 3
    much = "x => [...x.querySelectorAll('.piece')].map(y => [y.style.getPropertyValue('--much'), y.classList.contains('s1')])"
    first = page.locator(".pieces").first
    assert first.evaluate(much) == [["2%", False], ["40%", False], ["14%", False]]
    names = page.locator("input[name=by]").all()
    assert [x.get_attribute("value") for x in names] == ["log_pi", "psi", "kl_ref", "entropy", "rho"]
    names[0].focus()
    page.keyboard.press("ArrowRight")
    assert first.evaluate(much) == [["40%", False], ["40%", False], ["13%", True]]
    keys = {page.locator(".key").inner_text()}
    for box in names[2:]:
        box.check(force=True)
        keys.add(page.locator(".key").inner_text())
    assert len(keys) == 4
    pieces.first.focus()
    assert "log π −0.1" in told.inner_text()
    page.keyboard.press("ArrowRight")
    assert "clipped at ratio 1.50" in told.inner_text() and "struck" in pieces.nth(1).get_attribute("class")
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.innerText") == "b" and "H –" in told.inner_text()
    page.keyboard.press("Home")
    page.keyboard.press("Tab")  # one stop for a completion
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    for fold in page.locator(".inside summary").all():
        fold.click()
    assert page.locator(".completion").first.locator("tbody tr").count() == 3


def test_without_any_the_page_names_the_command(visit):
    page = opened(visit, BARE)
    assert "No episode of this run is kept yet. logpi play " in page.locator(".inside").inner_text()
    assert page.locator(".inside code").inner_text().endswith(f"runs/{BARE} --record")
    page = opened(visit, GRPO)
    assert page.locator(".inside code").inner_text().startswith("logpi tokens ")


def test_of_several_runs_one_is_chosen_and_the_link_keeps_it(visit):
    page = opened(visit, f"{BARE}&run={PPO}")
    page.locator("#inside-run").select_option(PPO)
    page.wait_for_selector("video")
    page.locator("#inside-file").select_option("tokens/iteration-2")
    page.wait_for_selector(".piece")
    kept = page.evaluate("location.hash")
    assert "inside=" in kept and "file=tokens" in kept
    page.goto("about:blank")
    page.go_back()
    page.wait_for_selector(".piece")
    assert page.evaluate("location.hash") == kept and page.locator("#inside-run").input_value() == PPO
    page.locator(f'input[data-run="{PPO}"]').uncheck()
    page.wait_for_selector(".inside .empty")


def test_what_is_new_appears_and_what_is_damaged_is_one_sentence(visit, runs):
    page = opened(visit, GRPO)
    (runs / GRPO / "tokens").mkdir()
    file = runs / GRPO / "tokens" / "iteration-1.json"
    file.write_text(json.dumps(rollout_of(1)))
    page.wait_for_selector(".piece", timeout=20_000)
    for text, words in (
        ("{", "cannot be read"),
        ('{"columns": 1}', "is not as logpi writes it"),
        ("[]", "is not as logpi"),
    ):
        file.write_text(text)
        page = opened_damaged(visit)
        assert f"tokens/iteration-1.json {words}" in page.locator(".wrong:visible").inner_text()
    file.unlink()
    (runs / GRPO / "tokens").rmdir()
    visit.faults[:] = [x for x in visit.faults if "400" not in x]  # the browser itself notes the refused request


def opened_damaged(visit):
    page = visit(f"#/runs?run={GRPO}")
    page.wait_for_selector(".wrong:visible")
    return page


def test_a_large_file_is_told(visit, runs, monkeypatch):
    file = runs / BARE / "video" / "large.json"
    file.parent.mkdir()
    with file.open("wb") as out:
        out.truncate(9_000_000)
    page = visit(f"#/runs?run={BARE}")
    page.wait_for_selector(".wrong:visible")
    assert "video/large.json has 9 MB: the lab shows no file of its kind" in page.locator(".wrong:visible").inner_text()
    file.unlink()
    file.parent.rmdir()
