"""The neighbour sum and its backends."""

from cellgraph.ops.neighbour_sum import BACKENDS, NeighbourSum

__all__ = ["BACKENDS", "NeighbourSum"]
