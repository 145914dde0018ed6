"""The batcher: what comes one by one is worked on together, by one thread, as it becomes free."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from cellgraph.numbers import plain_numbers

Item = TypeVar("Item")
Result = TypeVar("Result")

#: How much the latest batch counts in the mean time of an item.
_LATEST = 0.2
#: The longest time after which one is told to come again, in seconds.
_LONGEST = 60


class Full(Exception):  # noqa: N818 - no error of anybody's
    """There is no room in the queue.

    Attributes:
        seconds: After how many there may be.
    """

    @plain_numbers
    def __init__(self, seconds: int) -> None:
        super().__init__(f"all places in the queue are taken, try again in {seconds} s")
        self.seconds = seconds


class Batcher(Generic[Item, Result]):
    """Has items worked on in batches, in the order in which they came.

    Nothing waits for a batch to fill: what has come while the last one was worked on is the next one. So a single item
    is not held up, and the more come, the larger the batches are.

    Args:
        work: Gives a result for each item, or the exception that it failed with. It runs in a thread, always the same.
        max_batch: Most items of a batch.
        max_queue: Most items that wait.
        observe: Is told the size and the seconds of every batch.
    """

    @plain_numbers
    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        max_batch: int,
        max_queue: int,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self.work, self.max_batch, self.observe = work, max_batch, observe
        self.max_queue = max_queue
        #: By what they come to, in the order in which they came.
        self._waiting: dict[asyncio.Future[Result], Item] = {}
        self._come = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cellgraph-batcher")
        self._task: asyncio.Task[Any] | None = None
        self._mean = 0.0

    def __len__(self) -> int:
        """Number of items that wait."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to work, in the loop that runs."""
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def stop(self) -> None:
        """Work no more; who still waits is told so."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for result in self._waiting:
            result.cancel()
        self._thread.shutdown(wait=False)

    async def submit(self, item: Item) -> Result:
        """The result of an item; whoever stops waiting for it gives its place in the queue to others.

        Raises:
            Full: If no place in the queue is free.
        """
        if len(self) >= self.max_queue:
            wait = math.ceil(self._mean * len(self))
            raise Full(min(max(wait, 1), _LONGEST))
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[result] = item
        self._come.set()
        try:
            return await result
        finally:
            self._waiting.pop(result, None)

    async def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._come.wait()
            first = list(itertools.islice(self._waiting, self.max_batch))
            batch = [(self._waiting.pop(result), result) for result in first]
            if not self._waiting:
                self._come.clear()
            # Who has just stopped waiting has not left the queue yet.
            batch = [(item, result) for item, result in batch if not result.done()]
            if not batch:
                continue
            begin = time.perf_counter()
            try:
                found = await loop.run_in_executor(self._thread, self._done, [item for item, _ in batch])
                if len(found) != len(batch):
                    raise RuntimeError(f"expected {len(batch)} results, got {len(found)}")
            except asyncio.CancelledError:
                for _, result in batch:
                    result.cancel()
                raise
            except BaseException as error:
                # Those who wait for it are told; the next ones are worked for.
                for _, result in batch:
                    if not result.done():
                        result.set_exception(RuntimeError(f"the work failed: {type(error).__name__}: {error}"))
                continue
            seconds = time.perf_counter() - begin
            self._mean += (seconds / len(batch) - self._mean) * (_LATEST if self._mean else 1.0)
            self.observe(len(batch), seconds)
            for (_, result), each in zip(batch, found, strict=True):
                if not result.done():
                    result.set_exception(each) if isinstance(each, Exception) else result.set_result(each)

    def _done(self, items: list[Item]) -> Sequence[Result | Exception]:
        try:
            return self.work(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
        # One that fails takes no others with it.
        return [each for item in items for each in self._done([item])]
