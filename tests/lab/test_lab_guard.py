"""The attacks on a page at 127.0.0.1, each with the answer it gets."""

import asyncio
import json

import pytest
from asgi import GOOD, TOKEN, ask, guarded

from logpi.lab.guard import Guard

JSON = GOOD | {"content-type": "application/json"}
QUESTION = json.dumps({"params": {}, "seed": 0}).encode()


def test_who_has_the_link_is_let_in():
    assert ask(guarded()).status == 200
    assert ask(guarded(), headers=GOOD | {"host": "localhost:99", "origin": "http://localhost:99"}).status == 200
    assert ask(guarded(), "POST", "/api/demos/bandit", JSON, QUESTION).status == 200


@pytest.mark.parametrize(
    ("given", "query"),
    [
        (None, ""),
        ("Bearer wrong", ""),
        (TOKEN, ""),
        (f"bearer {TOKEN}", ""),
        ("Bearer ünknown", ""),
        (None, f"token={TOKEN}"),
    ],
)
def test_without_the_token_in_the_header_nothing_is_told(given, query):
    headers = {"host": GOOD["host"]} | ({"authorization": given} if given else {})
    assert ask(guarded(), headers=headers, query=query).status == 401
    assert ask(guarded(), path="/anything", headers=headers).status == 401


@pytest.mark.parametrize(
    "hosts",
    [["evil.example"], ["127.0.0.1:8000", "evil.example"], [], ["127.0.0.1/x?"], ["[::1]:8000"], ["127.0.0.1."]]
    + [["localhost."], ["127.0.0.1:8000\n"], ["user@127.0.0.1"], ["127.0.0.1:port"], [""], ["127.0.0.1.evil.example"]],
)
@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/lab"])
def test_another_host_is_misdirected(hosts, path):
    headers = [("authorization", GOOD["authorization"]), *(("host", host) for host in hosts)]
    assert ask(guarded(), path=path, headers=headers).status == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9", "https://127.0.0.1:8000", ""])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_another_origin_may_ask_nothing(origin, method):
    assert ask(guarded(), method, "/api/demos/bandit", JSON | {"origin": origin}, QUESTION).status == 403


def test_two_origins_are_refused_even_where_one_is_ours():
    headers = [*GOOD.items(), ("origin", "http://127.0.0.1:8000"), ("origin", "http://evil.example")]
    assert ask(guarded(), headers=headers).status == 403


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "CONNECT", "get"])
def test_methods_are_those_of_a_list(method):
    assert ask(guarded(), method).status == 405


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", None])
def test_a_form_is_no_question(kind):
    headers = GOOD | ({"content-type": kind} if kind else {})
    assert ask(guarded(), "POST", "/api/demos/bandit", headers, QUESTION).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": GOOD["host"]},
        GOOD | {"origin": "http://evil.example"},
        GOOD | {"origin": "null"},
    ],
)
def test_a_websocket_is_closed_before_it_is_accepted(headers):
    reached = []

    async def app(scope, receive, send):
        reached.append(scope)

    assert ask(Guard(app, TOKEN), headers=headers, kind="websocket") == [{"type": "websocket.close", "code": 1008}]
    assert ask(
        Guard(app, TOKEN), path="/", headers={"host": GOOD["host"]}, kind="websocket"
    )  # pages are open, sockets not
    assert not reached
    ask(Guard(app, TOKEN), kind="websocket")
    assert reached


def test_a_large_body_is_refused_by_its_length_and_by_its_bytes():
    big = b"x" * 100_000
    for headers, body in (
        (JSON | {"content-length": "100000000"}, b""),
        (JSON | {"content-length": "1e3"}, b""),
        (JSON, [big]),
        (JSON, [b"x" * 1000] * 100),
    ):
        assert ask(guarded(), "POST", "/api/demos/bandit", headers, body).status == 413


def test_only_so_many_are_served_at_once():
    inside = []

    async def app(scope, receive, send):
        inside.append(1)
        await asyncio.Event().wait()

    async def crowd():
        guard, statuses = Guard(app, TOKEN, at_once=3), []

        async def receive():
            return {"type": "http.request", "body": b""}

        async def send(message):
            statuses.append(message.get("status"))

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")]}
        tasks = [asyncio.create_task(guard(scope, receive, send)) for _ in range(5)]
        done, stuck = await asyncio.wait(tasks, timeout=0.1)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        return len(done), statuses, guard.busy

    assert asyncio.run(crowd()) == (2, [503, None, 503, None], 0)
    assert len(inside) == 3


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/lab", "/api/none"])
@pytest.mark.parametrize("headers", [GOOD, {"host": "evil.example"}])
def test_every_answer_keeps_the_page_to_itself(path, headers):
    found = ask(guarded(), path=path, headers=headers).headers
    policy = found["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert found["cross-origin-opener-policy"] == found["cross-origin-resource-policy"] == "same-origin"
    assert found["x-content-type-options"] == "nosniff" and "access-control-allow-origin" not in found
    assert found["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")
