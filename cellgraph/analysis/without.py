"""Without: copies of a network that lack a part of what its cells do."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from cellgraph.model import CellGraph


@torch.no_grad()
def without_update(model: CellGraph) -> CellGraph:
    """A copy of a network whose cells transport only: what their update adds is taken out.

    Raises:
        ValueError: If the cell's update cannot be told from its transport.
    """
    twin = copy.deepcopy(model)
    # The last weights of the gated cell; of any other, what its change is weighed by.
    last = [name for name in ("out_weight", "out_bias", "rate") if hasattr(twin.cell, name)]
    if not last:
        raise ValueError(f"the update of {type(twin.cell).__name__} cannot be told from its transport")
    for name in last:
        getattr(twin.cell, name).zero_()
    return twin


@torch.no_grad()
def without_lateral_gate(model: CellGraph) -> CellGraph:
    """A copy of a network whose gates hear no neighbour but those before and behind; transport stays as it is.

    Raises:
        ValueError: If it has no :func:`lateral` messages.
    """
    directions = lateral(model)
    if directions is None:
        raise ValueError("the cells have no gate, or no messages but those before and behind")
    twin = copy.deepcopy(model)
    twin.cell.gate_weight[directions] = 0.0
    return twin


def lateral(model: CellGraph) -> Tensor | None:
    """The directions that lead neither along nor against the way from the input to the output surface.

    ``None`` where the cell has no gate, no direction leads from the one to the other, or none is lateral.
    """
    lattice, ahead = model.lattice, model.conveyor.direction
    if ahead is None or not model.conveyor.hops or not hasattr(model.cell, "gate_weight"):
        return None
    way = lattice.offsets[ahead]
    along = (way, tuple(-move for move in way))
    aside = [k for k, offset in enumerate(lattice.offsets) if tuple(offset) not in along]
    return torch.tensor(aside) if aside else None
