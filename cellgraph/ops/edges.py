"""The edge sum: PyTorch Geometric's message passing, and the only module of the sums that imports it.

``import torch_geometric`` brings its data sets and language-model tools along, which takes longer than all else that a
question needs. The lattices of most networks are summed without it.
"""

from __future__ import annotations

from torch import Tensor
from torch_geometric.nn import MessagePassing


class EdgeSum(MessagePassing):
    r"""A weighted sum over the edges that lead to each node, as a message-passing layer.

    .. math:: y_i = \sum_{e = (j, i)} w_e \odot x_j

    Shapes:
        - **x:** ``[batch, num_nodes, channels]``
        - **edge_index:** ``[2, num_edges]``
        - **weight:** ``[num_edges, channels]``
        - **output:** ``[batch, num_nodes, channels]``
    """

    def __init__(self) -> None:
        super().__init__(aggr="add", node_dim=-2)

    def forward(self, x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
        """Sum the messages."""
        # propagate_type: (x: Tensor, weight: Tensor)
        return self.propagate(edge_index, x=x, weight=weight)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """What an edge carries: the neighbour's state times the edge's weight."""
        return weight * x_j
