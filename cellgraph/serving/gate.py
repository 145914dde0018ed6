"""The gate: what every request passes on its way to an application, and every response on its way back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cellgraph.numbers import plain_numbers

#: A page of this server runs its own script and no other, talks to this server alone, and stands in nobody's frame.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Gate:
    """Refuses requests that are too large or meant for another host, counts all, and guards what is sent.

    Args:
        app: The application.
        max_body: Most bytes of a request.
        hosts: Names by which the server may be called; any without them. A page of somebody else can have its own name
            resolved to this machine, and would then read what a server tells programs on it.
        observe: Is told the path, the status and the seconds of every request.

    Attributes:
        cut_off: Requests that were given up because the server had to end.
    """

    @plain_numbers
    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body: int,
        hosts: Collection[str] | None = None,
        observe: Callable[[str, int, float], None] = lambda path, status, seconds: None,
    ) -> None:
        self.app, self.max_body, self.hosts, self.observe = app, max_body, hosts, observe
        self.cut_off = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status, begun = time.perf_counter(), 500, False

        async def guarded(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            headers = Headers(scope=scope)
            if self.hosts is not None and _hostname(headers.get("host", "")) not in self.hosts:
                await _refuse(guarded, 421, f"expected to be called {' or '.join(sorted(self.hosts))}")
            elif int(headers.get("content-length", "0")) > self.max_body:
                await _refuse(guarded, 413, self._too_large)
            else:
                await self.app(scope, self._measured(receive), guarded)
        except asyncio.CancelledError:
            # The server ends, and has waited long enough. Passed on, this would be a traceback in its log.
            self.cut_off += 1
            with contextlib.suppress(asyncio.CancelledError):
                if not begun:
                    await _refuse(guarded, 503, "the server has ended")
        finally:
            self.observe(scope["path"], status, time.perf_counter() - begin)

    @property
    def _too_large(self) -> str:
        return f"expected at most {self.max_body} bytes"

    def _measured(self, receive: Receive) -> Receive:
        """What comes without saying how much it is."""
        received = 0

        async def measured() -> MutableMapping[str, Any]:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_body:
                raise HTTPException(413, self._too_large)
            return message

        return measured


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


async def _refuse(send: Send, status: int, detail: str) -> None:
    content = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
