"""The neighbour sum over some of the cells, by tables of who hears whom."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cellgraph.ops.transforms import is_transformed


def table_sum(x: Tensor, weight: Tensor, heard: Tensor, hears: Tensor) -> Tensor:
    """Sum sources over the neighbourhoods of targets.

    A table holds each pair once, so the sum and both its derivatives gather: nothing is added at random places, and the
    order of every sum is fixed.

    Args:
        x: Values of the sources.
        weight: Weights by direction, one for all targets or one for each.
        heard: The source that each target hears from each direction, -1 where there is none.
        hears: The target that hears each source in each direction, -1 where there is none: its transpose.

    Shapes:
        - **x:** ``[batch, num_sources, channels]``
        - **weight:** ``[num_directions, 1 or num_targets, channels]``
        - **heard:** ``[num_directions, num_targets]``
        - **hears:** ``[num_directions, num_sources]``
        - **output:** ``[batch, num_targets, channels]``, in the wider of the two dtypes
    """
    if is_transformed() or not torch.is_grad_enabled():
        return _gather(x, weight, heard, None)
    return _TableSum.apply(x, weight, heard, hears)


class _TableSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, heard: Tensor, hears: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, heard, hears)
        return _gather(x, weight, heard, None)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight, heard, hears = ctx.saved_tensors
        x_grad = weight_grad = None
        if not len(heard[0]):
            return torch.zeros_like(x), torch.zeros_like(weight), None, None
        if ctx.needs_input_grad[0]:
            x_grad = _gather(grad, weight, hears, hears).to(x.dtype)
        if ctx.needs_input_grad[1]:
            padded = _padded(x)
            over = (0, 1) if weight.size(1) == 1 else (0,)
            sums = [(grad * padded.index_select(1, _at(row, x))).sum(over) for row in heard]
            weight_grad = torch.stack(sums).view_as(weight).to(weight.dtype)
        return x_grad, weight_grad, None, None


def _gather(x: Tensor, weight: Tensor, table: Tensor, weigher: Tensor | None) -> Tensor:
    """Sum over a table; where targets have weights of their own, ``weigher`` tells whose each place takes."""
    padded = _padded(x)
    total = None
    for direction, row in enumerate(table):
        factor = weight[direction]
        if weigher is not None and factor.size(0) > 1:
            factor = factor.index_select(0, weigher[direction].clamp(min=0))
        part = factor * padded.index_select(1, _at(row, x))
        total = part if total is None else total + part
    assert total is not None
    return total


def _padded(x: Tensor) -> Tensor:
    """A row of zeros behind the others, for those that are not there."""
    return torch.cat([x, x.new_zeros(x.size(0), 1, x.size(2))], dim=1)


def _at(row: Tensor, x: Tensor) -> Tensor:
    return torch.where(row < 0, x.size(1), row)
