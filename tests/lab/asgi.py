"""Asks an ASGI app as a client on the wire would, headers as given."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

from logpi.lab.app import lab
from logpi.lab.guard import Guard

TOKEN = "the-token"
GOOD = {"host": "127.0.0.1:8000", "authorization": f"Bearer {TOKEN}"}


class Echo:
    """In a worker's place: what it was asked."""

    async def ask(self, question):
        return 200, json.dumps(question).encode()


def guarded(runs: Path = Path("no-runs"), worker=None, **more) -> Guard:
    return Guard(lab(runs, worker or Echo(), every=0.01), TOKEN, **more)


def ask(app, method="GET", path="/api/lab", headers=GOOD, body=b"", query="", kind="http", messages=1):
    """The answer: status, headers, body; of a websocket the messages sent. `messages`: bodies after which the client goes; 0: at once."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    scope = {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in pairs],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 5),
    }
    return asyncio.run(_ask(app, scope, body, messages))


async def _ask(app, scope, body, messages):
    sent, chunks, gone = [], body if isinstance(body, list) else [body], asyncio.Event()

    async def receive():
        if scope["type"] == "websocket":
            return {"type": "websocket.connect"}
        if chunks:
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}
        await gone.wait()
        return {"type": "http.disconnect"}

    if not messages:
        gone.set()

    async def send(message):
        sent.append(message)
        if sum(x["type"] == "http.response.body" for x in sent) >= messages:
            gone.set()

    await asyncio.wait_for(app(scope, receive, send), 30)
    if scope["type"] == "websocket":
        return sent
    found = {k.decode().lower(): v.decode() for k, v in sent[0]["headers"]}
    bodies = [x["body"] for x in sent[1:] if x.get("body")]
    return SimpleNamespace(status=sent[0]["status"], headers=found, body=b"".join(bodies), bodies=bodies)
