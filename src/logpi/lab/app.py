"""The lab's routes. A page, a picture's numbers, what stands beside them, and runs; everything else is not found."""

import asyncio
import json
import mimetypes
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from logpi import __version__
from logpi.errors import LogpiError
from logpi.lab import guide, kept
from logpi.lab.demos import DEMOS
from logpi.lab.runs import Board
from logpi.lab.worker import Worker

STATIC = Path(__file__).with_name("static")
FILES = {file.relative_to(STATIC).as_posix(): file for file in sorted(STATIC.rglob("*")) if file.is_file()}
FILES |= {f"guide/{name}": file for name, file in guide.FIGURES.items()}
TYPES = {".js": "text/javascript", ".svg": "image/svg+xml"}  # whatever this machine's tables say
CHOSEN = 32  # runs of one stream
EVERY = 1.0  # seconds between two looks at the logs


def lab(runs: Path, worker: Worker, every: float = EVERY) -> Starlette:
    board = Board(runs)

    async def about(request: Request) -> Response:
        return JSONResponse(
            {
                "version": __version__,
                "runs": str(runs),
                "demos": [{"name": k, "title": x.title} for k, x in DEMOS.items()],
                "chapters": await anyio.to_thread.run_sync(guide.contents),
            }
        )

    async def describe(request: Request) -> Response:
        return await _answer(worker, request, {"name": request.path_params["name"]})

    async def ask(request: Request) -> Response:
        wrong = JSONResponse({"error": 'Ask with {"params": {...}, "seed": 0}.'}, 400)
        try:
            asked = json.loads(await request.body())
        except (ValueError, RecursionError):
            return wrong
        if not isinstance(asked, dict) or {*asked} != {"params", "seed"} or not isinstance(asked["params"], dict):
            return wrong
        return await _answer(worker, request, {"name": request.path_params["name"], **asked})

    async def listed(request: Request) -> Response:
        return JSONResponse(await anyio.to_thread.run_sync(board.every))

    async def stream(request: Request) -> Response:
        chosen, x = request.query_params.getlist("run"), request.query_params.get("x", "steps")
        known = await anyio.to_thread.run_sync(lambda: all(board.inside(run) for run in chosen))
        if not known or not 1 <= len(chosen) <= CHOSEN or x not in ("steps", "seconds", "iteration"):
            return missing()
        return StreamingResponse(_pictures(board, chosen, x, every), media_type="application/x-ndjson")

    @asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_warm, worker)
            yield
            tasks.cancel_scope.cancel()
        await worker.close()

    routes = [
        Route("/", page("index.html")),
        Route("/static/{path:path}", static),
        Route("/api/lab", about),
        Route("/api/demos/{name}", describe),
        Route("/api/demos/{name}", ask, methods=["POST"]),
        Route("/api/guide/{name:path}", chapter),
        Route("/api/runs", listed),
        Route("/api/runs/stream", stream),
        Route("/api/runs/kept", partial(beside, board)),
    ]
    return Starlette(routes=routes, lifespan=living, exception_handlers={404: missing, 405: missing})


async def beside(board: Board, request: Request) -> Response:
    """What a run keeps for the lab, or with `name` one file of it."""
    run, name = request.query_params.get("run", ""), request.query_params.get("name")
    folder = await anyio.to_thread.run_sync(board.inside, run)
    if folder is None:
        return missing()
    if name is None:
        return JSONResponse(await anyio.to_thread.run_sync(kept.listing, folder))
    try:
        found = await anyio.to_thread.run_sync(kept.contents, folder, name)
    except LogpiError as wrong:
        return JSONResponse({"error": str(wrong)}, 400)
    return missing() if found is None else Response(found[0], media_type=found[1])


async def _warm(worker: Worker) -> None:
    """The worker imports torch while the first page is read."""
    await worker.begin()


async def _pictures(board: Board, chosen: list[str], x: str, every: float) -> AsyncIterator[bytes]:
    """One line of JSON for the chosen runs now, and another whenever one of them has gone on."""
    stamp = None
    while True:
        new = await anyio.to_thread.run_sync(board.stamp, chosen)
        if new != stamp:
            stamp = new
            picture = await anyio.to_thread.run_sync(board.picture, chosen, x)
            yield json.dumps(picture, allow_nan=False).encode() + b"\n"
        await anyio.sleep(every)


def page(name: str) -> Callable[[Request], Any]:
    async def read(request: Request) -> Response:
        file = FILES[name]
        kind = TYPES.get(file.suffix) or mimetypes.guess_type(name)[0] or "text/plain"
        return Response(file.read_bytes(), media_type=kind)

    return read


async def chapter(request: Request) -> Response:
    """A text of the guide that was there when the lab began, by its exact name."""
    name = request.path_params["name"]
    if name not in guide.TEXTS:
        return missing()
    try:
        return JSONResponse(await anyio.to_thread.run_sync(guide.fragment, name))
    except LogpiError as wrong:
        return JSONResponse({"error": str(wrong)}, 500)


async def static(request: Request) -> Response:
    """A file that was there when the lab began, by its exact name: no path of a client's is ever opened."""
    name = request.path_params["path"]
    return await page(name)(request) if name in FILES else missing()


async def _answer(worker: Worker, request: Request, question: dict[str, Any]) -> Response:
    """The worker's; where the reader leaves first, its question is dropped."""
    asked, left = asyncio.ensure_future(worker.ask(question)), asyncio.ensure_future(_left(request))
    await asyncio.wait({asked, left}, return_when=asyncio.FIRST_COMPLETED)
    left.cancel()
    if not asked.done():
        asked.cancel()
        await asyncio.wait({asked})
        return missing()  # to nobody
    status, text = asked.result()
    return Response(text, status, media_type="application/json")


async def _left(request: Request) -> None:
    """Until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def missing(*_: object) -> Response:
    return JSONResponse({"error": "There is no such page."}, 404)
