from __future__ import annotations

import pytest
import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.analysis.dynamics import courses, stencil_weights


def test_courses_are_ends_and_extremes():
    found = courses({"train/loss": ([5.0, 10.0, 15.0, 20.0], [3.0, 1.0, 4.0, 2.0])})["train/loss"]
    assert (found.first, found.last) == (3.0, 2.0)
    assert (found.least, found.least_at, found.most, found.most_at) == (1.0, 10, 4.0, 15)


@pytest.mark.parametrize(
    ("lattice", "ends", "num_steps"),
    [
        (Lattice((4, 3, 3), 26), ("front", "back"), 6),
        (Lattice((5, 4)), ("top", "bottom"), 4),
        (Lattice((6,)), ("left", "right"), 8),
        (Lattice((4, 3, 3)), ("front", ["top"]), 6),
    ],
)
def test_the_stencil_of_a_new_network_is_its_conveyor(lattice, ends, num_steps):
    cell = GMLPCell(lattice, channels=5, hidden=8, memory_channels=2, fire_rate=0.9)
    model = CellGraph(
        cell, in_features=8, surface_channels=1, input_nodes=ends[0], output_nodes=ends[0], num_steps=num_steps
    )
    if ends[1] != ["top"]:
        model = CellGraph(
            cell, in_features=8, surface_channels=1, input_nodes=ends[0], output_nodes=ends[1], num_steps=num_steps
        )
    found = stencil_weights(model)
    torch.testing.assert_close(found.transport, found.transport_before)
    assert found.offsets.shape == (lattice.num_directions + 1, 3)
    assert found.offsets[:-1, 3 - lattice.dim :].tolist() == [list(offset) for offset in lattice.offsets]
    assert found.offsets[-1].tolist() == [0, 0, 0]


def test_weights_are_means_over_channels_and_groups():
    lattice = Lattice((3, 2, 2))
    cell = GMLPCell(lattice, channels=4, hidden=8, heads=2, sharing="layer", memory_channels=1)
    model = CellGraph(cell, in_features=4, surface_channels=1, num_steps=2)
    torch.nn.init.normal_(cell.transport)
    found = stencil_weights(model)
    for k in range(7):
        wanted = sum(float(cell.transport[k, g, c]) for g in range(3) for c in range(3)) / 9
        assert float(found.transport[k]) == pytest.approx(wanted, abs=1e-6)
        for head in range(2):
            assert float(found.gate[head, k]) == pytest.approx(float(cell.gate_weight[k, :, head].mean()), abs=1e-6)
