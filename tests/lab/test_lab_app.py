"""What the lab's routes answer, and what they never open."""

import json
import re

import pytest
from asgi import GOOD, ask, guarded

from logpi.lab.app import FILES
from logpi.lab.demos import DEMOS

JSON = GOOD | {"content-type": "application/json"}


def run_folder(path, rows=1):
    path.mkdir(parents=True)
    lines = [json.dumps({"iteration": i, "steps": 10 * i, "seconds": 1.0, "return": float(i)}) for i in range(rows)]
    (path / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    return path


def test_the_page_and_its_files_are_there_without_the_token():
    host = {"host": "localhost"}
    first = ask(guarded(), path="/", headers=host)
    assert first.status == 200 and first.headers["content-type"].startswith("text/html")
    for name in ("app.js", "style.css", *(f"demos/{demo}.js" for demo in DEMOS)):
        assert ask(guarded(), path=f"/static/{name}", headers=host).status == 200


def test_nothing_that_is_shipped_asks_another_machine():
    for name, file in FILES.items():
        if not name.startswith(
            ("vendor/", "guide/")
        ):  # links in comments, names of XML; test_lab_browser counts requests
            found = re.findall(rb"https?://[^\s\"'`)]+", file.read_bytes())
            assert {*found} <= {b"http://www.w3.org/2000/svg", b"http://www.w3.org/1998/Math/MathML"}, name


def test_no_page_has_code_or_style_inline():
    page = FILES["index.html"].read_text()
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=)", page)


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/app.js/", "/static/\0", "/static/"]
    + ["/static/..\\app.py", "/api/demos/", "/api/none", "/api/demos/bandit/more", "//", "/api/demos/../lab"],
)
def test_what_is_not_there_has_one_answer(path):
    found = ask(guarded(), path=path)
    assert (found.status, found.body) == (404, b'{"error":"There is no such page."}')


@pytest.mark.parametrize(
    "body", [b"", b"[", b"[]", b"{}", b'{"params": 1, "seed": 0}', b'{"params": {}, "seed": 0, "x": 1}', b"[" * 60_000]
)
def test_a_question_that_is_none_is_told_what_one_is(body):
    found = ask(guarded(), "POST", "/api/demos/bandit", JSON, body)
    assert found.status == 400 and b"Ask with" in found.body


def test_a_question_reaches_the_worker_as_it_is():
    asked = {"params": {"lr": 1}, "seed": 3}
    found = ask(guarded(), "POST", "/api/demos/bandit", JSON, json.dumps(asked).encode())
    assert json.loads(found.body) == {"name": "bandit"} | asked


@pytest.mark.parametrize(
    "run",
    ["../outside", "..", "%2e%2e/outside", "%252e%252e%252foutside", "/etc", "CartPole-v1/ppo/0-x/../../../../outside"]
    + ["", "%00", "link", "nowhere", "CartPole-v1", "linked", "pipe", "..%5coutside", "x" * 5000],
)
def test_a_run_outside_the_folder_is_not_there(tmp_path, run):
    import os

    inside = run_folder(tmp_path / "runs" / "CartPole-v1" / "ppo" / "0-x")
    outside = run_folder(tmp_path / "outside")
    (tmp_path / "runs" / "link").symlink_to(outside)
    (tmp_path / "runs" / "linked").mkdir()
    (tmp_path / "runs" / "linked" / "metrics.jsonl").symlink_to(outside / "metrics.jsonl")
    (tmp_path / "runs" / "pipe").mkdir()
    os.mkfifo(tmp_path / "runs" / "pipe" / "metrics.jsonl")
    found = ask(guarded(tmp_path / "runs"), path="/api/runs/stream", query=f"run={run}")
    assert (found.status, found.body) == (404, b'{"error":"There is no such page."}')
    assert inside.is_dir()


def test_the_stream_has_the_picture_now_and_again_when_the_run_goes_on(tmp_path):
    run = run_folder(tmp_path / "ppo" / "0-x", rows=3)
    app = guarded(tmp_path)
    first = ask(app, path="/api/runs/stream", query="run=ppo/0-x")
    assert first.status == 200 and first.bodies[0].endswith(b"\n")
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"iteration": 3, "steps": 30, "return": 9.0}\n')
    line = json.loads(ask(app, path="/api/runs/stream", query="run=ppo/0-x").bodies[0])["charts"][0]["groups"][0][
        "lines"
    ][0]
    assert line["x"] == [0, 10, 20, 30] and line["y"][-1] == 9.0


@pytest.mark.parametrize("query", ["run=ppo/0-x&x=price", "", "&".join(["run=ppo/0-x"] * 33)])
def test_a_stream_is_of_some_runs_over_a_known_axis(tmp_path, query):
    run_folder(tmp_path / "ppo" / "0-x")
    assert ask(guarded(tmp_path), path="/api/runs/stream", query=query).status == 404


def test_the_list_shows_any_name_as_text(tmp_path):
    run_folder(tmp_path / "<script>alert(1)<" / "=cmd()" / "0-\u202egnp")
    found = ask(guarded(tmp_path), path="/api/runs")
    assert found.headers["content-type"] == "application/json"
    assert json.loads(found.body)[0]["id"] == "<script>alert(1)</=cmd()/0-\u202egnp".replace("</", "</")
