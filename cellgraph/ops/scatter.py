"""The reference: messages along the edges, added up where they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from cellgraph.ops.backend import Backend

if TYPE_CHECKING:
    from cellgraph.ops.neighbour_sum import NeighbourSum


class Scatter(Backend):
    """A :class:`~torch_geometric.nn.MessagePassing` layer: any graph, weights, dtype and device.

    In float64 it is what all the others are compared with.
    """

    name = "scatter"
    walks_edges = True

    def run(self, layer: NeighbourSum, x: Tensor, weight: Tensor) -> Tensor:
        """Sum ``x`` over the neighbourhoods."""
        return layer.along_edges(x, weight)
