"""A network that is small enough for any test."""

from __future__ import annotations

from cellgraph import CellGraph, GMLPCell, Lattice


def small(num_steps: int = 4, *, cell: dict | None = None, **options: object) -> CellGraph:
    cell_options = {"hidden": 8, "heads": 2, **(cell or {})}
    return CellGraph(
        GMLPCell(Lattice((3, 3, 3)), 6, **cell_options),
        in_features=9,
        num_steps=num_steps,
        **{"surface_channels": 1, "path": "none", **options},
    )
