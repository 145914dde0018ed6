"""The application: what is asked over HTTP, and what it is answered with."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict

from cellgraph.serving.batcher import Batcher, Full
from cellgraph.serving.cube import shape_of
from cellgraph.serving.gate import Gate
from cellgraph.serving.metrics import Metrics
from cellgraph.serving.respondent import Asked, Respondent
from cellgraph.texts import one_line, well_formed

PAGE = Path(__file__).parent / "page"
#: The files of the page by their paths.
FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
#: What nobody is there to receive, in the words of others' logs; only counted.
HUNG_UP = 499
#: Paths that are counted by name; all others are one.
PATHS = {*FILES, "/ask", "/cells", "/health", "/metrics"}

# Halves of characters are mended as they are on the command line.
Text = Annotated[str, BeforeValidator(lambda given: well_formed(given) if isinstance(given, str) else given)]


class Question(BaseModel):
    """A question, and those before it in its dialogue."""

    model_config = ConfigDict(extra="forbid", strict=True)

    question: Text
    dialogue: list[Text] = []


def create_app(respondent: Respondent, *, hosts: Collection[str] | None = None) -> Gate:
    """The application for a respondent.

    Args:
        respondent: Answers.
        hosts: Names by which it may be called, see :class:`~cellgraph.serving.gate.Gate`.
    """
    limits, session, cube = respondent.limits, respondent.session, respondent.cube

    metrics = Metrics(lambda: len(batcher))
    batcher = Batcher(respondent.respond, max_batch=respondent.batch, max_queue=limits.queue, observe=metrics.batch)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.stop()

    version = importlib.metadata.version("cellgraph")
    # The pages that FastAPI would make load their scripts from elsewhere.
    app = FastAPI(title="cellgraph", version=version, lifespan=lifespan, docs_url=None, redoc_url=None)

    async def respond(request: Request, asked: Asked) -> Response:
        try:
            respondent.check(asked)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        answer, gone = asyncio.ensure_future(batcher.submit(asked)), asyncio.ensure_future(_hung_up(request))
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            return JSONResponse(answer.result()) if answer.done() else Response(status_code=HUNG_UP)
        except Full as full:
            raise HTTPException(503, str(full), {"Retry-After": str(full.seconds)}) from None
        finally:
            answer.cancel()
            gone.cancel()

    @app.post("/ask")
    async def ask(request: Request, given: Question) -> Response:
        """What `cellgraph ask --json` prints."""
        return await respond(request, Asked(given.question, tuple(given.dialogue)))

    @app.post("/cells")
    async def cells(request: Request, given: Question) -> Response:
        """How active each cell is, step by step."""
        return await respond(request, Asked(given.question, tuple(given.dialogue), cells=True))

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """That it is there, and what it is."""
        return {
            "status": "ok",
            "version": version,
            "answers": len(session.bank),
            "remembers": session.remembers,
            "cells": None if cube is None else shape_of(cube),
            "network": type(session.model).__name__,
            "limits": {"chars": limits.chars, "turns": limits.turns},
        }

    @app.get("/metrics")
    async def told() -> Response:
        """What it has done."""
        return Response(metrics.text(), media_type=metrics.content_type)

    for path, (name, kind) in FILES.items():
        app.add_api_route(path, _file(PAGE / name, kind), include_in_schema=False)

    @app.exception_handler(RequestValidationError)
    async def refuse(request: Request, error: RequestValidationError) -> Response:
        found = [f"{'.'.join(map(str, each['loc'][1:])) or 'body'}: {each['msg']}" for each in error.errors()]
        return JSONResponse({"detail": one_line("; ".join(found), 500)}, 422)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        # The traceback goes to whoever runs the server.
        return JSONResponse({"detail": "this question could not be answered"}, 500)

    def observe(path: str, status: int, seconds: float) -> None:
        metrics.request(path if path in PATHS else "other", status, seconds)

    return Gate(app, max_body=limits.body, hosts=hosts, observe=observe)


async def _hung_up(request: Request) -> None:
    """Ends when whoever asked has gone; the whole request has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _file(path: Path, kind: str) -> Any:
    async def send() -> Response:
        return FileResponse(path, media_type=kind)

    return send
