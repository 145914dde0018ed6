"""The measuring: medians against NumPy, memory against tensors of known size, calls sized on a clock of their own."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from processes import die, fail, identify

from cellgraph.benchmarks import measure
from cellgraph.benchmarks.measure import Contender, PeakMemory, in_fresh_process, spread
from cellgraph.benchmarks.setting import Setting

CPU = torch.device("cpu")
MEBIBYTE = 2**20


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10])
def test_the_spread_is_numpys(count: int) -> None:
    values = np.random.default_rng(count).exponential(size=count)
    found = spread(values.tolist())
    assert [found.lower, found.median, found.upper] == pytest.approx(np.percentile(values, [25, 50, 75]).tolist())


def test_the_spread_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="median of no values"):
        spread([])


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the system cannot reset the mark")
def test_peak_memory_is_that_of_the_largest_moment() -> None:
    def touch(mebibytes: int) -> torch.Tensor:
        return torch.ones(mebibytes * MEBIBYTE // 4)

    touch(200)  # an earlier, higher peak must not count
    with PeakMemory(CPU) as peak:
        kept = touch(40)
        touch(60)
    assert peak.bytes is not None
    assert 95 * MEBIBYTE < peak.bytes < 115 * MEBIBYTE
    with PeakMemory(CPU) as nothing:
        kept[:10].sum()
    assert nothing.bytes is not None
    assert nothing.bytes < 5 * MEBIBYTE


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch):
    """Makes contenders that take so many seconds a step on a clock of their own, and lists of their calls' steps."""
    clock = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])

    def make(seconds: float, **options: object) -> tuple[Contender, list[int]]:
        calls: list[int] = []

        def call(steps: int) -> None:
            calls.append(steps)
            clock[0] += seconds * steps

        return Contender(Setting("any", num_steps=12), call, **options), calls

    return make


def test_a_call_is_sized_by_short_ones(working) -> None:
    quick, calls = working(0.25)
    quick.warm_up(CPU, slot=7.0, longest=3.0)
    assert calls == [1, 1, 12]
    assert (quick.first_seconds, quick.call_seconds, quick.round_seconds) == (0.25, 3.0, 6.0)
    quick.play()
    assert calls[3:] == [12, 12]  # two calls are nearest to the slot
    assert quick.seconds == [3.0]
    assert quick.told == ""


@pytest.mark.parametrize(("seconds", "steps"), [(0.5, 6), (2.0, 1), (50.0, 1)])
def test_a_rollout_that_is_too_long_is_measured_in_part(working, seconds: float, steps: int) -> None:
    slow, calls = working(seconds, note="as it is")
    slow.warm_up(CPU, slot=0.1, longest=3.0)
    slow.play()
    assert calls == [1, 1, steps, steps]
    assert slow.seconds == [12 * seconds]
    assert slow.told == f"as it is; measured on {steps} of 12 steps, extrapolated"
    assert slow.peak_bytes is None


def test_a_share_of_the_cells_is_extrapolated(working) -> None:
    half, calls = working(0.25, share=0.5)
    half.warm_up(CPU, slot=1.0)
    half.play()
    assert calls == [1, 1, 12, 12]
    assert half.seconds == [6.0]
    assert half.peak_bytes is None


def test_what_cannot_be_divided_is_called_as_a_whole(working) -> None:
    whole, calls = working(2.0, divisible=False)
    whole.warm_up(CPU, slot=0.1, longest=3.0)
    whole.play()
    assert calls == [12] * 4
    assert whole.seconds == [24.0]


def test_a_fresh_process_gives_its_result_its_error_or_its_end() -> None:
    process, value = in_fresh_process(identify, 5)
    assert value == 32
    assert process != os.getpid()
    with pytest.raises(ValueError, match="as expected"):
        in_fresh_process(fail)
    with pytest.raises(MemoryError, match="killed"):
        in_fresh_process(die)
