from . import (
    analysis,
    answering,
    automata,
    data,
    graph,
    integrations,
    lattice,
    model,
    nn,
    ops,
    retrieval,
    teacher,
    training,
)
from .graph import Graph
from .lattice import Lattice
from .model import CellGraph, CellGraphOutput
from .nn import Cell, GMLPCell, NCACell
from .unroll import Rollout, rollout

__version__: str

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
    "analysis",
    "answering",
    "automata",
    "data",
    "graph",
    "integrations",
    "lattice",
    "model",
    "nn",
    "ops",
    "retrieval",
    "rollout",
    "teacher",
    "training",
]
