"""Measuring: seconds in rounds, medians with quartiles, and peak memory."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import gc
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch

from .setting import Setting

Result = TypeVar("Result")

#: Share of the free memory that a measurement may be predicted to take: beyond, the machine might swap.
SAFE_SHARE = 0.7

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    lower: float
    upper: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles, linearly interpolated.

    Raises:
        ValueError: If there are no values.
    """
    if not values:
        raise ValueError("the median of no values was asked for")
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, lower, upper)


@dataclass
class Contender:
    """Something to be measured against others in one run.

    Attributes:
        setting: What it is measured at.
        call: Does the work once, to its very end.
        share: Share of the setting's cells that one call really works on; its time is extrapolated by it.
        note: What a reader of the row must know.
        seconds: Seconds of a call, one value a round, extrapolated.
        first_seconds: Seconds of the very first call, compilation included.
        peak_bytes: Memory that a call takes above what was there before it; ``None`` where that cannot be told.
    """

    setting: Setting
    call: Callable[[], Any]
    share: float = 1.0
    note: str = ""
    seconds: list[float] = field(default_factory=list)
    first_seconds: float | None = None
    peak_bytes: int | None = None
    _calls: int = 1

    def warm_up(self, device: torch.device, *, slot: float) -> None:
        """Call twice: once to compile and fill caches, once for the memory and to see how many calls fit a slot."""
        self.first_seconds = self._time(1)
        with PeakMemory(device) as peak:
            seconds = self._time(1)
        self.peak_bytes = peak.bytes if self.share == 1.0 else None
        self._calls = max(1, round(slot / max(seconds, 1e-6)))

    def play(self) -> None:
        """One round: the calls that fit a slot, one at least."""
        self.seconds.append(self._time(self._calls) / self.share)

    def _time(self, calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            self.call()
        return (time.perf_counter() - start) / calls


def round_robin(contenders: Sequence[Contender], *, rounds: int) -> Iterator[Contender]:
    """Measure all in turn, again and again, so that the machine's noise falls on all alike; yields each that played."""
    for _ in range(rounds):
        for contender in contenders:
            contender.play()
            yield contender


class PeakMemory:
    """Context that tells how far the memory in use rose above its level at the start.

    On a GPU it is what PyTorch's allocator had given out; on a CPU the resident set, whose high-water mark Linux lets a
    process reset. What the heap keeps of earlier work is given back first, or it would hide new use.

    Attributes:
        before: Bytes at the start.
        bytes: The rise; ``None`` on systems that cannot reset the mark.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before = 0
        self.bytes: int | None = None
        self._resettable = False

    def __enter__(self) -> PeakMemory:
        release()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
            return self
        self.before = resident()
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")
            self._resettable = True
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self.before
        elif self._resettable:
            self.bytes = max(0, _high_water() - self.before)


def release() -> None:
    """Drop garbage and give the heap's free pages back to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def resident() -> int:
    """Resident set of this process, in bytes."""
    return int(psutil.Process().memory_info().rss)


def free_memory(device: torch.device) -> int:
    """Memory that can still be taken without swapping, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def in_fresh_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a new process of its own, so that its memory does not mix with that of others.

    Raises:
        MemoryError: If the process was killed, as the system does with one that takes too much.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would say on standard error that it profiles
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise MemoryError("the process was killed, most likely for the memory it took") from error


def waits(call: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """The call, returning only once the device has done the work."""
    if device.type != "cuda":
        return call

    def waiting() -> None:
        call()
        torch.cuda.synchronize(device)

    return waiting


def _high_water() -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
