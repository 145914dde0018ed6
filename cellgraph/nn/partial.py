"""The gated cell's step for some of the cells: those that a light cone asks for, on any graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.cone import ConeStep
from cellgraph.ops.table import table_sum

if TYPE_CHECKING:
    from cellgraph.nn.gmlp import GMLPCell


class Activated(NamedTuple):
    """Cells before a step, ``[batch, num_cells, ...]``: the state, and what the gated block makes of it."""

    x: Tensor
    u: Tensor
    v: Tensor

    def rows(self, index: Tensor) -> Activated:
        """Some of the cells."""
        return Activated(*(part.index_select(1, index) for part in self))

    def beside(self, others: Activated) -> Activated:
        """These cells and, behind them, others that are alike in all samples."""
        batch = self.x.size(0)
        parts = zip(self, others, strict=True)
        return Activated(*(torch.cat([own, lent.expand(batch, -1, -1).to(own.dtype)], dim=1) for own, lent in parts))


def activate(cell: GMLPCell, x: Tensor, nodes: Tensor, context: Tensor | None) -> Activated:
    """The gated block's two halves of some cells.

    Args:
        cell: The cell.
        x: Their state, ``[batch, len(nodes), channels]``.
        nodes: Their numbers.
        context: See :meth:`Cell.forward`, for all the cells.
    """
    h = x + cell.position[nodes]
    if context is not None:
        part = context if context.size(1) == 1 else context.index_select(1, nodes)
        h = h + F.linear(part, cell.context_weight)
    h = _norm(cell, h, cell.norm_weight, cell.norm_bias, nodes)
    u, v = F.gelu(_linear(cell, h, cell.in_weight, cell.in_bias, nodes)).chunk(2, dim=-1)
    return Activated(x, u, _norm(cell, v, cell.gate_norm_weight, cell.gate_norm_bias, nodes))


def advance(cell: GMLPCell, sources: Activated, step: ConeStep, share: Tensor | float) -> Tensor:
    """The state after a step of the cells that the step computes, ``[batch, num_targets, channels]``.

    Args:
        cell: The cell.
        sources: The cells it hears, in the order of the step's sources.
        step: The tables.
        share: The share of the change that is taken.
    """
    centre = sources.rows(step.centre)
    gate_weight = cell.gate_weight.repeat_interleave(cell.hidden // cell.heads, dim=-1)
    gate = _groups(cell, cell.gate_bias, step.target) + _sum(cell, sources.v, centre.v, gate_weight, step)
    moved, here = sources.x, centre.x
    if cell.norm_transport:
        moved, here = (F.rms_norm(x, x.shape[-1:]) for x in (moved, here))
    change = _linear(cell, centre.u * gate.to(centre.u.dtype), cell.out_weight, cell.out_bias, step.target)
    change = change + _sum(cell, moved, here, cell.transport, step)
    return centre.x + (change * share).to(centre.x.dtype)


def _sum(cell: GMLPCell, x: Tensor, centre: Tensor, weight: Tensor, step: ConeStep) -> Tensor:
    """The targets' neighbour sum over the sources, the centre included; weights ``[directions + 1, groups, C]``."""
    if step.heard is not None and step.hears is not None:
        return table_sum(x, _groups(cell, weight, step.target, dim=1), step.heard, step.hears)
    total = _groups(cell, weight[-1], step.target) * centre
    if not len(step.edge):
        return total
    source, target = step.edge_index
    direction = cell.edge_direction[step.edge]
    groups = step.target[target] if cell.sharing == "cell" else cell.layer[step.target[target]]
    by_edge = weight[direction, 0 if cell.sharing == "shared" else groups]
    if cell.neighbour_sum.edge_weight is not None:
        by_edge = by_edge * cell.neighbour_sum.edge_weight[step.edge, None].to(weight.dtype)
    return total.index_add(1, target, (by_edge * x.index_select(1, source)).to(total.dtype))


def _groups(cell: GMLPCell, parameter: Tensor, nodes: Tensor, dim: int = 0) -> Tensor:
    """A parameter of the groups as one of some nodes, or of all nodes alike: size 1 along ``dim``."""
    if cell.sharing == "shared":
        return parameter
    return parameter.index_select(dim, cell.layer[nodes] if cell.sharing == "layer" else nodes)


def _norm(cell: GMLPCell, x: Tensor, weight: Tensor, bias: Tensor, nodes: Tensor) -> Tensor:
    if cell.sharing == "shared":
        return F.layer_norm(x, x.shape[-1:], weight[0], bias[0])
    x = F.layer_norm(x, x.shape[-1:])
    return (x * _groups(cell, weight, nodes) + _groups(cell, bias, nodes)).to(x.dtype)


def _linear(cell: GMLPCell, x: Tensor, weight: Tensor, bias: Tensor, nodes: Tensor) -> Tensor:
    if cell.sharing == "shared":
        return F.linear(x, weight[0], bias[0])
    # One product a layer, or one a cell: each cell of a layer would take a copy of the layer's weights.
    if cell.sharing == "cell":
        return torch.bmm(x.transpose(0, 1), weight[nodes].transpose(1, 2)).transpose(0, 1) + bias[nodes]
    order = torch.argsort(cell.layer[nodes], stable=True)
    layers, counts = cell.layer[nodes].unique(return_counts=True)
    parts = x.index_select(1, order).split(counts.tolist(), dim=1)
    products = [F.linear(part, weight[n], bias[n]) for n, part in zip(layers.tolist(), parts, strict=True)]
    products = products or [x.new_empty(x.size(0), 0, weight.size(1))]
    return torch.cat(products, dim=1).index_select(1, torch.argsort(order))
