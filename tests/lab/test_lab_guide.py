"""The guide inside the lab: what a chapter's Markdown becomes, where its links lead, and that nothing else gets in."""

import json
import os
import re
import sys
from html.parser import HTMLParser

import pytest
from asgi import ask, guarded

from logpi.errors import LogpiError
from logpi.lab import guide, maths
from logpi.lab.app import FILES
from logpi.lab.demos import DEMOS

CHAPTER = r"""# 3. Baselines, $b$

What $E[\nabla \log \pi_\theta] = 0$ allows; it costs $5 and $6, and `$x$` is code. A set $\{a_1, *b*, a_2\}$.

## The proof

$$
\begin{aligned}
\nabla J &= \sum_a \nabla \pi(a \mid s) \\
&= \nabla 1 = 0, \quad \text{if } a < b
\end{aligned}
$$
[`psi.leave_one_out`, `psi.group_mean`](../../src/logpi/psi.py), [psi.py](../../src/logpi/psi.py), [rloo](../../src/logpi/methods/rloo.py).

| baseline | bias |
|---|--:|
| none | $\sigma^2$ |

```python
assert 1 < 2  # "<b>"
```

![What one sees](figures/03-seen.svg)
*A caption.*

[The proof](#the-proof), [2](02-variance.md#causality), [lab](../lab.md#baseline), [solutions](solutions/03-baselines.md), [docs](../exactness.md).
"""


class Seen(HTMLParser):
    """The elements of a fragment, with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(text, name) -> the fragment of a chapter with that text."""

    def fragment(text, name="03-baselines"):
        for other in ("02-variance", name, "solutions/03-baselines"):
            file = tmp_path / f"{other}.md"
            file.parent.mkdir(exist_ok=True)
            file.write_text(text if other == name else "# Another\n")
            monkeypatch.setitem(guide.TEXTS, other, file)
        monkeypatch.setitem(guide.FIGURES, "figures/03-seen.svg", tmp_path / "seen.svg")
        return guide.fragment(name)

    return fragment


def test_a_chapter_is_a_title_and_a_fragment(write):
    told = write(CHAPTER)
    seen = Seen(told["html"])
    assert told["title"] == "3. Baselines, b" and not seen.all("h1")
    assert seen.all("h2") == [{"id": "at-the-proof"}]
    assert len(seen.all("math")) == 4 and len(seen.all("mtr")) == 2
    assert "it costs $5 and $6, and $x$ is code" in seen.text and "∗" in seen.text and not seen.all("em")[1:]
    assert {"align": "right"} in seen.all("td") and {"class": "language-python"} in seen.all("code")
    assert '# "<b>"' in seen.text
    assert seen.all("img") == [{"alt": "What one sees", "src": "static/guide/figures/03-seen.svg"}]


def test_links_lead_to_places_of_the_lab_or_are_text(write):
    told = write(CHAPTER)
    seen = Seen(told["html"])
    places = [
        "guide/03-baselines?at=the-proof",
        "guide/02-variance?at=causality",
        "baseline",
        "guide/solutions/03-baselines",
    ]
    assert [x["href"] for x in seen.all("a")] == [f"#/{place}" for place in places]
    assert len(seen.all("span")) == 2  # a module too long to show, and a page that the lab has not
    assert seen.all("button") == [{"type": "button", "value": "0"}, {"type": "button", "value": "1"}]
    both, page = told["shown"]
    assert both["module"] == "logpi.psi" and re.findall(r"^def (\w+)", both["text"], re.M) == [
        "group_mean",
        "leave_one_out",
    ]
    assert page["module"] == "logpi.methods.rloo" and "class RLOO" in page["text"] and page["text"].startswith('"""')


def test_links_of_a_solution_are_read_from_where_it_stands(write):
    told = write(
        "# S\n[3](../03-baselines.md), ![x](../figures/03-seen.svg), [g](../../../src/logpi/psi.py)",
        "solutions/03-baselines",
    )
    seen = Seen(told["html"])
    assert not seen.all("a")[1:] and seen.all("img")[0]["src"] == "static/guide/figures/03-seen.svg"


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a <b onclick=alert(1)>b</b> <style>*{}</style>",
    "[x](javascript:alert(1)) <javascript:alert(1)> [y](https://example.org/) <a@example.org>",
    "![x](https://example.org/x.png) ![y](../../../etc/passwd.svg) ![z](figures/../../app.svg)",
    "[x](../../src/logpi/../../pyproject.toml) [y](../../src/logpi/lab/static/app.js) [z](/etc/passwd)",
    '[x](02-variance.md "onmouseover=alert(1)") [y](02-variance.md#"onclick=1)',
    "```<script>\nx\n```\n\n``` {.python onclick=alert(1) style=color:red}\nx\n```",
    r"$\text{<img src=x>} x < y$ and $\class{a\"onclick}{x}$",
    "| a |\n|---|\n| <script>x</script> |\n\n<!-- <script> -->\n\n&lt;script&gt; <div markdown=1 onclick=x>y</div>",
    r"\<script>alert(1)\</script> `<script>` # <h1 id=main>",
]
TAGS = {
    "p",
    "a",
    "span",
    "button",
    "img",
    "em",
    "strong",
    "code",
    "pre",
    "ul",
    "ol",
    "li",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
}
TAGS |= {"h2", "h3", "h4", "blockquote", "hr", "br", "div"}
ATTRIBUTES = {"href", "src", "alt", "id", "class", "align", "type", "value"}


