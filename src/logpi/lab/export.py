"""`logpi lab export`: the lab as files for any file server, without Python and without a token.

The pages are the lab's own. What `/api/...` answers is asked once and laid beside them: api/index.json says which file holds the
answer to which request, and static/api.js looks there. A control is offered with the values that have answers.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from logpi.errors import LogpiError
from logpi.lab import guide
from logpi.lab.app import CHOSEN, FILES, lab
from logpi.lab.demos import DEMOS
from logpi.lab.guard import POLICY
from logpi.lab.worker import Answer, answered
from logpi.run.files import rounded
from logpi.run.language import must_have_transformers

LARGEST = 20_000_000  # bytes of a copy: the demonstrations take less than half of it
SEEDS = 5
AXES = ("steps", "seconds", "iteration")
RATIO = 50  # of a control's bounds from which on it is turned on a logarithmic scale, as in controls.js
ACTIONS = "0123s"
MOVES = [*ACTIONS, *(a + b for a in ACTIONS for b in ACTIONS), *("s" * n for n in (*range(3, 22), 40))]
MORE: dict[str, list[dict[str, Any]]] = {  # what the buttons of a picture ask for
    "bandit": [{"moves": m} | more for m in MOVES for more in ({}, {"reveal": True})],
    "scatter": [{"episodes": n} for n in (2, 11, 20, 110, 210, 310, 410)],
    "tokens": [{"step": n} for n in range(1, 21)],
}


class Here:
    """In the worker's place: demonstrations in this process."""

    async def ask(self, question: dict[str, Any]) -> Answer:
        return answered(question)


class Copy:
    """Answers of the app, as files; `index`: request -> file."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.files: dict[str, bytes] = {}
        self.index: dict[str, str] = {}

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values()))

    def put(self, request: str, text: bytes, ending: str = ".json") -> None:
        """What is the same is one file."""
        name = f"api/{sha256(text).hexdigest()[:16]}{ending}"
        self.files[name], self.index[request] = text, name

    async def copy(self, request: str, change: Callable[[Any], Any] = lambda x: x) -> Any:
        """A route's JSON, changed for the copy."""
        found = change(json.loads(await whole(self.app, request)))
        self.put(request, compact(found))
        return found


def compact(x: Any) -> bytes:
    """Six digits of each number are what a picture shows."""
    return json.dumps(
        json.loads(json.dumps(x), parse_float=lambda text: rounded(float(text))), separators=(",", ":")
    ).encode()


async def ask(app: Any, request: str, body: dict[str, Any] | None = None) -> Answer:
    """(status, the answer's first piece) of the app itself: a stream is left after its first line."""
    path, _, query = request.partition("?")
    scope: dict[str, Any] = {"type": "http", "method": "GET" if body is None else "POST", "path": f"/{path}"}
    scope |= {"root_path": "", "query_string": query.encode(), "headers": []}
    pieces: list[bytes] = []
    status, begun, come = 0, False, asyncio.Event()

    async def receive() -> dict[str, Any]:
        nonlocal begun
        if not begun:
            begun = True
            return {"type": "http.request", "body": b"" if body is None else json.dumps(body).encode()}
        await come.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)
        if message["type"] == "http.response.body":
            pieces.append(message["body"])
            come.set()

    await app(scope, receive, send)
    return status, pieces[0]


async def whole(app: Any, request: str) -> bytes:
    """An answer that a copy needs: what refuses it is told, for a page without it would be an empty one."""
    status, text = await ask(app, request)
    if status != 200:
        raise LogpiError(json.loads(text)["error"])
    return text


def query(**parts: str) -> str:
    """As URLSearchParams of a browser writes it."""
    return "&".join(f"{k}={quote(v, safe='*-._ ').replace('~', '%7E').replace(' ', '+')}" for k, v in parts.items())


def few(field: dict[str, Any]) -> list[Any]:
    """Some values of a control, its default among them."""
    low, high, kind = field.get("low"), field.get("high"), field["kind"]
    if kind == "choice":
        return list(field["choices"])
    if kind == "flag":
        return [False, True]
    if low is None or high is None:
        return [field["default"]]
    middle = (low * high) ** 0.5 if low > 0 and high / low >= RATIO else (low + high) / 2
    values = {low, round(middle) if kind == "int" else float(f"{middle:.2g}"), high, field["default"]}
    return sorted(range(low, high + 1) if kind == "int" and high - low < len(values) else values)


def asked(name: str, fields: list[dict[str, Any]], seeds: int) -> Iterator[tuple[dict[str, Any], int]]:
    """(what is not as it was, seed) of every answer: each control alone, and what the picture's buttons ask for."""
    alone = [{f["name"]: x} for f in fields for x in few(f) if x != f["default"]]
    changes = [{}, *alone, *(more for more in MORE.get(name, []) if more not in alone)]
    return ((change, seed) for seed in range(seeds) for change in changes)


