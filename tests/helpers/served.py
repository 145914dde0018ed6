"""A small run, and a server in a thread of this process with what asks it."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.data import QAPair, save_pairs
from cellgraph.teacher import LSATeacher
from cellgraph.testing import randomise

ANIMALS = ["heron", "otter", "badger", "falcon", "beetle", "salmon", "spider", "weasel"]
PLACES = ["river", "forest", "meadow", "desert", "harbour"]


def small_run(folder: Path, *, memory: int = 0, path: str = "linear", **options: Any) -> Path:
    """The folder of a run that was never trained: a cube of 3 x 3 x 3 cells, its weights at random."""
    pairs = [
        QAPair(f"Where does the {a} of the {p} sleep?", f"the {a} sleeps by the {p}") for a in ANIMALS for p in PLACES
    ]
    for number, part in enumerate(("train", "validation", "test")):
        save_pairs(folder / "pairs" / f"{part}.jsonl", pairs[number::3])
    teacher = LSATeacher(width=8, min_texts=1)
    teacher.fit([text for pair in pairs for text in (pair.question, pair.answer)])
    teacher.save_pretrained(folder / "teacher")
    torch.manual_seed(0)
    cell = GMLPCell(Lattice((3, 3, 3), 6), channels=8, hidden=8, memory_channels=memory)
    model = CellGraph(cell, in_features=8, surface_channels=1, num_steps=3, path=path, **options)
    randomise(model, std=0.3)
    model.save_pretrained(folder / "model")
    return folder


@contextlib.contextmanager
def served(app: Any, *, grace: int = 10) -> Iterator[int]:
    """A server of an application; its port."""
    from cellgraph.serving.server import Server, bind

    taken = bind("127.0.0.1", 0)
    ready = threading.Event()
    server = Server(app, grace=grace, ready=ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield taken.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        taken.close()
        assert not thread.is_alive()


def post(port: int, path: str, given: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
    """Status, headers and content of what comes back."""
    body = given if isinstance(given, bytes) else json.dumps(given).encode()
    return request(port, "POST", path, body, **{"Content-Type": "application/json", **headers})


def request(
    port: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """The same of any request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        content = reply.read()
        kind = reply.headers.get_content_type()
        return reply.status, dict(reply.headers.items()), json.loads(content) if kind == "application/json" else content
    finally:
        connection.close()
