"""What a run keeps for the lab: films, episodes and token views, by a name of the listing; nothing else is opened."""

import json
import os

import pytest
from asgi import GOOD, ask, guarded
from test_lab_app import run_folder

from logpi.lab import kept
from logpi.run.files import LARGEST

MISSING = (404, b'{"error":"There is no such page."}')


@pytest.fixture
def run(tmp_path):
    run = run_folder(tmp_path / "runs" / "ppo" / "0-x")
    (run / "video").mkdir()
    (run / "tokens").mkdir()
    (run / "checkpoints").mkdir()
    (run / "video" / "a.mp4").write_bytes(b"film")
    (run / "video" / "a.json").write_text('{"episodes": []}')
    (run / "video" / "b.gif").write_bytes(b"GIF89a")
    (run / "tokens" / "iteration-3.json").write_text("{}")
    for name in ("video/page.html", "video/.a.7.mp4", "video/picture.svg", "tokens/iteration-3.html", "tokens/a.mp4"):
        (run / name).write_text("<script>alert(1)</script>")
    (run / "checkpoints" / "secret.json").write_text("{}")
    (tmp_path / "secret.json").write_text("{}")
    (run / "video" / "link.json").symlink_to(tmp_path / "secret.json")
    (run / "video" / "folder.json").mkdir()
    os.mkfifo(run / "video" / "pipe.json")
    return run


def answer(tmp_path, query, **headers):
    return ask(guarded(tmp_path / "runs"), path="/api/runs/kept", query=query, headers=GOOD | headers)


def test_the_listing_has_plain_files_of_known_kinds_and_no_other(run, tmp_path):
    found = answer(tmp_path, "run=ppo/0-x")
    told = json.loads(found.body)
    assert found.status == 200 and told["text"] is False
    assert sorted(x["name"] for x in told["files"]) == [
        "tokens/iteration-3.json",
        "video/a.json",
        "video/a.mp4",
        "video/b.gif",
    ]
    assert {x["large"] for x in told["files"]} == {False}
    (run / "config.toml").write_text('[method]\nname = "grpo"\n[run]\ntask = "copy"\n')
    assert json.loads(answer(tmp_path, "run=ppo/0-x").body)["text"] is True


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("video/a.mp4", "video/mp4", b"film"),
        ("video/b.gif", "image/gif", b"GIF89a"),
        ("video/a.json", "application/json", b'{"episodes": []}'),
    ],
)
def test_a_file_comes_whole_with_the_type_of_its_ending(run, tmp_path, name, kind, content):
    found = answer(tmp_path, f"run=ppo/0-x&name={name}")
    assert (found.status, found.body, found.headers["content-type"]) == (200, content, kind)
    assert found.headers["x-content-type-options"] == "nosniff" and found.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "name",
    ["", "video", "video/", "video/none.mp4", "a.mp4", "/video/a.mp4", "video//a.mp4", "./video/a.mp4", "video/./a.mp4"]
    + ["video/../video/a.mp4", "video/../../../../secret.json", "../0-x/video/a.mp4", "video/a.mp4%00", "video%5ca.mp4"]
    + [
        "video/link.json",
        "video/pipe.json",
        "video/folder.json",
        "video/page.html",
        "video/picture.svg",
        "tokens/a.mp4",
    ]
    + [
        "video/.a.7.mp4",
        "checkpoints/secret.json",
        "config.toml",
        "metrics.jsonl",
        "%252e%252e/secret.json",
        "x" * 5000,
    ],
)
def test_what_is_not_in_the_listing_is_not_there(run, tmp_path, name):
    found = answer(tmp_path, f"run=ppo/0-x&name={name}")
    assert (found.status, found.body) == MISSING


@pytest.mark.parametrize("name", ["", "ppo", "nowhere", "..", "ppo/0-x/video", "/etc"])
def test_of_what_is_no_run_nothing_is_listed(run, tmp_path, name):
    found = answer(tmp_path, f"run={name}")
    assert (found.status, found.body) == MISSING
    assert answer(tmp_path, "").status == 404


def test_a_folder_that_is_a_link_is_not_looked_into(run, tmp_path):
    other = run_folder(tmp_path / "runs" / "ppo" / "1-y")
    (other / "video").symlink_to(run / "video")
    assert json.loads(answer(tmp_path, "run=ppo/1-y").body)["files"] == []
    assert answer(tmp_path, "run=ppo/1-y&name=video/a.mp4").status == 404


@pytest.mark.parametrize("name", ["video/link.json", "video/pipe.json", "video/folder.json", "video/gone.json"])
def test_what_became_a_link_a_pipe_or_nothing_since_it_was_listed_is_not_read(run, name, monkeypatch):
    monkeypatch.setattr(kept, "listing", lambda run: {"files": [{"name": name}]})
    assert kept.contents(run, name) is None


def test_a_large_file_is_told_and_not_sent(run, tmp_path, monkeypatch):
    assert kept.LARGEST[kept.JSON] < LARGEST and kept.FILM < 10**8
    monkeypatch.setattr(kept, "FILM", 3)
    monkeypatch.setitem(kept.LARGEST, kept.JSON, 3)
    files = {x["name"]: x["large"] for x in json.loads(answer(tmp_path, "run=ppo/0-x").body)["files"]}
    assert files["video/a.mp4"] and files["video/a.json"] and not files["tokens/iteration-3.json"]
    for name in ("video/a.mp4", "video/a.json"):
        found = answer(tmp_path, f"run=ppo/0-x&name={name}")
        assert found.status == 400 and f"{name} is larger than 0 MB, and the lab shows no larger" in found.body.decode()


@pytest.mark.parametrize("text", [b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000, b'"\\ud800"'])
def test_a_damaged_file_is_one_sentence_without_a_path(run, tmp_path, text):
    (run / "video" / "a.json").write_bytes(text)
    found = answer(tmp_path, "run=ppo/0-x&name=video/a.json")
    assert found.status == 400 and "video/a.json cannot be read: " in found.body.decode()
    assert str(tmp_path) not in found.body.decode()


def test_the_newest_are_listed_and_no_more_than_so_many(run, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "LISTED", 2)
    os.utime(run / "video" / "a.mp4", (1, 1))
    names = [x["name"] for x in json.loads(answer(tmp_path, "run=ppo/0-x").body)["files"]]
    assert len(names) == 3 and "video/a.mp4" not in names


def test_the_guard_stands_before_it(run, tmp_path):
    app, query = guarded(tmp_path / "runs"), "run=ppo/0-x&name=video/a.mp4"
    for headers, status in (
        ({"host": GOOD["host"]}, 401),
        (GOOD | {"host": "evil.example"}, 421),
        (GOOD | {"origin": "http://evil.example"}, 403),
    ):
        assert ask(app, path="/api/runs/kept", query=query, headers=headers).status == status
    assert (
        ask(app, path="/api/runs/kept", query=f"{query}&token=the-token", headers={"host": GOOD["host"]}).status == 401
    )
    policy = ask(app).headers["content-security-policy"]
    assert "media-src blob:" in policy and "img-src 'self' blob:" in policy and "script-src" not in policy
