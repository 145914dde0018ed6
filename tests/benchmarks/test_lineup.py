"""The line-up on a clock of its own: what is tried, left out and measured as time runs out."""

from __future__ import annotations

import pytest
import torch

from cellgraph.benchmarks import lineup as module
from cellgraph.benchmarks import measure
from cellgraph.benchmarks.lineup import Budget, Lineup
from cellgraph.benchmarks.measure import Contender
from cellgraph.benchmarks.progress import Progress
from cellgraph.benchmarks.report import Report
from cellgraph.benchmarks.setting import Setting

CPU = torch.device("cpu")
#: 2,560 cells: ten times those of the lattice on which contenders are tried first.
BASE = Setting("any", (10, 16, 16), num_steps=12, batch=1)


class Workshop:
    """Makes contenders whose steps and compilation take seconds of a clock that only they move."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.calls: list[tuple[str, int, int]] = []

    def build(self, seconds: float, compiling: float = 0.0):
        """A builder: so many seconds a step of the base's cells, and for the first call."""
        pending = [compiling]

        def made(setting: Setting, device: torch.device) -> Contender:
            def call(steps: int) -> None:
                self.calls.append((setting.backend, setting.num_cells, steps))
                self.clock += seconds * steps * setting.batch * setting.num_cells / BASE.num_cells + pending[0]
                pending[0] = 0.0

            return Contender(setting, call)

        return made


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch) -> Workshop:
    shop = Workshop()
    for each in (module, measure):
        monkeypatch.setattr(each.time, "perf_counter", lambda: shop.clock)
    return shop


def lineup(budget: float, *, rounds: int = 2, longest: float = 1.0, slot: float = 0.0) -> Lineup:
    with Progress("test") as progress:
        return Lineup(Report({}, {}), CPU, progress, slot=slot, longest=longest, rounds=rounds, budget=Budget(budget))


def named(name: str) -> Setting:
    return Setting(name, BASE.shape, num_steps=12, batch=1)


def test_all_are_measured_in_turn(workshop) -> None:
    found = lineup(100.0, rounds=3)
    for name in ("one", "other"):
        assert found.add(named(name), workshop.build(0.05)) is not None
    workshop.calls.clear()
    found.play()
    assert [name for name, _, _ in workshop.calls] == ["one", "other"] * 3
    assert all(contender.seconds == pytest.approx([0.6] * 3) for contender in found.contenders)


def test_what_is_slow_beyond_measure_is_only_tried_on_a_small_lattice(workshop) -> None:
    found = lineup(1000.0, longest=1.0)
    assert found.add(named("slow"), workshop.build(30.0)) is None
    assert {cells for _, cells, _ in workshop.calls} == {256}
    assert workshop.clock == pytest.approx(2 * 3 * 3.0)  # it is given a second chance
    (skipped,) = found.report.skipped
    assert skipped["reason"] == "a single step would take 30.0 s, more than the 1 s that a call may take (--longest)"


def test_no_call_is_longer_than_allowed(workshop) -> None:
    found = lineup(1000.0, longest=1.0)
    assert found.add(named("steps"), workshop.build(0.3)) is not None
    found.play()
    # 12 steps would take 3.6 s.
    assert max(steps for _, _, steps in workshop.calls) == 3


def test_what_compiles_waits_for_as_much_time_as_the_one_before_took(workshop) -> None:
    found = lineup(100.0)
    assert found.add(named("first"), workshop.build(0.01, compiling=45.0), compiled=True) is not None
    # Compiled twice, once for each size, if it were tried on a small lattice first.
    assert {cells for _, cells, _ in workshop.calls} == {BASE.num_cells}
    assert found.add(named("second"), workshop.build(0.01, compiling=40.0), compiled=True) is not None
    assert found.add(named("third"), workshop.build(0.01, compiling=40.0), compiled=True) is None
    assert found.add(named("quick"), workshop.build(0.01)) is not None
    reasons = {item["what"].split()[0]: item["reason"] for item in found.report.skipped}
    assert reasons == {"third": "no time was left to compile in about 40 s (--budget 100)"}


def test_the_rounds_that_are_promised_are_kept(workshop) -> None:
    found = lineup(30.0, rounds=5, longest=1.0, slot=1.0)
    names = [f"number {i}" for i in range(20)]
    made = [name for name in names if found.add(named(name), workshop.build(0.05)) is not None]
    assert 0 < len(made) < len(names)
    found.play()
    # A slot holds whole calls, which may be a little more than was reckoned with for the last one.
    assert all(len(contender.seconds) >= 4 for contender in found.contenders)
    assert workshop.clock < 30.0


def test_a_round_that_does_not_fit_is_not_begun_but_the_first_is(workshop) -> None:
    found = lineup(10.0, rounds=5)
    found.add(named("one"), workshop.build(0.05))
    workshop.clock = 8.5
    found.play()
    assert len(found.contenders[0].seconds) == 2
    found = lineup(0.0, rounds=5)
    assert found.add(named("one"), workshop.build(0.05)) is None
    found.play()


def test_an_error_leaves_it_out_with_its_reason(workshop) -> None:
    def build(setting: Setting, device: torch.device) -> Contender:
        raise ValueError("needs a GPU\nand more")

    found = lineup(10.0)
    assert found.add(BASE, build) is None
    assert found.report.skipped == [{"what": str(BASE), "reason": "needs a GPU"}]
