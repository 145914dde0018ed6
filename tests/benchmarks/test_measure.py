"""The measuring: medians against NumPy, memory against tensors of known size, rounds in turn."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from cellgraph.benchmarks import measure
from cellgraph.benchmarks.measure import Contender, PeakMemory, in_fresh_process, round_robin, spread
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


def test_contenders_play_in_turn_and_time_is_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    order = []

    def working(name: str, seconds: float) -> Contender:
        def call() -> None:
            order.append(name)
            clock[0] += seconds

        return Contender(Setting(name), call, share=0.5 if name == "half" else 1.0)

    slow, half = working("slow", 2.0), working("half", 0.25)
    for contender in (slow, half):
        contender.warm_up(CPU, slot=1.0)
    assert order == ["slow"] * 2 + ["half"] * 2
    order.clear()
    assert [c.setting.backend for c in round_robin([slow, half], rounds=2)] == ["slow", "half"] * 2
    assert order == (["slow"] + ["half"] * 4) * 2  # four calls fit the slot
    assert slow.seconds == [2.0, 2.0]
    assert half.seconds == [0.5, 0.5]
    assert slow.first_seconds == 2.0


def identify(exponent: int) -> tuple[int, int]:
    return os.getpid(), 2**exponent


def fail() -> None:
    raise ValueError("as expected")


def die() -> None:
    os.kill(os.getpid(), 9)


def test_a_fresh_process_gives_its_result_its_error_or_its_end() -> None:
    process, value = in_fresh_process(identify, 5)
    assert value == 32
    assert process != os.getpid()
    with pytest.raises(ValueError, match="as expected"):
        in_fresh_process(fail)
    with pytest.raises(MemoryError, match="killed"):
        in_fresh_process(die)
