"""The benchmark of slabs: it measures, and its plan is the arithmetic that it says it is."""

from __future__ import annotations

import pytest

from cellgraph.benchmarks.split import Case, Figures, measured, plan


def test_a_plan_is_the_measured_cost_times_the_cells() -> None:
    case = Case(1000, 1, channels=16, hidden=32, steps=2)
    lines = plan(case, Figures(seconds=1e-3, exchange=0.0, memory=4e6), 10**6, train=True)
    # Two faces of 100 x 100 cells of 16 channels of 4 bytes, and their gradients; 1 us and 4,000 bytes a cell.
    assert "100^3 = 1.00e+06 cells at 1000 ns a cell and step and 4000 bytes a cell" in lines[0]
    assert "sends 3 MB a step" in lines[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines[2:]]
    assert len({len(row) for row in rows}) == 1
    assert rows[3] == ["8", "12", "0.125", "0.00205", "0.000205", "5.12e-05", "0.466"]
    assert rows[2][3:6] == ["0", "0", "0"]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_it_measures(processes: int) -> None:
    figures = measured(Case(216, processes, channels=4, hidden=4, train=True, steps=1, repeats=1))
    assert figures.seconds > 0
    # What a process has once it has imported everything may be more than it ever has afterwards.
    assert figures.memory >= 0
    assert figures.exchange > 0
