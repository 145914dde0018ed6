"""Dynamics: how training went, and what it made of the stencil."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cellgraph.analysis.plots import Curve
from cellgraph.model import CellGraph
from cellgraph.transport import Conveyor


@dataclass(frozen=True)
class Course:
    """A logged quantity in a few figures: its first and last value, its smallest and largest, and at which updates."""

    first: float
    last: float
    least: float
    least_at: int
    most: float
    most_at: int


def courses(curves: Mapping[str, Curve]) -> dict[str, Course]:
    """Sum up each curve that :func:`~cellgraph.analysis.plots.read_metrics` found."""
    found = {}
    for name, (steps, values) in curves.items():
        least, most = values.index(min(values)), values.index(max(values))
        found[name] = Course(values[0], values[-1], values[least], int(steps[least]), values[most], int(steps[most]))
    return found


@dataclass(frozen=True)
class Stencil:
    """Weights of the neighbour sums by direction, the centre last, averaged over the groups of cells.

    Attributes:
        offsets: The directions, ``[num_directions + 1, 3]``, with zeros for the axes a flatter lattice lacks.
        transport: Mean of the linear transport over the channels that are not memory, ``[num_directions + 1]``.
        transport_before: The same in a new network: the conveyor.
        gate: Weights of the gate by head, ``[heads, num_directions + 1]``; no head of a cell without a gate.
    """

    offsets: Tensor
    transport: Tensor
    transport_before: Tensor
    gate: Tensor


@torch.no_grad()
def stencil_weights(model: CellGraph) -> Stencil:
    """The stencil of a network, and what its transport was before training."""
    cell, lattice = model.cell, model.lattice
    offsets = torch.tensor([*lattice.offsets, (0,) * lattice.dim])
    return Stencil(
        torch.nn.functional.pad(offsets, (3 - lattice.dim, 0)),
        cell.transport[:, :, : cell.free_channels].mean((1, 2)),
        _conveyor_weights(model.conveyor, lattice.num_directions, cell.dynamics.share()),
        cell.gate_weight.mean(1).T if hasattr(cell, "gate_weight") else torch.zeros(0, len(offsets)),
    )


def _conveyor_weights(conveyor: Conveyor, num_directions: int, taken: float) -> Tensor:
    weights = torch.zeros(num_directions + 1)
    rate = conveyor.share / taken
    if conveyor.direction is None:
        weights[:-1] = rate / num_directions
    else:
        weights[conveyor.direction] = rate
    weights[-1] -= rate
    return weights