def harmless(html):
    """Only what Markdown and MathML make; every link inside the lab, every picture one of the guide's."""
    for tag, attributes in Seen(html).elements:
        assert tag in TAGS or re.fullmatch("m[a-z]+", tag), tag
        assert (
            {*attributes} <= ATTRIBUTES
            or tag.startswith("m")
            and not any(re.match("on|style|href|id", k) for k in attributes)
        ), attributes
        assert attributes.get("href", "#/").startswith("#/") and attributes.get(
            "src", "static/guide/figures/"
        ).startswith("static/guide/figures/")
    return True


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_chapter_acts_in_the_page(write, text):
    try:
        assert harmless(write(f"# T\n\n{text}\n")["html"])
    except LogpiError as refused:  # a formula that is none
        assert "has no MathML" in str(refused)


def test_the_check_above_sees_what_it_forbids():
    for bad in (
        "<script>",
        "<p onclick=x>",
        "<mi style=x>",
        '<a href="https://x">',
        '<img src="x">',
        '<math onload="x">',
    ):
        with pytest.raises(AssertionError):
            harmless(bad)


@pytest.mark.parametrize("latex", [r"\unknown x", r"\frac{1", "a & b", "}{"])
def test_a_formula_that_cannot_be_drawn_is_refused(latex):
    with pytest.raises(LogpiError, match="has no MathML .*: write it otherwise"):
        maths.mathml(latex)


@pytest.mark.parametrize("name", guide.TEXTS)
def test_every_text_of_the_guide_is_a_fragment(name):
    told = guide.fragment(name)
    assert told["title"] and harmless(told["html"])
    assert "$" not in re.sub(r"<(pre|code)[^>]*>.*?</\1>", "", told["html"], flags=re.S)  # no formula was left as text
    named = re.findall(r"\]\([./]*/src/logpi/", guide.TEXTS[name].read_text())
    assert told["html"].count("<button ") == len(named)  # each function that it names opens its source


def test_contents_name_each_chapter_and_the_demonstrations_it_leads_to(write):
    write(CHAPTER)
    [found] = [x for x in guide.contents() if x["name"] == "03-baselines"]
    assert found == {"name": "03-baselines", "title": "3. Baselines, b", "demos": ["baseline"]}
    assert all(re.match(r"\d\d-", x["name"]) and {*x["demos"]} <= {*DEMOS} for x in guide.contents())


def test_a_changed_chapter_is_read_anew(write):
    assert write("# A\n\none")["html"] == "<p>one</p>"
    guide.TEXTS["03-baselines"].write_text("# A\n\ntwo")
    os.utime(guide.TEXTS["03-baselines"], ns=(1, 1))
    assert guide.fragment("03-baselines")["html"] == "<p>two</p>"


def test_the_route_knows_texts_by_their_exact_names(write):
    write(CHAPTER)
    found = ask(guarded(), path="/api/guide/03-baselines")
    assert found.status == 200 and json.loads(found.body)["title"] == "3. Baselines, b"
    for path in (
        "",
        "nothing",
        "../app",
        "03-baselines.md",
        "figures/style",
        "/etc/passwd",
        "solutions/../03-baselines",
    ):
        assert ask(guarded(), path=f"/api/guide/{path}").status == 404
    assert ask(guarded(), path="/api/guide/03-baselines", headers={"host": "localhost"}).status == 401
    assert "chapters" in json.loads(ask(guarded()).body)


def test_a_chapter_that_cannot_be_made_is_told_in_a_sentence(write, monkeypatch):
    write("# A\n\nbefore")
    os.utime(guide.TEXTS["03-baselines"], ns=(2, 2))
    monkeypatch.setitem(sys.modules, "markdown", None)
    found = ask(guarded(), path="/api/guide/03-baselines")
    assert found.status == 500 and 'pip install \\"logpi[lab]\\"' in found.body.decode()


def test_figures_are_files_of_the_lab_and_ask_nothing_of_others():
    for name, file in guide.FIGURES.items():
        assert FILES[f"guide/{name}"] == file
        assert not re.search(r"<script|<image|<use[^>]*href=\"[^#]|url\([\"']?http|@import", file.read_text())
