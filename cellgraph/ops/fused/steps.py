"""Several steps of the shared gMLP cell as one differentiable operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class FusedSteps:
    """The neighbours of a lattice as the operator wants them, and the operator.

    Args:
        neighbours: The neighbour of every cell in every direction, -1 where there is none,
            ``[num_directions, num_nodes]``.
    """

    def __init__(self, neighbours: Tensor) -> None:
        self.source = neighbours.cpu().int().contiguous()
        self.target = torch.full_like(self.source, -1)
        direction, target = (self.source >= 0).nonzero(as_tuple=True)
        source = self.source[direction, target]
        self.target[direction, source.long()] = target.int()
        self.reach = int((source - target).abs().max()) if len(source) else 0

    @staticmethod
    def fits(x: Tensor, channels: int, hidden: int) -> bool:
        """Whether the operator computes with such a state here: on a CPU, in float32, float64 or bfloat16 autocast,
        with whole vectors of 64 bytes as channels, and not under a compiler, an exporter or a functional transform."""
        if torch.compiler.is_compiling() or x.device.type != "cpu" or torch.jit.is_tracing():
            return False
        if torch._C._are_functorch_transforms_active():
            return False
        lanes = {torch.float32: 16, torch.float64: 8}.get(x.dtype)
        if lanes is None or channels % lanes or hidden % lanes or channels > 32 * lanes or hidden > 64 * lanes:
            return False
        return not torch.is_autocast_enabled("cpu") or (
            x.dtype == torch.float32 and torch.get_autocast_dtype("cpu") in (torch.bfloat16, torch.float32)
        )

    def walk(
        self, x: Tensor, masks: Tensor | None, parameters: list[Tensor], *, share: float, num_steps: int, every: int
    ) -> Tensor:
        """Take several steps.

        Args:
            x: State, ``[batch, num_nodes, channels]``.
            masks: Update masks, ``[num_steps, batch, num_nodes, 1]``.
            parameters: The cell's parameters in the order of ``cell.h``, spatial weights for each channel.
            share: The share of the update that all cells take where there are no masks.
            num_steps: Number of steps, at least one.
            every: Keep for backward the state at every so many steps.
        """
        narrow = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        keep = torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in parameters))
        every = every if keep else num_steps
        masks = x.new_empty(0) if masks is None else masks.to(x.dtype).contiguous()
        settings = (share, self.source, self.target, self.reach, num_steps, every, narrow)
        return _Steps.apply(settings, x.contiguous(), masks, *(p.contiguous() for p in parameters))


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, settings: tuple[Any, ...], x: Tensor, masks: Tensor, *parameters: Tensor) -> Tensor:
        share, source, target, reach, num_steps, every, narrow = settings
        states = torch.ops.cellgraph.gmlp_steps(
            x, masks, share, source, target, reach, parameters, num_steps, every, narrow
        )
        ctx.settings = settings
        ctx.save_for_backward(x, masks, states, *parameters)
        return states[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        share, source, target, reach, num_steps, every, narrow = ctx.settings
        x, masks, states, *parameters = ctx.saved_tensors
        grad_x, *grads = torch.ops.cellgraph.gmlp_steps_backward(
            grad.contiguous(), x, states, masks, share, source, target, reach, parameters, num_steps, every, narrow
        )
        return None, grad_x, None, *grads
