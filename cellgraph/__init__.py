"""Lattices of small shared networks: cellular, recurrent, trained by message passing."""

from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph, CellGraphOutput
from cellgraph.nn import GMLPCell
from cellgraph.rollout import Rollout, rollout

__version__ = "0.1.0"

__all__ = ["CellGraph", "CellGraphOutput", "GMLPCell", "Lattice", "Rollout", "__version__", "rollout"]
