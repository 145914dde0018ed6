from .adapter import AutoencoderAdapter, LinearAdapter, PCAAdapter, regress
from .cell import Cell
from .gmlp import GMLPCell
from .matryoshka import MatryoshkaAdapter
from .nca import NCACell
from .path import LinearPath, Readout
from .perception import AttentionPerception, FilterPerception, PooledPerception, StencilPerception
from .stepping import NeighbourSum
from .surface import Surface
from .update import BoundedUpdate, GRUUpdate, MLPUpdate

__all__ = [
    "AttentionPerception",
    "AutoencoderAdapter",
    "BoundedUpdate",
    "Cell",
    "FilterPerception",
    "GMLPCell",
    "GRUUpdate",
    "LinearAdapter",
    "LinearPath",
    "MLPUpdate",
    "MatryoshkaAdapter",
    "NCACell",
    "NeighbourSum",
    "PCAAdapter",
    "PooledPerception",
    "Readout",
    "StencilPerception",
    "Surface",
    "regress",
]
