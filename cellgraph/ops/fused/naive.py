"""The fused step by torch's own operators: what the C++ one is to compute, and what can be differentiated again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: Tables of a distinct step, see ``gmlp_steps.cpp``.
NUM_TABLES = 10


def naive_steps(
    own: Tensor,
    lent: Tensor,
    masks: Tensor,
    share: float,
    tables: Sequence[Tensor],
    order: Sequence[int],
    parameters: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """Take several steps of the cells that a light cone asks for.

    Args:
        own: State of the cells that differ by sample, ``[batch, num_own, channels]``.
        lent: State of the cells that do not, ``[num_lent, channels]``.
        masks: Update masks, ``[num_steps, batch, num_nodes]``, or an empty tensor.
        share: The share of the update that is taken where there are no masks.
        tables: Tables of the distinct steps, see :class:`~cellgraph.ops.fused.steps.Plan`.
        order: The distinct step that each step is.
        parameters: The cell's, in the order of ``cell.h``.

    Returns:
        The last state of both.
    """
    others = lent[None]
    for number, distinct in enumerate(order):
        of_step = [table.long() for table in tables[NUM_TABLES * distinct : NUM_TABLES * (distinct + 1)]]
        target, source, heard, _, lender, _, lent_source, lent_heard, *_ = of_step
        lent_before = _activate(others, lent_source, parameters)
        lenders = (part.index_select(1, lender).expand(own.size(0), -1, -1) for part in lent_before)
        before = [torch.cat(pair, dim=1) for pair in zip(_activate(own, source, parameters), lenders, strict=True)]
        rate = masks[number].index_select(1, target)[..., None] if masks.numel() else share
        own, others = _advance(before, heard, rate, parameters), _advance(lent_before, lent_heard, share, parameters)
    return own, others[0]


def _activate(x: Tensor, nodes: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The state of some cells and both halves of their gated block."""
    position, norm_weight, norm_bias, in_weight, in_bias, gate_norm_weight, gate_norm_bias, *_ = parameters
    h = F.layer_norm(x + position.index_select(0, nodes), x.shape[-1:], norm_weight, norm_bias)
    u, v = F.gelu(F.linear(h, in_weight, in_bias)).chunk(2, dim=-1)
    return x, u, F.layer_norm(v, v.shape[-1:], gate_norm_weight, gate_norm_bias)


def _advance(before: Sequence[Tensor], heard: Tensor, share: Tensor | float, parameters: Sequence[Tensor]) -> Tensor:
    """The state after the step of the cells that hear the rows ``heard`` of those before, themselves last."""
    x, u, v = before
    *_, gate_weight, gate_bias, out_weight, out_bias, transport = parameters
    gate = gate_bias + _sum(v, gate_weight, heard)
    change = F.linear(u.index_select(1, heard[-1]) * gate, out_weight, out_bias) + _sum(x, transport, heard)
    return x.index_select(1, heard[-1]) + share * change


def _sum(x: Tensor, weight: Tensor, heard: Tensor) -> Tensor:
    # Where nothing is heard the table says -1: the last row, of zeros.
    x = F.pad(x, (0, 0, 0, 1))
    rows = torch.where(heard < 0, x.size(1) - 1, heard)
    total = weight[-1] * x.index_select(1, rows[-1])
    for place in range(len(weight) - 1):
        total = total + weight[place] * x.index_select(1, rows[place])
    return total
