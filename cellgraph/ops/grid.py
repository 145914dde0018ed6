"""Backends of lattices: the sum over the full grid, with zeros where a mask leaves no cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from cellgraph.lattice import Lattice
from cellgraph.ops.backend import Backend, Case

if TYPE_CHECKING:
    from cellgraph.ops.neighbour_sum import NeighbourSum


class GridBackend(Backend):
    """A backend that needs the cells in a grid."""

    def fits(self, case: Case) -> str | None:
        """Any lattice."""
        if isinstance(case.graph, Lattice):
            return None
        return f"needs a Lattice, a {case.graph} is summed by 'scatter' or 'segment'"


def to_grid(layer: NeighbourSum, x: Tensor) -> Tensor:
    """Rows of the nodes as the grid of the lattice, zero where no cell is.

    Shapes:
        - **x:** ``[rows, num_nodes, channels]``
        - **output:** ``[rows, *shape, channels]``
    """
    lattice = layer.lattice
    if not lattice.is_full:
        x = x.new_zeros(x.size(0), lattice.mask.numel(), x.size(-1)).index_copy(1, layer.grid_index, x)
    return x.unflatten(1, lattice.shape)


def from_grid(layer: NeighbourSum, grid: Tensor) -> Tensor:
    """The other way round."""
    x = grid.flatten(1, -2)
    return x if layer.lattice.is_full else x.index_select(1, layer.grid_index)
