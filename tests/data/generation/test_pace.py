"""Pace and budget, by a clock that only waiting moves."""

from __future__ import annotations

import asyncio

import pytest

from cellgraph.data.generation import Budget, Pace
from cellgraph.data.generation.budget import BudgetSpentError
from cellgraph.data.generation.client import ModelError, TemporaryError


class Clock:
    """Tells the time, which goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


def pace(**settings: float) -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(**settings, clock=clock, sleep=clock.sleep), clock  # type: ignore[arg-type]


async def turns(it: Pace, clock: Clock, number: int) -> list[float]:
    started = []
    for _ in range(number):
        await it.turn()
        started.append(clock.now)
    return started


def test_turns_are_evenly_spaced() -> None:
    it, clock = pace(per_minute=30)
    assert asyncio.run(turns(it, clock, 4)) == [100.0, 102.0, 104.0, 106.0]


def test_without_a_rate_nobody_waits() -> None:
    it, clock = pace()
    assert asyncio.run(turns(it, clock, 3)) == [100.0] * 3


def test_waits_double_up_to_a_minute() -> None:
    it, clock = pace(first_wait=2.0)
    waits = []
    for failures in range(8):
        before = clock.now
        asyncio.run(it.wait_after(TemporaryError("no", kind="500"), failures))
        waits.append(clock.now - before)
    for wait, plain in zip(waits, [2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert 0.75 * plain <= wait <= 1.25 * plain


def test_a_wait_of_nothing_is_no_leave_to_ask_at_once() -> None:
    it, clock = pace(first_wait=2.0)
    for failures, plain in enumerate([2, 4, 8]):
        before = clock.now
        asyncio.run(it.wait_after(TemporaryError("no", kind="429", wait=0.0), failures))
        assert 0.75 * plain <= clock.now - before <= 1.25 * plain


def test_what_a_server_asks_for_is_kept_to_the_second_and_by_all() -> None:
    it, clock = pace(per_minute=60)

    async def go() -> list[float]:
        await it.turn()
        waiting = asyncio.create_task(it.wait_after(TemporaryError("no", kind="429", wait=30.0), 0))
        await asyncio.sleep(0)
        # Two others want a turn meanwhile.
        others = [asyncio.create_task(turns(it, clock, 1)) for _ in range(2)]
        started = [(await other)[0] for other in others]
        await waiting
        return started

    first, second = asyncio.run(go())
    assert first >= 130.0
    assert second >= first + 1.0


def test_too_long_a_wait_ends_the_run() -> None:
    it, _ = pace(longest_wait=60.0)
    with pytest.raises(ModelError, match="too many; it asks to be left alone for 3,600 s"):
        asyncio.run(it.wait_after(TemporaryError("too many", kind="429", wait=3600.0), 0))


@pytest.mark.parametrize("settings", [{"per_minute": 0}, {"first_wait": -1}, {"longest_wait": -1}])
def test_numbers_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Pace(**settings)  # type: ignore[arg-type]


def test_a_budget_of_requests() -> None:
    budget = Budget(requests=2)
    budget.book(requests=1)
    budget.take(10)
    with pytest.raises(BudgetSpentError, match="budget of 2 requests is spent"):
        budget.take(10)


def test_a_budget_of_tokens_counts_what_is_on_its_way() -> None:
    budget = Budget(tokens=1000)
    budget.take(600)
    with pytest.raises(
        BudgetSpentError, match="of 1,000 tokens is spent: 0 are used, and the next request may take 500"
    ):
        budget.take(500)
    budget.give_back(600, 300, 100)
    budget.take(500)
    budget.give_back(500, 300, 200)
    assert budget.used_tokens == 900
    with pytest.raises(BudgetSpentError, match="900 are used"):
        budget.take(200)


def test_a_negative_budget() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Budget(tokens=-1)
