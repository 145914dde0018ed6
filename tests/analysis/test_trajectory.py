"""Growth, saturation, dead cells, cycles and fixed points, on sequences written down by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cellgraph.analysis import dead_cells, growth_rate, period, saturated_share, settling_step, trajectory_summary


def scalar(*values: float) -> Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1)


def test_growth_of_a_geometric_sequence() -> None:
    start = torch.randn(1, 3, 5, 2)
    factors = torch.tensor([0.5, 1.0, 1.5]).reshape(1, 3, 1, 1)
    trajectory = torch.cat([start * factors**t for t in range(6)])
    assert torch.allclose(growth_rate(trajectory), factors.reshape(1, 3).expand(5, 3))


def test_growth_out_of_nothing() -> None:
    assert math.isinf(growth_rate(scalar(0.0, 1.0)))
    assert math.isnan(growth_rate(scalar(0.0, 0.0)))


def test_saturation_counts_values_at_the_bound_and_those_not_finite() -> None:
    states = torch.tensor([[0.0, 0.9, 1.0, -2.0], [0.0, 0.0, math.nan, math.inf]]).reshape(2, 1, 2, 2)
    assert saturated_share(states).flatten().tolist() == [0.5, 0.5]
    assert saturated_share(states, bound=1.5).flatten().tolist() == [0.25, 0.5]


def test_a_cell_that_moves_and_returns_is_not_dead() -> None:
    states = torch.zeros(3, 2, 4, 2)
    states[1, 0, 1, 0] = 1.0
    states[2, 1, 3, 1] = 1e-3
    assert dead_cells(states).logical_not().nonzero().tolist() == [[0, 1], [1, 3]]
    assert dead_cells(states, tolerance=1e-2).logical_not().nonzero().tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("values", "step", "cycle"),
    [
        ((0.0, 0.0, 0.0), 0, 1),
        ((0.0, 1.0, 2.0, 2.0), 2, 1),
        ((0.0, 1.0, 2.0, 3.0, 4.0), -1, 0),
        ((9.0, 0.0, 1.0, 0.0, 1.0), -1, 2),
        ((0.0, 1.0, 2.0, 0.0, 1.0, 2.0), -1, 3),
        ((0.0, 1.0, 2.0, 0.0, 1.0), -1, 0),
        ((1.0, math.nan, math.nan), -1, 0),
    ],
)
def test_fixed_points_and_cycles(values: tuple[float, ...], step: int, cycle: int) -> None:
    assert settling_step(scalar(*values)).tolist() == [step]
    assert period(scalar(*values)).tolist() == [cycle]


def test_a_rotation_has_its_order_as_period() -> None:
    angle = 2 * math.pi / 5
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    states = [torch.randn(2, 3, 2)]
    for _ in range(12):
        states.append(states[-1] @ turn)
    trajectory = torch.stack(states)
    assert period(trajectory).tolist() == [5, 5]
    summary = trajectory_summary(trajectory, bound=100.0)
    assert summary == pytest.approx(
        {"growth": 1.0, "saturated": 0.0, "dead": 0.0, "settled": 0.0, "oscillating": 1.0}, abs=1e-5
    )


def test_samples_are_told_apart() -> None:
    trajectory = torch.cat([scalar(0.0, 1.0, 1.0, 1.0), scalar(0.0, 1.0, 0.0, 1.0)], dim=1)
    assert settling_step(trajectory).tolist() == [1, -1]
    assert period(trajectory).tolist() == [1, 2]


def test_a_single_state_is_refused() -> None:
    with pytest.raises(ValueError, match="num_steps"):
        period(torch.zeros(1, 3, 2))
