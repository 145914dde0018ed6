"""Layers: the neighbour sum, the cell, surfaces and adapters."""

from cellgraph.nn.adapter import AutoencoderAdapter, LinearAdapter, PCAAdapter, regress
from cellgraph.nn.cell import Cell
from cellgraph.nn.gmlp import GMLPCell
from cellgraph.nn.neighbour_sum import BACKENDS, NeighbourSum
from cellgraph.nn.surface import Surface

__all__ = [
    "BACKENDS",
    "AutoencoderAdapter",
    "Cell",
    "GMLPCell",
    "LinearAdapter",
    "NeighbourSum",
    "PCAAdapter",
    "Surface",
    "regress",
]
