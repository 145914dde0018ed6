"""The neighbour sum as a Triton kernel behind an operator of its own."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from cellgraph.lattice import Lattice
from cellgraph.ops.transforms import refuse_transforms

#: Values of a program's block, and the most programs that the gradient of shared weights is spread over.
BLOCK_SIZE, PROGRAMS = 4096, 1024


def neighbour_table(lattice: Lattice) -> Tensor:
    """The neighbour of every cell in every direction, itself last, ``-1`` where there is none.

    Shapes:
        - **output:** ``[num_directions + 1, num_nodes]``, int32.
    """
    table = torch.full((lattice.num_directions + 1, lattice.num_nodes), -1, dtype=torch.int32)
    source, target = lattice.edge_index
    table[lattice.edge_direction, target] = source.int()
    table[-1] = torch.arange(lattice.num_nodes)
    return table


def accumulator(*tensors: Tensor) -> torch.dtype:
    """The dtype sums are kept in: float32, or float64 where a tensor has it."""
    return torch.float64 if torch.float64 in {tensor.dtype for tensor in tensors} else torch.float32


def kernels_for(x: Tensor) -> ModuleType:
    """The kernels, imported when first asked for.

    Raises:
        ValueError: If they cannot run where ``x`` is.
    """
    from cellgraph.ops.triton import kernels

    if not x.is_cuda and not kernels.INTERPRETED:
        raise ValueError(f"backend 'triton' runs on a GPU, got a tensor on {x.device}")
    return kernels


def triton_sum(x: Tensor, weight: Tensor, neighbours: Tensor, transposed: bool, dtype: torch.dtype) -> Tensor:
    """Sum ``x`` over the neighbourhoods, or push every cell's value back to where the sum has it from.

    Sums are in float32, in float64 where an argument is.

    Shapes:
        - **x:** ``[batch, num_nodes, channels]``
        - **weight:** ``[num_directions + 1, 1 or num_nodes, channels]``
        - **neighbours:** ``[num_directions + 1, num_nodes]``, see :func:`neighbour_table`
        - **output:** ``[batch, num_nodes, channels]``, of ``dtype``

    Raises:
        ValueError: If the tensors are not on a GPU and the kernels not interpreted.
        NotImplementedError: Under a functional transform.
    """
    refuse_transforms("triton_sum")
    return _neighbour_sum(x, weight, neighbours, transposed, dtype)


# The sum is linear in x and in the weights, so with its transpose and the products of two states every derivative of
# any order is one of these two operators again.
@torch.library.custom_op("cellgraph::neighbour_sum", mutates_args=())
def _neighbour_sum(x: Tensor, weight: Tensor, neighbours: Tensor, transposed: bool, dtype: torch.dtype) -> Tensor:
    kernels = kernels_for(x)
    x, weight = x.contiguous(), weight.contiguous()
    y = torch.empty_like(x, dtype=dtype)
    batch, nodes, channels = x.shape
    across = min(kernels.triton.next_power_of_2(channels), 128)
    down = BLOCK_SIZE // 2 // across
    grid = (kernels.triton.cdiv(batch * nodes, down), kernels.triton.cdiv(channels, across))
    with torch.cuda.device_of(x):
        kernels.neighbour_sum_kernel[grid](
            x,
            weight,
            neighbours,
            y,
            batch * nodes,
            nodes,
            channels,
            TAPS=len(weight),
            PER_NODE=weight.size(1) > 1,
            TRANSPOSED=transposed,
            DOUBLE=accumulator(x, weight) is torch.float64,
            BLOCK_ROWS=down,
            BLOCK_CHANNELS=across,
        )
    return y


@_neighbour_sum.register_fake
def _(x: Tensor, weight: Tensor, neighbours: Tensor, transposed: bool, dtype: torch.dtype) -> Tensor:
    return x.new_empty(x.shape, dtype=dtype)


def _setup_sum(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool, torch.dtype], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.transposed = inputs[3]


def _sum_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
    x, weight, neighbours = ctx.saved_tensors
    x_grad = weight_grad = None
    if ctx.needs_input_grad[0]:
        x_grad = triton_sum(grad, weight, neighbours, not ctx.transposed, x.dtype)
    if ctx.needs_input_grad[1]:
        gathered, own = (grad, x) if ctx.transposed else (x, grad)
        weight_grad = triton_products(gathered, own, neighbours, weight.size(1), weight.dtype)
    return x_grad, weight_grad, None, None, None


_neighbour_sum.register_autograd(_sum_backward, setup_context=_setup_sum)


def triton_products(x: Tensor, grad: Tensor, neighbours: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    """Sum the products of the neighbours in ``x`` with ``grad``: the gradient of the sum's weights.

    Where all cells share the weights, each program sums some of the rows and a second pass adds up the programs; no
    order depends on timing, so equal input gives equal bits.

    Shapes:
        - **x**, **grad:** ``[batch, num_nodes, channels]``
        - **neighbours:** ``[num_directions + 1, num_nodes]``
        - **output:** ``[num_directions + 1, groups, channels]``, of ``dtype``; ``groups`` is 1 or ``num_nodes``

    Raises:
        NotImplementedError: Under a functional transform.
    """
    refuse_transforms("triton_products")
    return _neighbour_products(x, grad, neighbours, groups, dtype)


@torch.library.custom_op("cellgraph::neighbour_products", mutates_args=())
def _neighbour_products(x: Tensor, grad: Tensor, neighbours: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    kernels = kernels_for(x)
    x, grad = x.contiguous(), grad.contiguous()
    batch, nodes, channels = x.shape
    taps, rows = len(neighbours), batch * nodes
    if groups == 1:
        rows_each = max(1, kernels.triton.cdiv(rows, PROGRAMS))
        programs, program_step, row_step = max(1, kernels.triton.cdiv(rows, rows_each)), rows_each, 1
    else:
        rows_each, programs, program_step, row_step = batch, nodes, 1, nodes
    wide = accumulator(x, grad)
    partial = x.new_empty(taps, programs, channels, dtype=wide)
    down = kernels.triton.next_power_of_2(taps)
    across = min(kernels.triton.next_power_of_2(channels), BLOCK_SIZE // down)
    with torch.cuda.device_of(x):
        kernels.neighbour_products_kernel[(programs, kernels.triton.cdiv(channels, across))](
            x,
            grad,
            neighbours,
            partial,
            rows,
            nodes,
            channels,
            rows_each,
            program_step,
            row_step,
            TAPS=taps,
            DOUBLE=wide is torch.float64,
            BLOCK_TAPS=down,
            BLOCK_CHANNELS=across,
        )
    return (partial.sum(1, keepdim=True) if groups == 1 else partial).to(dtype)


@_neighbour_products.register_fake
def _(x: Tensor, grad: Tensor, neighbours: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    return x.new_empty(len(neighbours), groups, x.size(-1), dtype=dtype)


def _setup_products(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int, torch.dtype], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _products_backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
    x, grad, neighbours = ctx.saved_tensors
    x_grad = triton_sum(grad, weight, neighbours, True, x.dtype) if ctx.needs_input_grad[0] else None
    grad_grad = triton_sum(x, weight, neighbours, False, grad.dtype) if ctx.needs_input_grad[1] else None
    return x_grad, grad_grad, None, None, None


_neighbour_products.register_autograd(_products_backward, setup_context=_setup_products)
