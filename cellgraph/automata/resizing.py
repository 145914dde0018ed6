"""Resizing: the same cell on another lattice."""

from __future__ import annotations

from typing import TypeVar

from cellgraph.graph import Graph
from cellgraph.nn import Cell

AnyCell = TypeVar("AnyCell", bound=Cell)


def on_lattice(cell: AnyCell, lattice: Graph) -> AnyCell:
    """A cell with the very same weights on another lattice: training one trains the other.

    Args:
        cell: The cell.
        lattice: A lattice with the same directions.

    Raises:
        ValueError: If a weight of the cell belongs to the lattice it is on, such as learned positions.

    Example:
        >>> from cellgraph import Lattice
        >>> from cellgraph.nn import NCACell
        >>> small = NCACell(Lattice((4, 4)), 8)
        >>> large = on_lattice(small, Lattice((32, 32)))
        >>> large.lattice.num_nodes, next(large.parameters()) is next(small.parameters())
        (1024, True)
    """
    other = cell.on(lattice)
    shared = dict(cell.named_parameters())
    for name, parameter in list(other.named_parameters()):
        if parameter.shape != shared[name].shape:
            raise ValueError(
                f"a cell moves to another lattice if all share its weights, but {name} is {list(shared[name].shape)} "
                f"on {cell.lattice} and {list(parameter.shape)} on {lattice}"
            )
        path, _, last = name.rpartition(".")
        setattr(other.get_submodule(path), last, shared[name])
    return other
