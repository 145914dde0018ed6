"""How many questions does a server answer, and how long do they take, when many ask at once?

``python -m cellgraph.benchmarks.serving RUN`` starts ``cellgraph serve RUN`` on this machine, has clients in threads
ask it the held-out questions of the run, each the next one as soon as it has the last answer, and prints what was lost,
what was refused and asked again, and the percentiles of the time from question to answer.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import math
import re
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellgraph.data import read_pairs

from .entry import enter
from .machine import describe_machine

PERCENTILES = (50, 95, 99)
#: Seconds after which a reply counts as lost.
PATIENCE = 120.0


@dataclass
class Load:
    """What came back to clients.

    Attributes:
        seconds: Of every answer, from its question's first sending.
        found: The answers by question.
        refused: How often a question was refused for want of room, and asked again.
        errors: What went wrong, of every question that has no answer.
        wall: Seconds from the first question to the last answer.
    """

    seconds: list[float] = field(default_factory=list)
    found: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    refused: int = 0
    errors: list[str] = field(default_factory=list)
    wall: float = 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 200], help="that ask at once (1 8 200)")
    parser.add_argument(
        "--questions", type=int, default=2000, help="of all clients together; at least one of each (2000)"
    )
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1, 8, 32], help="questions answered together (1 8 32)"
    )
    parser.add_argument("--queue", type=int, default=256, help="places in the queue (256)")
    parser.add_argument("--onnx", type=Path, help="answer by this file")
    given = parser.parse_args()
    questions = [pair.question for pair in read_pairs(given.run / "pairs" / "test.jsonl")]
    print({key: value for key, value in describe_machine(torch.device("cpu")).items() if key != "packages"})
    print("| batch | clients | answered | lost | refused | questions/s | p50 ms | p95 ms | p99 ms | mean batch |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for batch in given.batches:
        options = [
            "--max-batch",
            batch,
            "--max-queue",
            given.queue,
            *([] if given.onnx is None else ["--onnx", given.onnx]),
        ]
        with server(given.run, *options) as port:
            for clients in given.clients:
                each = max(1, given.questions // clients)
                before = batches(port)
                told = load(port, questions, clients=clients, each=each)
                after = batches(port)
                mean = (after[0] - before[0]) / max(after[1] - before[1], 1)
                times = " | ".join(f"{1e3 * value:.0f}" for value in percentiles(told.seconds))
                print(
                    f"| {batch} | {clients} | {len(told.seconds):,} | {clients * each - len(told.seconds)} "
                    f"| {told.refused} | {len(told.seconds) / told.wall:.0f} | {times} | {mean:.1f} |",
                    flush=True,
                )
                for error in sorted(set(told.errors)):
                    print(f"lost: {error}", file=sys.stderr)


def percentiles(seconds: Sequence[float]) -> list[float]:
    """Of the times of answers; not numbers where all were lost."""
    return np.percentile(seconds or [math.nan], PERCENTILES).tolist()


def load(port: int, questions: Sequence[str], *, clients: int, each: int) -> Load:
    """Have clients ask, all at once.

    Args:
        port: Where on this machine.
        questions: What they ask, in turn.
        clients: How many there are, each with a connection of its own.
        each: Questions of a client, one after the other.
    """
    told, lock, together = Load(), threading.Lock(), threading.Barrier(clients + 1)

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        together.wait()
        for turn in range(each):
            question = questions[(number * each + turn) % len(questions)]
            begin = time.perf_counter()
            try:
                answer, refused = _answer(connection, question)
            except Exception as error:  # whatever it was, this one is lost
                connection.close()
                with lock:
                    told.errors.append(f"{type(error).__name__}: {error}")
                continue
            seconds = time.perf_counter() - begin
            with lock:
                told.seconds.append(seconds)
                told.found[question].append(answer)
                told.refused += refused
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    together.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    told.wall = time.perf_counter() - begin
    return told


def _answer(connection: http.client.HTTPConnection, question: str) -> tuple[dict[str, Any], int]:
    """The answer to a question, and how often it was refused before."""
    body, refused = json.dumps({"question": question}), 0
    while True:
        connection.request("POST", "/ask", body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        content = reply.read()
        if reply.status == 200:
            return json.loads(content), refused
        if reply.status != 503:
            raise RuntimeError(f"status {reply.status}: {content[:200]!r}")
        refused += 1
        time.sleep(float(reply.headers["Retry-After"]))


@contextlib.contextmanager
def server(run: Path, *options: object) -> Iterator[int]:
    """A server of a run in a process of its own; its port."""
    start = [sys.executable, "-c", "from cellgraph.cli import main; main()", "serve", str(run), "--port", "0"]
    process = subprocess.Popen([*start, *map(str, options)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said: list[str] = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"serving at http://.*:(\d+)", line):
                # Nobody reads on, and a full pipe would stop it.
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield int(found[1])
                return
        raise ChildProcessError(f"the server did not start: {''.join(said[-1:])}")
    finally:
        process.terminate()
        process.wait(timeout=60)


def batches(port: int) -> tuple[float, float]:
    """Questions worked on, and batches of them, so far."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    told = connection.getresponse().read().decode()
    connection.close()
    found = dict(re.findall(r"^cellgraph_batch_size_(sum|count) (\S+)$", told, re.MULTILINE))
    return float(found["sum"]), float(found["count"])


if __name__ == "__main__":
    enter(main)
