"""The guide in a real browser. `visit` fails on any console error, CSP report or foreign request."""

import re

from logpi.lab import guide


def read(page, place):
    page.evaluate("place => { location.hash = place }", place)
    page.wait_for_selector(f'article[data-page="{place.strip("#/").split("?")[0]}"] .guide > p')
    assert page.locator(".wrong:visible").count() == 0


def test_contents_lead_to_a_chapter_whose_formulas_are_drawn_and_whose_title_is_the_pages(visit):
    page = visit("#/guide")
    page.get_by_role("link", name="The guide").wait_for()
    page.locator(".guide ol a").first.click()
    page.wait_for_selector('article[data-page="guide/01-objective"] .guide > p')
    assert page.title() == f"{page.locator('h1').inner_text()} · logpi lab"
    assert page.locator("nav a[aria-current]").inner_text().endswith("The guide")
    size = page.locator(".display math").first.bounding_box()
    assert size["width"] > 40 and size["height"] > 15
    rows = page.evaluate("[...document.querySelectorAll('mtd.right')].map(x => getComputedStyle(x).textAlign)")
    assert not [x for x in rows if x != "right"]


def test_a_source_opens_under_its_line_and_closes_again_by_the_keyboard(visit):
    page = visit()
    name, word = next((x["name"], told) for x in guide.contents() for told in guide.fragment(x["name"])["shown"])
    read(page, f"#/guide/{name}")
    button = page.locator(".guide button").first
    button.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    assert page.locator(".guide .sources pre").inner_text().strip() == word["text"].strip()
    button.press("Enter")
    assert page.locator(".guide .sources").count() == 0


def test_figures_are_seen_and_a_heading_can_be_the_place_to_begin(visit):
    page = visit()
    told = next(t for x in guide.contents() if "<img" in (t := guide.fragment(x["name"]))["html"])
    heading = re.findall('id="at-([^"]+)"', told["html"])[-1]
    read(page, f"#/guide/{told['name']}?at={heading}")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.guide img')].every(x => x.complete && x.naturalWidth > 100)"
    )
    page.wait_for_function("() => scrollY > 100")


def test_a_demonstration_and_its_chapter_lead_to_each_other(visit):
    page = visit()
    chapter = next(x for x in guide.contents() if x["demos"])
    read(page, f"#/guide/{chapter['name']}")
    page.locator(f".guide a[href='#/{chapter['demos'][0]}']").first.click()
    page.wait_for_selector('.picture[aria-busy="false"]')
    page.locator(".read a", has_text=chapter["title"]).click()
    page.wait_for_selector(f'article[data-page="guide/{chapter["name"]}"] .guide > p')


def test_a_chapter_that_is_none_is_told_in_a_sentence(visit):
    page = visit("#/guide/nothing")
    page.wait_for_selector(".wrong:visible")
    assert page.locator(".wrong").inner_text() == "There is no such page."
    visit.faults[:] = [x for x in visit.faults if "404" not in x]  # the browser itself notes the refused request
