"""Several steps of the shared gMLP cell as one differentiable operator."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from cellgraph.cone import LightCone
from cellgraph.graph import Graph
from cellgraph.ops.fused.instruction_set import chosen_instruction_set
from cellgraph.ops.fused.naive import naive_steps
from cellgraph.ops.transforms import is_transformed, refuse_transforms

#: Cones whose tables are kept: one for each number of steps that training draws from.
MOST_PLANS = 64


class Plan(NamedTuple):
    """What the operator is told of the cells that it computes.

    Attributes:
        tables: Ten a distinct step, see ``gmlp_steps.cpp``, int32.
        centres: Two a distinct step, the first own and lent source that is a centre.
        order: The distinct step that each step is.
    """

    tables: list[Tensor]
    centres: list[int]
    order: list[int]


class FusedSteps:
    """The cells and neighbours of a graph as the operator wants them, and the operator.

    Args:
        graph: The graph, in which no cell hears two others from the same direction.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._whole = LightCone(graph, torch.ones(graph.num_nodes, dtype=torch.bool), 1)
        self._plans: dict[LightCone, Plan] = {}

    @staticmethod
    def fits(x: Tensor, channels: int, hidden: int) -> bool:
        """Whether the operator computes with such a state here: on a CPU, in float32, float64 or bfloat16 autocast,
        with whole vectors of the build's width as channels, and not under a compiler, an exporter or a functional
        transform."""
        if torch.compiler.is_compiling() or x.device.type != "cpu" or torch.jit.is_tracing():
            return False
        if torch._C._are_functorch_transforms_active():
            return False
        if x.dtype not in (torch.float32, torch.float64):
            return False
        bytes_in, bytes_hidden = channels * x.element_size(), hidden * x.element_size()
        if any(width % chosen_instruction_set().vector_bytes for width in (bytes_in, bytes_hidden)):
            return False
        if bytes_in > 2048 or bytes_hidden > 4096:  # the arrays of `Cell` hold no more
            return False
        return not torch.is_autocast_enabled("cpu") or (
            x.dtype == torch.float32 and torch.get_autocast_dtype("cpu") in (torch.bfloat16, torch.float32)
        )

    def walk(
        self,
        x: Tensor,
        masks: Tensor | None,
        parameters: list[Tensor],
        *,
        share: float,
        num_steps: int,
        every: int,
        cone: LightCone | None = None,
        lent: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Take several steps.

        Args:
            x: State, ``[batch, num_nodes, channels]``; with a cone that of its first own cells.
            masks: Update masks, ``[num_steps, batch, num_nodes, 1]``.
            parameters: The cell's parameters in the order of ``cell.h``, spatial weights for each channel.
            share: The share of the update that all cells take where there are no masks.
            num_steps: Number of steps, at least one.
            every: Keep for backward the state at every so many steps.
            cone: The cells to compute; all of them by default.
            lent: With a cone, the state of its first lent cells, ``[num_lent, channels]``.

        Returns:
            The last state, with a cone that of its last own cells, and that of the last lent cells.

        Raises:
            NotImplementedError: Under a functional transform.
            ValueError: If a shape does not fit: the operator checks none and would read what lies beside a tensor.
        """
        refuse_transforms("the fused step")
        nodes, channels = self.graph.num_nodes, parameters[0].size(-1)
        own, others = (nodes, 0) if cone is None else (len(cone.own[0]), len(cone.lent[0]))
        if x.dim() != 3 or x.shape[1:] != (own, channels):
            raise ValueError(f"x must be [batch, {own}, {channels}], got {list(x.shape)}")
        if (0 if lent is None else len(lent)) != others or (lent is not None and lent.shape != (others, channels)):
            raise ValueError(f"lent must be [{others}, {channels}], got {None if lent is None else list(lent.shape)}")
        if cone is not None and num_steps != cone.num_steps:
            raise ValueError(f"num_steps must be those of the cone, {cone.num_steps}, got {num_steps}")
        if num_steps < 1 or every < 1:
            raise ValueError(f"num_steps and every must be positive, got {num_steps} and {every}")
        narrow = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        inputs = (x, *parameters) if lent is None else (x, lent, *parameters)
        keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
        every = min(every, num_steps) if keep else num_steps
        masks = x.new_empty(0) if masks is None else _spread(masks, (num_steps, x.size(0), nodes)).to(x.dtype)
        lent = x.new_empty(0, x.size(-1)) if lent is None else lent
        settings = (share, *self._plan(cone, num_steps), every, narrow)
        return _Steps.apply(settings, x.contiguous(), lent.contiguous(), masks, *(p.contiguous() for p in parameters))

    def _plan(self, cone: LightCone | None, num_steps: int) -> Plan:
        key = cone or self._whole
        if key not in self._plans:
            self._plans[key] = self._tables(key)
            # A cone that is made anew for every call must not fill the memory.
            if len(self._plans) > MOST_PLANS:
                del self._plans[next(other for other in self._plans if other is not self._whole)]
        return self._plans[key] if cone is not None else self._plans[key]._replace(order=[0] * num_steps)

    def _tables(self, cone: LightCone) -> Plan:
        tables: list[Tensor] = []
        for own, lent in cone.steps:
            row = torch.full((len(lent.source),), -1)
            row[own.lender] = torch.arange(len(own.lender))
            parts = [own.target, own.source, own.heard, own.hears, own.lender]
            parts += [lent.target, lent.source, lent.heard, lent.hears, row]
            tables += [part.int().contiguous() for part in parts if part is not None]
        centres = [step.first_centre for pair in cone.steps for step in pair]
        return Plan(tables, centres, list(range(cone.num_steps)))


def _spread(masks: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Update masks, ``[*shape, 1]`` or what broadcasts to that, as values side by side, ``shape``."""
    try:
        return masks.expand(*shape, 1).squeeze(-1).contiguous()
    except RuntimeError:
        wanted = [*shape[1:], 1]
        raise ValueError(f"update_mask must be {wanted}, got {list(masks.shape[1:])}") from None


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, settings: tuple[Any, ...], own: Tensor, lent: Tensor, masks: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        share, tables, centres, order, every, narrow = settings
        last, lent_last, states, lent_states = torch.ops.cellgraph.gmlp_steps(
            own, lent, masks, share, tables, centres, order, parameters, every, narrow
        )
        ctx.settings = settings
        ctx.save_for_backward(own, lent, masks, states, lent_states, *parameters)
        return last, lent_last

    @staticmethod
    def backward(ctx: Any, grad: Tensor, lent_grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() or is_transformed(grad, lent_grad):
            return _differentiable_backward(ctx, grad, lent_grad)
        share, tables, centres, order, every, narrow = ctx.settings
        own, lent, masks, states, lent_states, *parameters = ctx.saved_tensors
        own_grad, lent_grad, *grads = torch.ops.cellgraph.gmlp_steps_backward(
            grad.contiguous(),
            lent_grad.contiguous(),
            own,
            lent,
            states,
            lent_states,
            masks,
            share,
            tables,
            centres,
            order,
            parameters,
            every,
            narrow,
        )
        return None, own_grad, lent_grad, None, *grads


def _differentiable_backward(ctx: Any, grad: Tensor, lent_grad: Tensor) -> tuple[Tensor | None, ...]:
    """The same gradients by operators that can be differentiated again, and that know transforms: for derivatives of
    second order, which are rarely wanted, the steps are taken once more by these."""
    share, tables, _, order, _, _ = ctx.settings
    own, lent, masks, _, _, *parameters = ctx.saved_tensors
    inputs = (None, own, lent, None, *parameters)
    asked = [place for place, needed in enumerate(ctx.needs_input_grad) if needed]
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        last = naive_steps(own, lent, masks, share, tables, order, parameters)
        wanted = [inputs[place] for place in asked]
        found = torch.autograd.grad(
            last, wanted, (grad, lent_grad), create_graph=again, allow_unused=True, materialize_grads=True
        )
    grads: list[Tensor | None] = [None] * len(inputs)
    for place, gradient in zip(asked, found, strict=True):
        grads[place] = gradient
    return tuple(grads)
