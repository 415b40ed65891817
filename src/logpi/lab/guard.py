"""Who may ask the lab: a pure ASGI guard, the same over http and websocket. It decides on the raw scope, never on a URL.

A web page anywhere can send requests to 127.0.0.1. It cannot forge Host (a name that was rebound to us is refused), nor
Origin, nor know the token, which the browser gets in the fragment of a link and sends in a header.
"""

import hmac
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost")
METHODS = ("GET", "HEAD", "POST")
OPEN = ("/", "/static/")  # what is no secret: the pages themselves, before they have read the token

# blob: is what a page's own script made of an answer that it got with the token; media cannot send one
POLICY = (
    "default-src 'self'; img-src 'self' blob:; media-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """What `refusal` refuses never reaches the app; of what does, the body is limited, and how much at once."""

    def __init__(
        self, app: App, token: str, hosts: Sequence[str] = LOCAL, body: int = 64_000, at_once: int = 64
    ) -> None:
        self.app, self.token, self.hosts = app, token, hosts
        self.body, self.at_once, self.busy = body, at_once, 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        refused = refusal(scope, self.token, self.hosts, self.body)
        if refused is None and self.busy >= self.at_once:
            refused = 503, "The lab has as many requests at once as it takes: ask again."
        if scope["type"] == "websocket":
            return await self._socket(refused, scope, receive, send)
        answer = guarded(send, scope["path"])
        if refused is not None:
            return await say(answer, *refused)
        self.busy += 1
        try:
            whole = await body_of(receive, self.body)
            if whole is None:
                return await say(answer, 413, f"A body is at most {self.body} bytes.")
            return await self.app(scope, again(whole, receive), answer)
        finally:
            self.busy -= 1

    async def _socket(self, refused: Any, scope: Message, receive: Receive, send: Send) -> None:
        if refused is None:
            return await self.app(scope, receive, send)
        await receive()
        return await send({"type": "websocket.close", "code": 1008})  # before it is accepted: a 403 on the wire


def refusal(scope: Message, token: str, hosts: Sequence[str], body: int) -> tuple[int, str] | None:
    """(status, sentence) for what is not let in, None for what is."""
    host = header(scope, b"host")
    name = re.fullmatch(r"([a-zA-Z0-9.-]+)(:[0-9]{1,5})?", host or "")
    if name is None or name[1].lower() not in hosts:
        return 421, "The lab is not at that host."
    origin = headers(scope, b"origin")
    if origin and origin != [f"http://{host}"]:
        return 403, "Other sites' pages may not ask the lab."
    if scope["type"] == "http":
        if scope["method"] not in METHODS:
            return 405, f"The lab takes {', '.join(METHODS)}."
        if scope["method"] == "POST" and header(scope, b"content-type") != "application/json":
            return 403, "The lab takes JSON, no forms."
    path = scope["path"]
    is_page = scope["type"] == "http" and (path == OPEN[0] or path.startswith(OPEN[1]))
    given = (header(scope, b"authorization") or "").encode("latin-1")
    if not is_page and not hmac.compare_digest(given, f"Bearer {token}".encode()):
        return 401, "Open the lab by the link that logpi lab printed: it holds the token."
    size = header(scope, b"content-length") or "0"
    if not size.isdigit() or int(size[:20]) > body:
        return 413, f"A body is at most {body} bytes."
    return None


def headers(scope: Message, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def header(scope: Message, name: bytes) -> str | None:
    """The one header of a name; None where there is none, or more than one."""
    found = headers(scope, name)
    return found[0] if len(found) == 1 else None


async def body_of(receive: Receive, most: int) -> bytes | None:
    """The whole body; None where it is longer than that."""
    whole, more = b"", True
    while more:
        message = await receive()
        whole += message.get("body", b"")
        more = message.get("more_body", False) and len(whole) <= most
    return whole if len(whole) <= most else None


def again(whole: bytes, receive: Receive) -> Receive:
    """receive, for who comes after us: the body first."""
    messages: list[Message] = [{"type": "http.request", "body": whole, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message


def guarded(send: Send, path: str) -> Send:
    """send, with the headers that keep a page to itself."""
    more = HEADERS | {"cache-control": "no-cache" if path.startswith("/static/") else "no-store"}

    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.encode(), value.encode()) for name, value in more.items()]
            message = {**message, "headers": [*message.get("headers", ()), *ours]}
        await send(message)

    return adding


async def say(send: Send, status: int, sentence: str) -> None:
    text = json.dumps({"error": sentence}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": text})
