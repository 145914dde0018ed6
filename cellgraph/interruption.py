"""Interruption: Ctrl-C and SIGTERM as an exception that ends a process as a shell expects it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(SystemExit):
    """A process was asked to stop, and does.

    Not caught, it ends the process quietly with 128 and the signal's number, as a shell would report it: 130 after
    Ctrl-C, 143 after SIGTERM.

    Args:
        signum: The signal.
        told: Whether the user has been told of it, and what was kept.
    """

    def __init__(self, signum: int, *, told: bool = False) -> None:
        super().__init__(128 + signum)
        self.signum, self.told = signum, told

    @property
    def name(self) -> str:
        """The signal in words."""
        return "Ctrl-C" if self.signum == signal.SIGINT else signal.Signals(self.signum).name


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within, the first SIGINT or SIGTERM raises :class:`Interrupted`, and a second one ends the process at once.

    Python leaves signals to the main thread; in another one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {signum: signal.signal(signum, _raise) for signum in SIGNALS}
    try:
        yield
    finally:
        restore(before)


def restore(handlers: dict[int, Any]) -> None:
    """Give signals back to those who had them before."""
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


def end_at_once(signum: int) -> None:
    """End the process by a signal, as if nobody looked after it."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def _raise(signum: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, lambda number, frame: end_at_once(number))
    raise Interrupted(signum)
