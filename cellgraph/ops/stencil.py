"""The stencil: a weighted sum of shifted slices of the full grid, with a backward of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.ops.grid import GridBackend, from_grid, to_grid
from cellgraph.ops.transforms import is_transformed

if TYPE_CHECKING:
    from cellgraph.ops.neighbour_sum import NeighbourSum

Offsets = tuple[tuple[int, ...], ...]


class Stencil(GridBackend):
    """Shifted slices of the full grid; made to be compiled."""

    name = "stencil"

    def run(self, layer: NeighbourSum, x: Tensor, weight: Tensor) -> Tensor:
        """Sum ``x`` over the neighbourhoods."""
        if weight.size(1) > 1:
            grid_weight = to_grid(layer, weight)
        else:
            grid_weight = weight.reshape(len(weight), *[1] * layer.lattice.dim, -1)
        return from_grid(layer, stencil(to_grid(layer, x), grid_weight, layer.lattice.offsets, layer.periodic))


def stencil(grid: Tensor, weight: Tensor, offsets: Offsets, periodic: Sequence[bool]) -> Tensor:
    """Sum of the grid's shifts by ``offsets``, weighted, the unshifted grid last.

    Shapes:
        - **grid:** ``[batch, *shape, channels]``
        - **weight:** ``[len(offsets) + 1, *ones or shape, channels]``
        - **output:** ``[batch, *shape, channels]``
    """
    if torch.is_grad_enabled() and (grid.requires_grad or weight.requires_grad) and not is_transformed():
        return _Stencil.apply(grid, weight, offsets, tuple(periodic))
    return _weighted_sum(pad(grid, periodic, _radius(offsets)), weight, offsets, grid.shape[1:-1])


class _Stencil(torch.autograd.Function):
    """The same sum; its backward is again a stencil, not a sum of padded gradients.

    The compiler would inline a plain padding into each of the reads of the transposed stencil, and that into the
    reductions of the norm before it; the padding as an operator that it cannot look into made a compiled training step
    1.5 times faster on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, grid: Tensor, weight: Tensor, offsets: Offsets, periodic: tuple[bool, ...]) -> Tensor:
        ctx.save_for_backward(grid, weight)
        ctx.offsets, ctx.periodic = offsets, periodic
        return _weighted_sum(pad(grid, periodic, _radius(offsets)), weight, offsets, grid.shape[1:-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        grid, weight = ctx.saved_tensors
        shape = grid.shape[1:-1]
        shared = weight.shape[1:-1] != shape
        back = tuple(tuple(-move for move in offset) for offset in ctx.offsets)
        over = tuple(range(grid.dim() - 1)) if shared else (0,)
        radius = _radius(ctx.offsets)
        padded = opaque_pad(grad, list(ctx.periodic), radius)
        grid_grad = weight_grad = None
        if ctx.needs_input_grad[0]:
            if shared:
                grid_grad = _weighted_sum(padded, weight, back, shape)
            else:
                # A cell's neighbours weigh it with weights of their own: shift weight and gradient together.
                weighted = [opaque_pad(weight[k] * grad, list(ctx.periodic), radius) for k in range(len(back))]
                grid_grad = weight[-1] * grad
                for offset, pushed in zip(back, weighted, strict=True):
                    grid_grad = grid_grad + _shift(pushed, offset, shape)
            grid_grad = grid_grad.to(grid.dtype)
        if ctx.needs_input_grad[1]:
            if shared:
                products = [grid * _shift(padded, offset, shape) for offset in back]
            else:
                around = opaque_pad(grid, list(ctx.periodic), radius)
                products = [grad * _shift(around, offset, shape) for offset in ctx.offsets]
            sums = [product.sum(over) for product in (*products, grid * grad)]
            weight_grad = torch.stack(sums).reshape(weight.shape).to(weight.dtype)
        return grid_grad, weight_grad, None, None


def pad(grid: Tensor, periodic: Sequence[bool], radius: int) -> Tensor:
    """A rim of ``radius`` cells around a grid: zeros, or the far side along periodic axes."""
    rims = [0, 0]
    for closed in reversed(periodic):
        rims += [0, 0] if closed else [radius, radius]
    grid = F.pad(grid, rims)
    for axis, closed in enumerate(periodic, start=1):
        if closed:
            first, last = grid.narrow(axis, 0, radius), grid.narrow(axis, grid.size(axis) - radius, radius)
            grid = torch.cat([last, grid, first], dim=axis)
    return grid


def opaque_pad(grid: Tensor, periodic: list[bool], radius: int) -> Tensor:
    """:func:`pad` as one operator, but under a functional transform."""
    return pad(grid, periodic, radius) if is_transformed() else _pad(grid, periodic, radius)


@torch.library.custom_op("cellgraph::pad", mutates_args=())
def _pad(grid: Tensor, periodic: list[bool], radius: int) -> Tensor:
    padded = pad(grid, periodic, radius)
    return padded.clone() if padded.data_ptr() == grid.data_ptr() else padded


@_pad.register_fake
def _(grid: Tensor, periodic: list[bool], radius: int) -> Tensor:
    return grid.new_empty(grid.size(0), *(size + 2 * radius for size in grid.shape[1:-1]), grid.size(-1))


def _setup_context(ctx: Any, inputs: tuple[Tensor, list[bool], int], output: Tensor) -> None:
    ctx.periodic, ctx.radius = inputs[1:]


def _pad_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    """Fold the rim back: drop it, or add it to the far side."""
    radius = ctx.radius
    for axis, closed in reversed(list(enumerate(ctx.periodic, start=1))):
        size = grad.size(axis) - 2 * radius
        inner = grad.narrow(axis, radius, size)
        if closed:
            first, last = grad.narrow(axis, radius + size, radius), grad.narrow(axis, 0, radius)
            middle = inner.narrow(axis, radius, size - 2 * radius)
            begin, end = inner.narrow(axis, 0, radius) + first, inner.narrow(axis, size - radius, radius) + last
            inner = torch.cat([begin, middle, end], dim=axis)
        grad = inner
    return grad, None, None


_pad.register_autograd(_pad_backward, setup_context=_setup_context)


def _radius(offsets: Offsets) -> int:
    return max(abs(move) for offset in offsets for move in offset)


def _weighted_sum(padded: Tensor, weight: Tensor, offsets: Offsets, shape: Sequence[int]) -> Tensor:
    total = weight[-1] * _shift(padded, (0,) * len(shape), shape)
    for w, offset in zip(weight, offsets, strict=False):
        total = total + w * _shift(padded, offset, shape)
    return total


def _shift(padded: Tensor, offset: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The grid of ``shape`` in the middle of a padded one, moved by an offset."""
    for axis, (move, size) in enumerate(zip(offset, shape, strict=True), start=1):
        padded = padded.narrow(axis, (padded.size(axis) - size) // 2 + move, size)
    return padded
