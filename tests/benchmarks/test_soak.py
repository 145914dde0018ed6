"""The soak: what is counted, and what counts as grown."""

from __future__ import annotations

import pytest

from cellgraph.benchmarks.soak import KINDS, growth, soak


@pytest.mark.parametrize("kind", KINDS)
def test_every_update_is_counted(kind: str) -> None:
    readings = soak(kind, updates=12, every=4)
    assert [one["updates"] for one in readings] == [4, 8, 12]
    assert all(one["mib"] > 50 for one in readings)


def test_growth_is_of_the_last_quarter_over_the_one_before() -> None:
    sizes = [50.0, 90.0, 100.0, 99.0, 100.0, 98.0, 103.0, 101.0]
    assert growth([{"mib": size} for size in sizes]) == pytest.approx(0.03)
    assert growth([{"mib": 100.0}, {"mib": 100.0}]) == 0.0
