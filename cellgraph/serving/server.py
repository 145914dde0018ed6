"""The server: an application at an address, until it is told to end."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from cellgraph.interruption import Interrupted
from cellgraph.numbers import plain_numbers

#: By these names a server on this machine alone may be called.
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def bind(host: str, port: int) -> socket.socket:
    """Take an address, to which nobody can connect yet.

    Args:
        host: An address of this machine, or a name of it.
        port: The port; 0 for any that is free.

    Raises:
        ValueError: If it cannot be had.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"port must be between 0 and {2**16 - 1}, got {port}")
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"cannot serve at {host}: {getattr(error, 'strerror', None) or error}") from None
    taken = socket.socket(family, kind)
    # Windows would let two servers share a port.
    if os.name == "posix":
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise ValueError(
            f"cannot serve at port {port} of {host}: {error.strerror or error}; try another --port"
        ) from None
    return taken


def url_of(taken: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = taken.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def is_local(taken: socket.socket) -> bool:
    """Whether only programs on this machine can connect to it."""
    return ipaddress.ip_address(taken.getsockname()[0].partition("%")[0]).is_loopback


def serve(app: ASGIApp, taken: socket.socket, *, grace: int, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM; questions in flight are answered first.

    Args:
        app: The application.
        taken: Its address, from :func:`bind`.
        grace: Seconds that these may take.
        ready: Called when it takes questions.
    """
    server = Server(app, grace=grace, ready=ready)
    with taken, contextlib.suppress(Interrupted):
        # It ends as it should: uvicorn gives the signal on when all is done.
        server.run(sockets=[taken])


class Server(uvicorn.Server):
    """uvicorn, which tells when it is ready.

    Args:
        app: The application.
        grace: Seconds in which questions in flight are answered at the end.
        ready: Called when it takes questions.
    """

    @plain_numbers
    def __init__(self, app: ASGIApp, *, grace: int, ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=grace,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; how many requests are cut off is for whoever serves to say, once."""
        log = logging.getLogger("uvicorn.error")
        log.addFilter(_says_more)
        try:
            await super().shutdown(sockets)
        finally:
            log.removeFilter(_says_more)


def _says_more(record: logging.LogRecord) -> bool:
    return "timeout graceful shutdown exceeded" not in record.getMessage()
