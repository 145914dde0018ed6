"""Kinds of cells by name, for networks that are built again from what was saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellgraph import nn
from cellgraph.lattice import Lattice
from cellgraph.nn.cell import Cell


def built_cell(lattice: Lattice, config: Mapping[str, Any]) -> Cell:
    """A new cell from its configuration, without looking for code that has not been imported.

    Args:
        lattice: Its lattice.
        config: Its arguments, and its ``kind``, see :attr:`Cell.kinds <cellgraph.nn.Cell.kinds>`; the gated cell's by
            default.

    Raises:
        ValueError: If no such kind of cell is known.
    """
    options = dict(config)
    kind = options.pop("kind", "GMLPCell")
    if kind in nn.__all__:
        # The library's own cells are imported, and known, when they are first asked for.
        getattr(nn, kind)
    if kind not in Cell.kinds:
        module = str(kind).rpartition(".")[0] or "it"
        raise ValueError(f"the network's cell is a {kind}, which is not known: import {module} before it is loaded")
    return Cell.kinds[kind](lattice, **options)
