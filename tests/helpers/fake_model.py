"""A server in place of a language model's: OpenAI's and Anthropic's API, with all the ways in which those fail.

Started as a program it serves until it is killed: ``python tests/helpers/fake_model.py PORT``.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL, KEY = "fake-1", "sk-fake-4711-do-not-tell"
WORDS = [
    "amber",
    "basalt",
    "candle",
    "dune",
    "ember",
    "falcon",
    "granite",
    "harbour",
    "island",
    "juniper",
    "kettle",
    "lantern",
    "meadow",
    "nettle",
    "orchard",
    "pebble",
    "quarry",
    "raven",
    "saddle",
    "timber",
    "umbra",
    "velvet",
    "willow",
    "yarrow",
    "zephyr",
    "anchor",
    "beacon",
    "copper",
    "drizzle",
    "estuary",
    "feather",
    "glacier",
    "hollow",
    "ivory",
    "jasper",
    "knot",
    "ledger",
    "marble",
    "needle",
    "oyster",
    "parcel",
    "quiver",
    "ribbon",
    "silver",
    "thistle",
    "urchin",
    "violet",
    "walnut",
]

#: How a request may fail: with this status, these headers and this body; the body ``None`` closes the connection.
STATUSES: dict[str, tuple[int, dict[str, str]]] = {
    "429": (429, {}),
    "429 after": (429, {"Retry-After": "0.1"}),
    "500": (500, {}),
    "503 after": (503, {"Retry-After": "0.1"}),
    "529": (529, {}),
    "400": (400, {}),
    "401": (401, {}),
    "404": (404, {}),
}


class FakeModel(ThreadingHTTPServer):
    """Serves pairs that depend on the prompt alone.

    Args:
        fault: From the number of a request to how it fails, empty for not at all.
        seconds: How long a reply takes.
        port: Where; any free one by default.
        usage: Whether replies say how many tokens they took.
    """

    daemon_threads = True

    def __init__(
        self,
        fault: Callable[[int], str] = lambda number: "",
        *,
        seconds: float = 0.0,
        port: int = 0,
        usage: bool = True,
    ) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.fault, self.seconds, self.usage = fault, seconds, usage
        self.prompts: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.keys: set[str] = set()
        self.faults: Counter[str] = Counter()
        self.together = self.most_together = self.tokens = 0
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of those who did not wait for a reply."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: FakeModel

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        user = body["messages"][-1]["content"]
        with server.lock:
            number = len(server.prompts)
            server.prompts.append(user)
            server.bodies.append(body)
            server.times.append(time.monotonic())
            server.keys.add(self.headers.get("x-api-key") or self.headers.get("Authorization", ""))
            fault = server.fault(number)
            server.faults[fault] += 1
            server.together += 1
            server.most_together = max(server.most_together, server.together)
        try:
            time.sleep(server.seconds)
            self.answer(body, user, fault if body["model"] == MODEL else "404")
        finally:
            with server.lock:
                server.together -= 1

    def answer(self, body: dict[str, Any], user: str, fault: str) -> None:
        if fault == "429 date":
            soon = email.utils.formatdate(time.time() + 1, usegmt=True)
            self.send(429, {"error": {"message": "too many"}}, {"Retry-After": soon})
        elif fault == "429 for an hour":
            self.send(429, {"error": {"message": "too many"}}, {"Retry-After": "3600"})
        elif fault == "quota":
            self.send(429, {"error": {"message": "you exceeded your quota", "code": "insufficient_quota"}})
        elif fault in STATUSES:
            status, headers = STATUSES[fault]
            # Some repeat the key in what they say.
            said = self.headers.get("x-api-key") or self.headers.get("Authorization")
            self.send(status, {"error": {"message": f"no good: {fault} for {said}", "type": "x"}}, headers)
        elif fault == "drop":
            self.close_connection = True
            self.connection.close()
        elif fault == "half":
            self.send(200, reply_of(self.path, body, pairs_of(user), self.server.usage), half=True)
        elif fault == "slow":
            time.sleep(3)
            with contextlib.suppress(OSError):
                self.send(200, reply_of(self.path, body, pairs_of(user), self.server.usage))
        elif fault == "html":
            self.send(200, "<html><body>Gateway of nowhere</body></html>")
        elif fault == "list":
            self.send(200, [1, 2, 3])
        elif fault == "other object":
            self.send(200, {"hello": "world"})
        elif fault == "truncated JSON":
            self.send(200, reply_of(self.path, body, pairs_of(user), self.server.usage, cut=True))
        elif fault == "cut off":
            self.send(200, reply_of(self.path, body, pairs_of(user), self.server.usage, cut=True, at_limit=True))
        elif fault == "no JSON":
            self.send(200, reply_of(self.path, body, None, self.server.usage))
        elif fault == "repeat":
            self.send(200, reply_of(self.path, body, pairs_of("Write 8 the same"), self.server.usage))
        else:
            assert not fault, fault
            reply = reply_of(self.path, body, pairs_of(user), self.server.usage)
            with self.server.lock:
                self.server.tokens += sum(count for name, count in reply.get("usage", {}).items() if name[0] != "t")
            self.send(200, reply)

    def send(self, status: int, body: Any, headers: dict[str, str] | None = None, *, half: bool = False) -> None:
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def pairs_of(user: str) -> list[dict[str, Any]]:
    """Pairs that depend on a prompt alone: some repeat one another, some are none."""
    count = int(re.search(r"Write (\d+)", user)[1])  # type: ignore[index]
    # A second try, after a reply that could not be used, is for the same.
    draw = random.Random(hashlib.sha256(user.split("\n\nYour last reply")[0].encode()).digest())
    pairs: list[dict[str, Any]] = []
    for _ in range(count):
        kind, words = draw.random(), draw.sample(WORDS, 9)
        if kind < 0.08 and pairs:
            pairs.append({**pairs[-1], "question": pairs[-1].get("question", "").upper()})
        elif kind < 0.12 and pairs:
            pairs.append({"question": "", "answer": words[0]})
        else:
            question = f"How does {' and '.join(words[:4])} differ?"
            pairs.append({"question": question, "answer": f"It is {' or '.join(words)}, é."})
    return pairs


def reply_of(
    path: str, body: dict[str, Any], pairs: Any, usage: bool, *, cut: bool = False, at_limit: bool = False
) -> dict[str, Any]:
    content = {"pairs": pairs}
    text = "Sure, here are your pairs!" if pairs is None else json.dumps(content)
    text = text[: len(text) // 2] if cut else text
    tokens = len(json.dumps(body["messages"])) // 4, len(text) // 4
    if path.endswith("/chat/completions"):
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "length" if at_limit else "stop"}
        counted = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
        whole = {"id": "1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
        return {**whole, "usage": counted} if usage else whole
    assert path.endswith("/v1/messages"), path
    called = {"type": "tool_use", "id": "t", "name": "save_pairs", "input": content}
    block = {"type": "text", "text": text} if cut or pairs is None else called
    reason = "max_tokens" if at_limit else "tool_use"
    whole = {
        "id": "1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [block],
        "stop_reason": reason,
    }
    return {**whole, "usage": {"input_tokens": tokens[0], "output_tokens": tokens[1]}} if usage else whole


@contextlib.contextmanager
def serving(fault: Callable[[int], str] = lambda number: "", **settings: Any) -> Iterator[FakeModel]:
    """A server in a thread of this process."""
    with FakeModel(fault, **settings) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    # One request in seven fails, in turn in all ways after which it may be made again.
    kinds = ["429 after", "500", "drop", "no JSON", "half", "429", "html", "truncated JSON"]

    def now_and_then(number: int) -> str:
        return kinds[number // 7 % len(kinds)] if number % 7 == 3 else ""

    with FakeModel(now_and_then, seconds=0.05, port=int(sys.argv[1])) as it:
        it.serve_forever()
