"""The gated cell's block and step, for all the cells or for those that a light cone asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.cone import ConeStep
from cellgraph.nn.sharing import linear, norm, of_nodes
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


def activation(cell: GMLPCell, x: Tensor, context: Tensor | None, nodes: Tensor | None = None) -> Tensor:
    """The gated block's two halves side by side, ``[batch, num_cells, 2 * hidden]``.

    Args:
        cell: The cell.
        x: The state of some cells, ``[batch, num_cells, channels]``.
        context: See :meth:`Cell.forward`, for all the cells.
        nodes: Their numbers; all of them by default.
    """
    h = x + (cell.position if nodes is None else cell.position[nodes])
    if context is not None:
        part = context if nodes is None or context.size(1) == 1 else context.index_select(1, nodes)
        h = h + F.linear(part, cell.context_weight)
    h = norm(cell, h, cell.norm_weight, cell.norm_bias, nodes)
    return F.gelu(linear(cell, h, cell.in_weight, cell.in_bias, nodes))


def activate(cell: GMLPCell, x: Tensor, context: Tensor | None, nodes: Tensor | None = None) -> Activated:
    """The gated block's two halves of some cells, that for the gate normalised; see :func:`activation`."""
    u, v = activation(cell, x, context, nodes).chunk(2, dim=-1)
    return Activated(x, u, norm(cell, v, cell.gate_norm_weight, cell.gate_norm_bias, nodes))


def advance(cell: GMLPCell, sources: Activated, step: ConeStep, share: Tensor | float) -> Tensor:
    """The state after a step of the cells that the step computes, ``[batch, num_targets, channels]``.

    Args:
        cell: The cell.
        sources: The cells it hears, in the order of the step's sources.
        step: The tables.
        share: The share of the change that is taken.
    """
    centre = sources.rows(step.centre)
    gate = of_nodes(cell, cell.gate_bias, step.target) + _sum(cell, sources.v, centre.v, cell.wide_gate_weight, step)
    moved, here = sources.x, centre.x
    if cell.norm_transport:
        moved, here = (F.rms_norm(x, x.shape[-1:]) for x in (moved, here))
    change = linear(cell, centre.u * gate.to(centre.u.dtype), cell.out_weight, cell.out_bias, step.target)
    change = change + _sum(cell, moved, here, cell.transport, step)
    return centre.x + (change * share).to(centre.x.dtype)


def _sum(cell: GMLPCell, x: Tensor, centre: Tensor, weight: Tensor, step: ConeStep) -> Tensor:
    """The targets' neighbour sum over the sources, the centre included; weights ``[directions + 1, groups, C]``."""
    if step.heard is not None and step.hears is not None:
        return table_sum(x, of_nodes(cell, weight, step.target, dim=1), step.heard, step.hears)
    total = of_nodes(cell, weight[-1], step.target) * centre
    if not len(step.edge):
        return total
    source, target = step.edge_index
    direction = cell.edge_direction[step.edge]
    groups = step.target[target] if cell.sharing == "cell" else cell.layer[step.target[target]]
    by_edge = weight[direction, 0 if cell.sharing == "shared" else groups]
    if cell.neighbour_sum.edge_weight is not None:
        by_edge = by_edge * cell.neighbour_sum.edge_weight[step.edge, None].to(weight.dtype)
    return total.index_add(1, target, (by_edge * x.index_select(1, source)).to(total.dtype))
