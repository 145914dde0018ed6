"""The verb ``serve``: a run that is asked over HTTP."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from cellgraph.cli.opening import add_options, open_session
from cellgraph.model import CellGraph
from cellgraph.serving.limits import Limits

#: What the extra ``serve`` brings.
NEEDED = ("fastapi", "prometheus_client", "uvicorn")
LIMITS = {
    "batch": "questions answered together",
    "queue": "questions that wait; further ones get status 503",
    "chars": "characters of a question",
    "turns": "questions before it in a dialogue",
    "body": "bytes of a request",
    "memory": "bytes of dialogues' memories that are kept",
    "grace": "seconds for the questions in flight at the end",
}


def main(arguments: Sequence[str]) -> None:
    """Serve a run over HTTP: a page to ask, and `ask --json` for programs, until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="cellgraph serve", description=main.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at (127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="its port; 0 for any that is free (8000)")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="answer by what `cellgraph export --onnx` wrote")
    add_options(parser)
    for field in fields(Limits):
        wanted = f"{LIMITS[field.name]} ({field.default})"
        parser.add_argument(f"--max-{field.name}", type=int, default=field.default, metavar="N", help=wanted)
    given = parser.parse_args(arguments)
    missing = [name.replace("_", "-") for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"serving needs {', '.join(missing)}: pip install cellgraph[serve]")
    from cellgraph.serving.app import create_app
    from cellgraph.serving.respondent import Asked, Respondent
    from cellgraph.serving.server import LOCAL, bind, is_local, serve, url_of

    limits = Limits(**{field.name: getattr(given, f"max_{field.name}") for field in fields(Limits)})
    notes = Console(stderr=True)
    # The address first: that it is taken is told before anything slow.
    with bind(given.host, given.port) as taken:
        session = open_session(given, notes, exported=None if given.onnx is None else partial(_exported, given.onnx))
        respondent = Respondent(session, limits)
        # The first question wakes everything up.
        respondent.respond([Asked("?")])
        hosts = LOCAL | {given.host.lower(), taken.getsockname()[0]} if is_local(taken) else None
        app = create_app(respondent, hosts=hosts)
        told = Text(f"serving at {url_of(taken)}, until Ctrl-C")
        serve(app, taken, grace=limits.grace, ready=lambda: notes.print(told))
    cut_off = f"{app.cut_off} request{'s were' if app.cut_off != 1 else ' was'} cut off after {limits.grace} s"
    notes.print(f"ended; {cut_off if app.cut_off else 'all questions that came were answered'}", highlight=False)


def _exported(file: Path, model: Any) -> Any:
    from cellgraph.integrations.onnx_network import OnnxNetwork

    if not isinstance(model, CellGraph):
        raise ValueError(f"the run holds a {type(model).__name__}, of which there are no ONNX files")
    return OnnxNetwork(file, model)
