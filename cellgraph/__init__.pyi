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
    runs,
    sequence,
    teacher,
    training,
)
from .folder import RunFolder
from .graph import Graph
from .lattice import Lattice
from .model import CellGraph, CellGraphOutput
from .nn import Cell, GMLPCell, NCACell
from .runs import PairDataset, PairModel, load
from .sequence import SequenceGraph
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
    "PairDataset",
    "PairModel",
    "Rollout",
    "RunFolder",
    "SequenceGraph",
    "__version__",
    "analysis",
    "answering",
    "automata",
    "data",
    "graph",
    "integrations",
    "lattice",
    "load",
    "model",
    "nn",
    "ops",
    "retrieval",
    "rollout",
    "runs",
    "sequence",
    "teacher",
    "training",
]
