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
from collections.abc import Callable, Sequence
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
        call: Does the work of so many of the setting's steps once, to its very end.
        share: Share of the setting's cells that one call really works on; its time is extrapolated by it.
        divisible: Whether a call can be of fewer than all the steps; one that cannot is always made as a whole.
        note: What a reader of the row must know.
        seconds: Seconds of a call, one value a round, extrapolated.
        first_seconds: Seconds of the very first call, compilation included, of a single step where that can be.
        call_seconds: Seconds of a call as it is measured.
        peak_bytes: Memory that a call takes above what was there before it; ``None`` where that cannot be told.
    """

    setting: Setting
    call: Callable[[int], Any]
    share: float = 1.0
    divisible: bool = True
    note: str = ""
    seconds: list[float] = field(default_factory=list)
    first_seconds: float | None = None
    call_seconds: float = 0.0
    peak_bytes: int | None = None
    _calls: int = 1
    _steps: int = 0

    def warm_up(self, device: torch.device, *, slot: float, longest: float = float("inf")) -> None:
        """Size the calls by short ones: of a step each, once to compile and fill caches and once for its time.

        Then the whole is called, for its memory, unless that would take too long: what is measured then are as many
        steps as fit.

        Args:
            device: Where the memory is taken.
            slot: Seconds of a round.
            longest: Seconds that a call may take.
        """
        whole = self.setting.num_steps
        fewest = 1 if self.divisible else whole
        self.first_seconds = self._time(1, fewest)
        a_step = self._time(1, fewest) / fewest
        self._steps = whole if a_step * whole <= longest else max(fewest, int(longest / a_step))
        with PeakMemory(device) as peak:
            self.call_seconds = self._time(1, self._steps)
        self.peak_bytes = peak.bytes if self.share == 1.0 and self._steps == whole else None
        self._calls = max(1, round(slot / max(self.call_seconds, 1e-6)))

    def play(self) -> None:
        """One round: the calls that fit a slot, one at least."""
        seconds = self._time(self._calls, self._steps)
        self.seconds.append(seconds * self.setting.num_steps / self._steps / self.share)

    @property
    def round_seconds(self) -> float:
        """Seconds that a round should take."""
        return self._calls * self.call_seconds

    @property
    def told(self) -> str:
        """The note, and what was measured where it was not the whole."""
        whole = self.setting.num_steps
        partly = f"measured on {self._steps} of {whole} steps, extrapolated" if 0 < self._steps < whole else ""
        return "; ".join(part for part in (self.note, partly) if part)

    def _time(self, calls: int, steps: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            self.call(steps)
        return (time.perf_counter() - start) / calls


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


def waits(call: Callable[[int], Any], device: torch.device) -> Callable[[int], Any]:
    """The call, returning only once the device has done the work."""
    if device.type != "cuda":
        return call

    def waiting(steps: int) -> None:
        call(steps)
        torch.cuda.synchronize(device)

    return waiting


def _high_water() -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
