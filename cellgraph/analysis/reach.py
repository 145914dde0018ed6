"""Reach: how far cells are from one another, and which can be told apart in one derivative."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph


def distances(lattice: Lattice, sources: Tensor, *, limit: float = np.inf) -> Tensor:
    """Graph distance of every cell from each source, -1 where no path leads, or only one longer than the limit.

    Shapes:
        - **output:** ``[num_sources, num_nodes]``
    """
    source, target = lattice.edge_index.numpy()
    edges = csr_array((np.ones(len(source)), (source, target)), shape=(lattice.num_nodes, lattice.num_nodes))
    found = dijkstra(edges, unweighted=True, indices=sources.numpy(), limit=limit)
    return torch.from_numpy(np.where(np.isfinite(found), found, -1)).long()


def in_reach(model: CellGraph, sources: Tensor, num_steps: int) -> Tensor:
    """Which cells a change in each source may be felt in after so many steps, ``[num_sources, num_nodes]``.

    A step leads to the neighbours; to all cells where a cell hears all others; and where cells update one class after
    another, so far as there are classes, for each hears what those before it have become.
    """
    cell = model.cell
    if cell.hears_all and num_steps:
        return torch.ones(len(sources), model.lattice.num_nodes, dtype=torch.bool)
    hops = len(cell.colour_masks) if cell.order == "sequential" else 1
    return distances(model.lattice, sources, limit=num_steps * hops) >= 0


def colouring(reach: Tensor) -> Tensor:
    """Colours of the rows such that no column is reached by two rows of a colour, as few as a greedy pass finds.

    Shapes:
        - **reach:** ``[num_rows, num_columns]``, boolean
        - **output:** ``[num_rows]``, colours from 0 on
    """
    taken: list[np.ndarray] = []
    colours = []
    for row in reach.numpy():
        colour = next((c for c, columns in enumerate(taken) if not (columns & row).any()), len(taken))
        if colour == len(taken):
            taken.append(np.zeros_like(row))
        taken[colour] |= row
        colours.append(colour)
    return torch.tensor(colours)


def lateral_distances(model: CellGraph) -> Tensor:
    """How far cells that are read are from input cells across the signal's way, ``[num_inputs, num_outputs]``.

    It is Euclidean, in cells, the shorter way round a periodic axis; along all axes where the conveyor has no
    direction.
    """
    lattice, direction = model.lattice, model.conveyor.direction
    moves = lattice.offsets[direction] if direction is not None and model.conveyor.hops else (0,) * lattice.dim
    positions = lattice.positions
    apart = (positions[model.input_surface.index][:, None] - positions[model.read_index]).abs()
    size = torch.tensor(lattice.shape)
    periodic = torch.tensor([kind == "periodic" for kind in lattice.boundary])
    apart = torch.where(periodic, torch.minimum(apart, size - apart), apart)
    across = torch.tensor([move == 0 for move in moves])
    return apart[..., across].double().square().sum(-1).sqrt()
