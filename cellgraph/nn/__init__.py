"""Layers: the neighbour sum, the cell, surfaces and adapters."""

from cellgraph.nn.adapter import AutoencoderAdapter, LinearAdapter, PCAAdapter, regress
from cellgraph.nn.cell import Cell
from cellgraph.nn.gmlp import GMLPCell
from cellgraph.nn.nca import NCACell
from cellgraph.nn.perception import AttentionPerception, FilterPerception, StencilPerception
from cellgraph.nn.surface import Surface
from cellgraph.nn.update import GRUUpdate, MLPUpdate
from cellgraph.ops import NeighbourSum

__all__ = [
    "AttentionPerception",
    "AutoencoderAdapter",
    "Cell",
    "FilterPerception",
    "GMLPCell",
    "GRUUpdate",
    "LinearAdapter",
    "MLPUpdate",
    "NCACell",
    "NeighbourSum",
    "PCAAdapter",
    "StencilPerception",
    "Surface",
    "regress",
]
