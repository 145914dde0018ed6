"""The Triton kernels of the neighbour sum and of the gated step; the only module that imports triton.

A row is one cell of one sample, rows in the order of ``[batch, num_nodes]``. ``neighbours`` is the table of
:func:`cellgraph.ops.triton.stencil.neighbour_table`; a ``-1`` in it loads zeros, so boundaries and masks cost nothing.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def neighbour_sum_kernel(
    x: tl.tensor,
    weight: tl.tensor,
    neighbours: tl.tensor,
    y: tl.tensor,
    num_rows: tl.tensor,
    num_nodes: tl.tensor,
    channels: tl.tensor,
    TAPS: tl.constexpr,
    PER_NODE: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    DOUBLE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
) -> None:
    """A block of rows and channels of the sum, or of its transpose."""
    wide: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = (row < num_rows)[:, None] & (channel < channels)[None, :]
    node = row % num_nodes
    total = tl.zeros([BLOCK_ROWS, BLOCK_CHANNELS], dtype=wide)
    for k in range(TAPS):
        # The offsets are sorted and symmetric: the opposite of the k-th is the k-th from their end; the centre is last.
        # Compiled, a remainder has the sign of what is divided, unlike Python's: that must not be negative.
        place = (2 * TAPS - 2 - k) % TAPS if TRANSPOSED else k
        source = tl.load(neighbours + place * num_nodes + node, mask=row < num_rows, other=-1).to(tl.int64)
        there = inside & (source >= 0)[:, None]
        values = tl.load(x + (row - node + source)[:, None] * channels + channel[None, :], mask=there, other=0.0)
        if PER_NODE:
            # The weights of the target: across the transpose that is where the gradient comes from.
            owner = source if TRANSPOSED else node
            at = (k * num_nodes + owner)[:, None] * channels + channel[None, :]
            total += tl.load(weight + at, mask=there, other=0.0).to(wide) * values.to(wide)
        else:
            shared = tl.load(weight + k * channels + channel, mask=channel < channels, other=0.0)
            total += shared.to(wide)[None, :] * values.to(wide)
    at = row[:, None] * channels + channel[None, :]
    tl.store(y + at, total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def neighbour_products_kernel(
    x: tl.tensor,
    grad: tl.tensor,
    neighbours: tl.tensor,
    products: tl.tensor,
    num_rows: tl.tensor,
    num_nodes: tl.tensor,
    channels: tl.tensor,
    rows_each: tl.tensor,
    program_step: tl.tensor,
    row_step: tl.tensor,
    TAPS: tl.constexpr,
    DOUBLE: tl.constexpr,
    BLOCK_TAPS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
) -> None:
    """Products of the neighbours with the gradient, summed over the rows of a program, for every direction.

    Directions lie across the threads and the rows are walked one by one, so that a sum has one fixed order.
    """
    wide: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    program = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    tap = tl.arange(0, BLOCK_TAPS)
    total = tl.zeros([BLOCK_TAPS, BLOCK_CHANNELS], dtype=wide)
    first = program * program_step
    for n in range(tl.minimum(rows_each, tl.cdiv(num_rows - first, row_step))):
        row = first + n * row_step
        node = row % num_nodes
        source = tl.load(neighbours + tap * num_nodes + node, mask=tap < TAPS, other=-1)
        at = (row - node + source.to(tl.int64))[:, None] * channels + channel[None, :]
        values = tl.load(x + at, mask=(source >= 0)[:, None] & (channel < channels)[None, :], other=0.0)
        own = tl.load(grad + row * channels + channel, mask=channel < channels, other=0.0)
        total += values.to(wide) * own.to(wide)[None, :]
    at = (tap.to(tl.int64) * tl.num_programs(0) + program)[:, None] * channels + channel[None, :]
    tl.store(
        products + at,
        total.to(products.dtype.element_ty),
        mask=(tap < TAPS)[:, None] & (channel < channels)[None, :],
    )


@triton.jit
def gated_step_kernel(
    uv: tl.tensor,
    x: tl.tensor,
    norm_weight: tl.tensor,
    norm_bias: tl.tensor,
    gate_weight: tl.tensor,
    gate_bias: tl.tensor,
    out_weight: tl.tensor,
    out_bias: tl.tensor,
    transport: tl.tensor,
    update_mask: tl.tensor,
    neighbours: tl.tensor,
    y: tl.tensor,
    num_rows: tl.tensor,
    num_nodes: tl.tensor,
    hidden: tl.tensor,
    channels: tl.tensor,
    TAPS: tl.constexpr,
    EPS: tl.constexpr,
    MASKED: tl.constexpr,
    DOUBLE: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_HIDDEN: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
) -> None:
    """A block of rows of the step: neighbours normalised as they are gathered, gated, projected, transported."""
    wide: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    h, c = tl.arange(0, BLOCK_HIDDEN), tl.arange(0, BLOCK_CHANNELS)
    in_hidden, in_channels, exists = h < hidden, c < channels, row < num_rows
    node = row % num_nodes
    scale = tl.load(norm_weight + h, mask=in_hidden, other=0.0).to(wide)
    shift = tl.load(norm_bias + h, mask=in_hidden, other=0.0).to(wide)
    bias = tl.load(gate_bias + h, mask=in_hidden, other=0.0).to(wide)
    gate = tl.zeros([BLOCK_ROWS, BLOCK_HIDDEN], dtype=wide) + bias[None, :]
    change = tl.zeros([BLOCK_ROWS, BLOCK_CHANNELS], dtype=wide)
    for k in range(TAPS):
        source = tl.load(neighbours + k * num_nodes + node, mask=exists, other=-1).to(tl.int64)
        there = source >= 0
        at = row - node + source
        v_at = at[:, None] * (2 * hidden) + hidden + h[None, :]
        v = tl.load(uv + v_at, mask=there[:, None] & in_hidden[None, :], other=0.0).to(wide)
        centred = tl.where(in_hidden[None, :], v - (tl.sum(v, axis=1) / hidden)[:, None], 0.0)
        variance = tl.sum(centred * centred, axis=1) / hidden
        normed = centred * (1 / tl.sqrt(variance + EPS))[:, None] * scale[None, :] + shift[None, :]
        w = tl.load(gate_weight + k * hidden + h, mask=in_hidden, other=0.0).to(wide)
        # The norm turns the zeros of an absent neighbour into its bias, so they are put back.
        gate += tl.where(there[:, None], w[None, :] * normed, 0.0)
        a = tl.load(transport + k * channels + c, mask=in_channels, other=0.0).to(wide)
        moved = tl.load(x + at[:, None] * channels + c[None, :], mask=there[:, None] & in_channels[None, :], other=0.0)
        change += a[None, :] * moved.to(wide)
    u_at = row[:, None] * (2 * hidden) + h[None, :]
    u = tl.load(uv + u_at, mask=exists[:, None] & in_hidden[None, :], other=0.0).to(wide)
    gated = (u * gate).to(uv.dtype.element_ty)
    inside = in_hidden[:, None] & in_channels[None, :]
    projection = tl.load(out_weight + c[None, :] * hidden + h[:, None], mask=inside, other=0.0)
    if WIDEN:
        gated, projection = gated.to(wide), projection.to(wide)
    change += tl.dot(gated, projection, input_precision=PRECISION)
    change += tl.load(out_bias + c, mask=in_channels, other=0.0).to(wide)[None, :]
    if MASKED:
        change *= tl.load(update_mask + row, mask=exists, other=0.0).to(wide)[:, None]
    at = row[:, None] * channels + c[None, :]
    inside = exists[:, None] & in_channels[None, :]
    own = tl.load(x + at, mask=inside, other=0.0).to(wide)
    tl.store(y + at, (own + change).to(y.dtype.element_ty), mask=inside)


#: Whether the kernels run in Triton's interpreter, on any device: ``TRITON_INTERPRET=1`` when triton was imported.
INTERPRETED = not isinstance(neighbour_sum_kernel, triton.JITFunction)
