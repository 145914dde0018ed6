"""Lattices of small shared networks: cellular, recurrent, trained by message passing."""

from cellgraph.graph import Graph
from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph, CellGraphOutput
from cellgraph.nn import Cell, GMLPCell, NCACell
from cellgraph.rollout import Rollout, rollout

__version__ = "0.1.0"

__all__ = [
    "Cell",
    "CellGraph",
    "CellGraphOutput",
    "GMLPCell",
    "Graph",
    "Lattice",
    "NCACell",
    "Rollout",
    "__version__",
    "rollout",
]
