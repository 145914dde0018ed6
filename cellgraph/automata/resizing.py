"""Resizing: the same cell on another lattice."""

from __future__ import annotations

from typing import Any, TypeVar

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
    share_weights(cell, other)
    return other


def share_weights(source: Any, target: Any) -> None:
    """Put the very parameters of a module in the place of those of its like on another lattice, which may lack some.

    Args:
        source: A cell or a task.
        target: The other one.

    Raises:
        ValueError: If a weight belongs to the lattice that it is on.
    """
    # A parameter that goes by two names is put in the place of both.
    shared = dict(source.named_parameters(remove_duplicate=False))
    for name, parameter in list(target.named_parameters(remove_duplicate=False)):
        if name not in shared or parameter.shape != shared[name].shape:
            there = list(shared[name].shape) if name in shared else "missing"
            kind = "task" if hasattr(source, "sample") else "cell"
            raise ValueError(
                f"a {kind} moves to another lattice if all share its weights, but {name} is {there} "
                f"on {source.lattice} and {list(parameter.shape)} on {target.lattice}"
            )
        path, _, last = name.rpartition(".")
        setattr(target.get_submodule(path), last, shared[name])
