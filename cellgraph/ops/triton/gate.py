"""The gated half of a shared gMLP step as one Triton kernel: gather, gate, project, transport, add."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cellgraph.ops.transforms import refuse_transforms
from cellgraph.ops.triton.stencil import BLOCK_SIZE, accumulator, kernels_for, triton_products, triton_sum

EPS = 1e-5

#: The most values the projection may have, padded to powers of two: it is held on chip beside a block of rows.
LARGEST_PROJECTION = 16384


def fits_gated_step(channels: int, hidden: int) -> bool:
    """Whether a cell of these widths is small enough for the fused kernel."""
    return _padded(channels) * _padded(hidden) <= LARGEST_PROJECTION


def _padded(width: int) -> int:
    """The next power of two; matrix units take no less than 16."""
    return max(16, 1 << (width - 1).bit_length())


def gated_step(
    uv: Tensor,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    gate_weight: Tensor,
    gate_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    transport: Tensor,
    update_mask: Tensor | None,
    neighbours: Tensor,
) -> Tensor:
    r"""What :class:`cellgraph.nn.GMLPCell` does after its first layer, for weights shared by all cells.

    .. math::
        x_i + m_i \, \Big(\sum_k a_k \odot x_{i + o_k}
        + W_{out} \big(u_i \odot (b + \sum_k w_k \, \mathrm{Norm}(v)_{i + o_k})\big) + c\Big)

    Sums are in float32, in float64 where ``x`` is; the factors of the projection are of the dtype of ``uv``.

    Shapes:
        - **uv:** ``[batch, num_nodes, 2 * hidden]``
        - **x:** ``[batch, num_nodes, channels]``
        - **norm_weight**, **norm_bias**, **gate_bias:** ``[hidden]``
        - **gate_weight:** ``[num_directions + 1, 1, hidden]``
        - **out_weight:** ``[channels, hidden]``, in the dtype of ``uv``; **out_bias:** ``[channels]``
        - **transport:** ``[num_directions + 1, 1, channels]``
        - **update_mask:** ``[batch, num_nodes, 1]``; ones when absent
        - **neighbours:** ``[num_directions + 1, num_nodes]``
        - **output:** ``[batch, num_nodes, channels]``, in the dtype of ``x``

    Raises:
        NotImplementedError: Under a functional transform.
    """
    refuse_transforms("gated_step")
    weights = norm_weight, norm_bias, gate_weight, gate_bias, out_weight, out_bias, transport
    return _gated_step(uv, x, *weights, update_mask, neighbours)


# The backward keeps uv and x alone: it computes the norm and the gate again and is otherwise made of the two operators
# of the neighbour sum and of matrix products. Every piece can be differentiated again, and the compiler sees and fuses
# the arithmetic between them.
@torch.library.custom_op("cellgraph::gated_step", mutates_args=())
def _gated_step(
    uv: Tensor,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    gate_weight: Tensor,
    gate_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    transport: Tensor,
    update_mask: Tensor | None,
    neighbours: Tensor,
) -> Tensor:
    kernels = kernels_for(x)
    uv, x = uv.contiguous(), x.contiguous()
    y = torch.empty_like(x)
    batch, nodes, channels = x.shape
    hidden = uv.size(-1) // 2
    down = max(16, BLOCK_SIZE // 2 // max(_padded(hidden), _padded(channels)))
    # Three products of halved float32 factors are as exact as one of whole ones, and run on the matrix units.
    precision = "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    with torch.cuda.device_of(x):
        kernels.gated_step_kernel[(kernels.triton.cdiv(batch * nodes, down),)](
            uv,
            x,
            norm_weight.contiguous(),
            norm_bias.contiguous(),
            gate_weight.contiguous(),
            gate_bias.contiguous(),
            out_weight.contiguous(),
            out_bias.contiguous(),
            transport.contiguous(),
            x if update_mask is None else update_mask.contiguous(),
            neighbours,
            y,
            batch * nodes,
            nodes,
            hidden,
            channels,
            TAPS=len(gate_weight),
            EPS=EPS,
            MASKED=update_mask is not None,
            DOUBLE=accumulator(uv, x) is torch.float64,
            PRECISION=precision if uv.dtype == torch.float32 else "ieee",
            # The interpreter would multiply the bits of bfloat16 as if they were integers.
            WIDEN=kernels.INTERPRETED and uv.dtype == torch.bfloat16,
            BLOCK_ROWS=down,
            BLOCK_HIDDEN=_padded(hidden),
            BLOCK_CHANNELS=_padded(channels),
            num_warps=8,
        )
    return y


@_gated_step.register_fake
def _(uv: Tensor, x: Tensor, *weights: Tensor | None) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    uv, x, norm_weight, norm_bias, gate_weight, gate_bias, out_weight, out_bias, transport, mask, neighbours = (
        ctx.saved_tensors
    )
    wide = accumulator(uv, x)
    u, v = uv.to(wide).chunk(2, dim=-1)
    hidden = [u.size(-1)]
    normed, mean, rstd = torch.native_layer_norm(v, hidden, norm_weight.to(wide), norm_bias.to(wide), EPS)
    gate = gate_bias + triton_sum(normed, gate_weight, neighbours, False, wide)
    gated = (u * gate).to(uv.dtype)

    change = grad if mask is None else grad * mask
    narrow = change.to(uv.dtype)
    gated_grad = (narrow @ out_weight).to(wide)
    gate_grad = gated_grad * u
    v_grad, norm_weight_grad, norm_bias_grad = torch.ops.aten.native_layer_norm_backward(
        triton_sum(gate_grad, gate_weight, neighbours, True, wide),
        v,
        hidden,
        mean,
        rstd,
        norm_weight.to(wide),
        norm_bias.to(wide),
        [True, True, True],
    )
    mask_grad = None
    if ctx.needs_input_grad[9]:
        moved = triton_sum(x, transport, neighbours, False, wide)
        mask_grad = (grad * (moved + gated @ out_weight.T + out_bias)).sum(-1, keepdim=True).to(mask.dtype)
    return (
        torch.cat([gated_grad * gate, v_grad], dim=-1).to(uv.dtype),
        (grad + triton_sum(change, transport, neighbours, True, wide)).to(x.dtype),
        norm_weight_grad.to(norm_weight.dtype),
        norm_bias_grad.to(norm_bias.dtype),
        triton_products(normed, gate_grad, neighbours, 1, gate_weight.dtype),
        gate_grad.sum((0, 1)).to(gate_bias.dtype),
        narrow.reshape(-1, narrow.size(-1)).T @ gated.reshape(-1, gated.size(-1)),
        change.sum((0, 1), dtype=wide).to(out_bias.dtype),
        triton_products(x, change, neighbours, 1, transport.dtype),
        mask_grad,
        None,
    )


_gated_step.register_autograd(_backward, setup_context=_setup_context)
