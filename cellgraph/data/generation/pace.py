"""The pace: how often requests are made, and how long is waited after one that failed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from cellgraph.numbers import number, plain_numbers

from .client import ModelError, TemporaryError

__all__ = ["Pace"]

#: Longest wait of a back-off, in seconds.
_LONGEST_BACK_OFF = 60.0


class Pace:
    """Spaces requests evenly, and waits after failures: twice as long after each, or as long as the server asks.

    Args:
        per_minute: Most requests a minute; ``None`` for any number.
        first_wait: Seconds of the first back-off.
        longest_wait: Seconds that a server may ask for before the run ends instead.
        clock: What tells the time in seconds.
        sleep: What waits.

    Raises:
        ValueError: If a number is out of range.
    """

    @plain_numbers
    def __init__(
        self,
        *,
        per_minute: float | None = None,
        first_wait: float = 1.0,
        longest_wait: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if per_minute is not None and number("per_minute", per_minute) <= 0:
            raise ValueError(f"per_minute must be above 0, got {per_minute}")
        self.first_wait, self.longest_wait = number("first_wait", first_wait), number("longest_wait", longest_wait)
        if self.first_wait < 0 or self.longest_wait < 0:
            raise ValueError(f"waits must not be negative, got {first_wait} and {longest_wait}")
        self._interval = 0.0 if per_minute is None else 60.0 / per_minute
        self._clock, self._sleep = clock, sleep
        self._next = self._quiet_until = -float("inf")

    async def turn(self) -> None:
        """Wait until the next request may be made."""
        while True:
            start = max(self._clock(), self._next, self._quiet_until)
            self._next = start + self._interval
            if (wait := start - self._clock()) > 0:
                await self._sleep(wait)
            # Who slept while a server asked for quiet takes another turn, or all would wake at once.
            if self._quiet_until <= start:
                return

    async def wait_after(self, error: TemporaryError, failures: int) -> None:
        """Wait after a request that failed.

        When the server says that it gets too many requests, all of them wait.

        Args:
            error: How it failed.
            failures: How many requests for the same have failed before.

        Raises:
            ModelError: If the server wants to be left alone for longer than is allowed.
        """
        if error.wait is not None and error.wait > self.longest_wait:
            raise ModelError(f"{error}; it asks to be left alone for {error.wait:,.0f} s, too long to wait for")
        # Those that failed together must not come back together.
        back_off = min(_LONGEST_BACK_OFF, self.first_wait * 2**failures) * random.uniform(0.75, 1.25)
        # Who asks for no wait at all has not said how long: asked again at once, a server would fail all the same.
        wait = error.wait or back_off
        if error.kind == "429" or error.wait:
            self._quiet_until = max(self._quiet_until, self._clock() + wait)
        await self._sleep(wait)
