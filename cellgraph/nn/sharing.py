"""Sharing: weights of all cells, of each layer or of each cell, put to use on all the cells or on some.

Parameters of a :class:`~cellgraph.nn.GMLPCell` have an axis of groups: one for all cells, one for each layer, or one
for each cell. Where no nodes are named, all are meant, in their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from cellgraph.nn.gmlp import GMLPCell


def of_nodes(cell: GMLPCell, parameter: Tensor, nodes: Tensor | None = None, dim: int = 0) -> Tensor:
    """A parameter of the groups as one of the nodes along ``dim``, or of all nodes alike: of size 1 there."""
    if cell.sharing == "layer":
        return parameter.index_select(dim, cell.layer if nodes is None else cell.layer[nodes])
    return parameter if nodes is None or cell.sharing == "shared" else parameter.index_select(dim, nodes)


def norm(cell: GMLPCell, x: Tensor, weight: Tensor, bias: Tensor, nodes: Tensor | None = None) -> Tensor:
    """Layer normalisation of each node's ``x``, ``[batch, num_nodes, features]``."""
    if cell.sharing == "shared":
        return F.layer_norm(x, x.shape[-1:], weight[0], bias[0])
    x = F.layer_norm(x, x.shape[-1:])
    return (x * of_nodes(cell, weight, nodes) + of_nodes(cell, bias, nodes)).to(x.dtype)


def linear(cell: GMLPCell, x: Tensor, weight: Tensor, bias: Tensor, nodes: Tensor | None = None) -> Tensor:
    """A linear map of each node's ``x``, ``[batch, num_nodes, features]``."""
    if cell.sharing == "shared":
        return F.linear(x, weight[0], bias[0])
    # One product a layer, or one a cell: each cell of a layer would take a copy of the layer's weights.
    if cell.sharing == "cell":
        weight, bias = of_nodes(cell, weight, nodes), of_nodes(cell, bias, nodes)
        return torch.bmm(x.transpose(0, 1), weight.transpose(1, 2)).transpose(0, 1) + bias
    if nodes is None:
        layers = x.split(cell.cells_per_layer, dim=1)
        return torch.cat([F.linear(*part) for part in zip(layers, weight, bias, strict=True)], dim=1)
    order = torch.argsort(cell.layer[nodes], stable=True)
    found, counts = cell.layer[nodes].unique(return_counts=True)
    parts = x.index_select(1, order).split(counts.tolist(), dim=1)
    products = [F.linear(part, weight[n], bias[n]) for n, part in zip(found.tolist(), parts, strict=True)]
    products = products or [x.new_empty(x.size(0), 0, weight.size(1))]
    return torch.cat(products, dim=1).index_select(1, torch.argsort(order))