async def demonstration(site: Copy, name: str, seeds: int) -> int:
    """A demonstration's text, source and answers; how many these are."""
    told = json.loads(await whole(site.app, f"api/demos/{name}"))
    defaults, answers = {f["name"]: f["default"] for f in told["params"]}, list[dict[str, Any]]()
    for change, seed in asked(name, told["params"], seeds):
        status, text = await ask(site.app, f"api/demos/{name}", {"params": defaults | change, "seed": seed})
        if status == 200:
            site.put(f"api/demos/{name}/{len(answers)}", compact(json.loads(text)))
            answers.append({"params": change, "seed": seed})
    fields = [
        offered(f, [x["params"][f["name"]] for x in answers if {*x["params"]} == {f["name"]}]) for f in told["params"]
    ]
    site.put(f"api/demos/{name}", json.dumps(told | {"params": fields, "answers": answers, "seeds": seeds}).encode())
    return len(answers)


def offered(field: dict[str, Any], values: list[Any]) -> dict[str, Any]:
    """A control with the values that are answered; without any it is none."""
    plain = {k: v for k, v in field.items() if k not in ("low", "high", "choices")}
    if field["kind"] == "flag" and values:
        return field
    if field["kind"] == "text" or not values:
        return plain | {"kind": "text"}
    both = [field["default"], *values]
    choices = [x for x in field.get("choices", sorted({*both})) if x in both]
    return plain | {"kind": "choice", "choices": choices}


async def curves(site: Copy, runs: Path) -> str:
    """The runs' curves as they are now, and what they keep as far as there is room; in words."""
    listed = await site.copy("api/runs", lambda found: found[:CHOSEN])
    chosen = "&".join(query(run=line["id"]) for line in listed)
    for x in AXES if listed else ():
        site.put(
            f"api/runs/stream?x={x}", compact(json.loads((await ask(site.app, f"api/runs/stream?{chosen}&x={x}"))[1]))
        )
    if site.size > LARGEST:
        raise LogpiError(
            f"A copy with the curves of {runs} is larger than {LARGEST // 10**6} MB: name a folder of fewer runs."
        )
    left = 0
    for line in listed:
        request = f"api/runs/kept?{query(run=line['id'])}"
        told = json.loads((await ask(site.app, request))[1])
        there = [
            x for x in told["files"] if site.size + x["bytes"] <= LARGEST - 100_000 and await kept(site, line["id"], x)
        ]
        left += len(told["files"]) - len(there)
        site.put(request, compact(told | {"files": there}))
    return f"{len(listed)} runs" + (f" ({left} of their films and traces left out for their size)" if left else "")


async def kept(site: Copy, run: str, file: dict[str, Any]) -> bool:
    request = f"api/runs/kept?{query(run=run, name=file['name'])}"
    status, text = await ask(site.app, request)
    if status == 200:
        site.put(request, text, Path(file["name"]).suffix)
    return status == 200


def page() -> bytes:
    """index.html, which says that it is a copy, and whose policy stands in itself since a file server sends none."""
    policy = "; ".join(
        x for x in POLICY.split("; ") if not x.startswith("frame-ancestors")
    )  # which counts in a header alone
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    text = FILES["index.html"].read_text()
    return text.replace("<html", "<html data-copy", 1).replace("<head>", f"<head>\n{head}", 1).encode()


async def collected(runs: Path | None, seeds: int) -> tuple[dict[str, bytes], str]:
    """(every file of the copy by its name, what it holds in words)."""
    site = Copy(lab(runs or Path(), Here()))  # type: ignore[arg-type]
    site.files |= {f"static/{name}": file.read_bytes() for name, file in FILES.items() if name != "index.html"}
    site.files["index.html"] = page()
    await site.copy("api/lab", lambda about: about | {"runs": runs and runs.resolve().name})
    pictures = 0
    for name in guide.TEXTS:
        await site.copy(f"api/guide/{name}")
    for name in DEMOS:
        pictures += (n := await demonstration(site, name, seeds))
        print(f"{name}: {n} pictures", flush=True)
    site.files |= {f"static/guide/{name}": file.read_bytes() for name, file in guide.FIGURES.items()}
    told = f"{len(DEMOS)} demonstrations with {pictures} pictures, the guide"
    told += f", {await curves(site, runs)}" if runs else ""
    site.files["api/index.json"] = json.dumps(site.index).encode()
    return site.files, f"{told}, {site.size / 1e6:.1f} MB"


def export(out: Path, runs: Path | None = None, seeds: int = SEEDS) -> str:
    """Write the copy into a new folder; what it holds, in words."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LogpiError(f"{out} is there already: logpi lab export writes into a new folder.")
    if runs is not None and not runs.is_dir():
        raise LogpiError(f"There is no folder {runs}: --runs is where runs are.")
    must_have_transformers()  # the tokens' page would have no picture
    files, told = asyncio.run(collected(runs, seeds))
    for name, text in files.items():
        file = out / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
    return told
