"""The walk: many automata, each with weights of its own, on the grids of their tasks at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from cellgraph.automata.tasks.arc2d.layout import GridLayout
from cellgraph.nn import NCACell

#: As `torch.nn.functional.rms_norm` takes it for float32.
EPSILON = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Neighbours:
    """Where rows of states find their neighbours, as one index into all of them.

    Attributes:
        forth: Place of each neighbour among the cells of all rows, each with a cell of zeros behind its last.
        back: Place of what each cell gave to its neighbours.
        taps: Number of directions with the centre.
    """

    forth: Tensor
    back: Tensor
    taps: int

    @classmethod
    def of(cls, layout: GridLayout) -> Neighbours:
        """Those of a layout."""
        there = layout.neighbours
        rows, cells, taps = there.shape
        row = torch.arange(rows, device=there.device)[:, None, None]
        # What a cell gives in a direction, its neighbour on the other side hears.
        behind = there[..., layout.opposite]
        own = (behind + row * cells) * taps + torch.arange(taps, device=there.device)
        back = torch.where(behind < cells, own, rows * cells * taps)
        return cls((there + row * (cells + 1)).flatten(), back.flatten(), taps)

    def gather(self, x: Tensor) -> Tensor:
        """All neighbours of each cell side by side, ``[rows, cells, taps * channels]``."""
        rows, cells, channels = x.shape
        padded = torch.cat([x, x.new_zeros(rows, 1, channels)], dim=1).view(-1, channels)
        return padded.index_select(0, self.forth).view(rows, cells, -1)

    def scatter(self, heard: Tensor) -> Tensor:
        """The transpose of :meth:`gather`, ``[rows, cells, channels]``; as a gathering it needs no atomic sums."""
        rows, cells, width = heard.shape
        channels = width // self.taps
        padded = torch.cat([heard.reshape(-1, channels), heard.new_zeros(1, channels)])
        return padded.index_select(0, self.back).view(rows, cells, self.taps, channels).sum(2)


class _Step(torch.autograd.Function):
    """A step of the cell, which keeps for backward what it perceived only as the states that it is made of."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: Tensor, inner: Tensor, outer: Tensor, bias: Tensor, near: Neighbours, size: float
    ) -> Tensor:
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON)
        seen = (x * scale).to(base.dtype)
        hidden = torch.baddbmm(base, near.gather(seen), inner).relu_()
        ctx.save_for_backward(seen, scale, hidden, inner, outer)
        ctx.near, ctx.size = near, size
        return x.add(torch.baddbmm(bias, hidden, outer).to(x.dtype), alpha=size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        seen, scale, hidden, inner, outer = ctx.saved_tensors
        out = (grad * ctx.size).to(seen.dtype)
        d_outer = torch.bmm(hidden.transpose(1, 2), out)
        d_hidden = torch.bmm(out, outer.transpose(1, 2)).mul_(hidden > 0)
        d_inner = torch.bmm(ctx.near.gather(seen).transpose(1, 2), d_hidden)
        heard = ctx.near.scatter(torch.bmm(d_hidden, inner.transpose(1, 2))).to(grad.dtype)
        seen = seen.to(grad.dtype)
        d_x = torch.addcmul(grad, scale, heard - seen * (seen * heard).mean(-1, keepdim=True))
        return d_x, d_hidden, d_inner, d_outer, out.sum(1, keepdim=True), None, None


def walk(
    cell: NCACell,
    weights: Mapping[str, Tensor],
    layout: GridLayout,
    x: Tensor,
    context: Tensor,
    *,
    num_steps: int,
    half: bool = False,
) -> list[Tensor]:
    """Let automata of one kind run, each with weights and grids of its own: what :func:`~cellgraph.unroll.rollout`
    does with each of them, on each grid as on a lattice.

    Args:
        cell: The cell, for what it is made of: see :func:`check_cell`.
        weights: Its weights by name, each ``[rows, *shape]``.
        layout: The grids.
        x: States at the start, ``[rows, cells, channels]``.
        context: What cells are told, ``[rows, cells, context_channels]``.
        num_steps: Steps.
        half: Whether products are taken in bfloat16.

    Returns:
        The states before the first step and after each.
    """
    dtype = torch.bfloat16 if half else x.dtype
    inside = layout.inside[..., None]
    near = Neighbours.of(layout)
    # [rows, taps, channels, hidden]: the sums of the perception and what the hidden layer makes of them, in one.
    taps, own = weights["perception.weight"].squeeze(2), weights["updating.inner.weight"].transpose(1, 2)
    first, *sums = own.split(cell.channels, dim=1)
    inner = torch.stack(
        [tap[..., None] * many[:, None] for tap, many in zip(taps.split(cell.channels, dim=2), sums, strict=True)]
    ).sum(0)
    centre = F.one_hot(torch.tensor(near.taps - 1, device=x.device), near.taps)[:, None, None].to(inner.dtype)
    inner = (inner + centre * first[:, None]).flatten(1, 2).to(dtype)
    outer = weights["updating.outer.weight"].transpose(1, 2).to(dtype)
    told = torch.bmm(context, weights["updating.context.weight"].transpose(1, 2))
    base = (told + weights["updating.inner.bias"][:, None]).to(dtype)
    bias = weights["updating.outer.bias"][:, None].to(dtype)
    states = [x * inside]
    for _ in range(num_steps):
        # Cells that a row has not are no one's neighbours; they need not stay at zero.
        states.append(_Step.apply(states[-1], base, inner, outer, bias, near, cell.step_size))
    return [state * inside for state in states]


def check_cell(cell: Any) -> NCACell:
    """The cell, which :func:`walk` must know.

    Raises:
        ValueError: If it is not an :class:`~cellgraph.nn.NCACell` of a learned stencil, an MLP and a norm, whose cells
            all live and all update at every step.
    """
    wanted = {"norm": "rms", "fire_rate": 1.0, "memory_channels": 0, "alive_channel": None, "order": "synchronous"}
    parts = {"perception": "stencil", "update": "mlp"}
    got = {name: getattr(cell, name, None) for name in wanted}
    got |= {part: cell.parts[part]["name"] for part in parts} if isinstance(cell, NCACell) else dict.fromkeys(parts)
    wanted |= parts
    for name in wanted:
        if got[name] != wanted[name]:
            raise ValueError(f"the cell must be an NCACell with {name} {wanted[name]!r}, got {got[name]!r}")
    if not cell.parts["perception"].get("trainable", True):
        raise ValueError("the cell's perception must be learned, got trainable False")
    return cell
