"""Whole steps: the gated cell's step by operators that compute all of it, where one fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor

from cellgraph.cone import LightCone
from cellgraph.nn.cell import Cell
from cellgraph.nn.partial import activation
from cellgraph.ops import AUTO, Backend, Case, candidates, find_backend
from cellgraph.ops.fused import FusedSteps
from cellgraph.ops.transforms import is_transformed

if TYPE_CHECKING:
    from cellgraph.nn.gmlp import GMLPCell


class WholeSteps(Cell):
    """What a :class:`~cellgraph.nn.GMLPCell` knows of operators that take its steps: which fit, how they are called."""

    hidden: int
    sharing: str
    norm_transport: bool

    #: Whether the step is the gated cell's own: operators of whole steps know no other.
    has_its_step: ClassVar[bool] = True

    _fused_steps: FusedSteps | None = None

    def forward(self, x: Tensor, update_mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """One step of all the cells at once, see :meth:`Cell.forward`."""
        if not torch.compiler.is_compiling():
            self.check_state(x)
            self.check_context(x, context)
            self.settle(x, context=context is not None)
        if context is None and self.fuses(x) and not (update_mask is not None and update_mask.requires_grad):
            return self.walk(x, None if update_mask is None else update_mask[None], num_steps=1)[0]
        gated_step = self.neighbour_sum.running.gated_step(self.channels, self.hidden) if self.is_standard else None
        if gated_step is not None:
            return self._gated_step(gated_step, x, update_mask, context)
        return super().forward(x, update_mask, context)

    @property
    def is_standard(self) -> bool:
        """Whether a step is one that operators of whole steps compute: plain, with weights that all cells share and a
        transport of the state itself."""
        standard = self.sharing == "shared" and self.dynamics.is_plain and not self.norm_transport
        return standard and self.has_its_step

    def case(self, x: Tensor | None = None) -> Case:
        """What the cell asks of a backend, see :meth:`Cell.case`."""
        return replace(super().case(x), shared=self.sharing == "shared")

    def candidates(self, x: Tensor) -> list[Backend]:
        """The backends that can take a step from such a state, see :meth:`Cell.candidates`."""
        stepping = self.is_standard and FusedSteps.fits(x, self.channels, self.hidden)
        return [backend for backend in candidates(self.case(x)) if stepping or not backend.takes_steps]

    def fuses(self, x: Tensor) -> bool:
        """Whether steps from such a state are taken by the fused operator."""
        chosen = self.neighbour_sum.chosen
        fits = chosen.takes_steps and self.is_standard and FusedSteps.fits(x, self.channels, self.hidden)
        return fits and x.dtype == self.dtype and not is_transformed() and chosen.load()

    def walk(
        self,
        x: Tensor,
        masks: Tensor | None,
        *,
        num_steps: int,
        remat_every: int = 0,
        cone: LightCone | None = None,
        lent: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Take several steps by the fused operator, see :meth:`Cell.walk`."""
        if self._fused_steps is None:
            self._fused_steps = FusedSteps(self.lattice)
        cell = cast("GMLPCell", self)
        parameters = [
            cell.position,
            *(cell.norm_weight[0], cell.norm_bias[0], cell.in_weight[0], cell.in_bias[0]),
            *(cell.gate_norm_weight[0], cell.gate_norm_bias[0], cell.wide_gate_weight[:, 0], cell.gate_bias[0]),
            *(cell.out_weight[0], cell.out_bias[0], cell.transport[:, 0]),
        ]
        return self._fused_steps.walk(
            x,
            None if masks is None else self.dynamics.share(masks),
            parameters,
            share=self.dynamics.share(),
            num_steps=num_steps,
            every=remat_every or 1,
            cone=cone,
            lent=lent,
        )

    def _gated_step(
        self, step: Callable[..., Tensor], x: Tensor, update_mask: Tensor | None, context: Tensor | None
    ) -> Tensor:
        cell = cast("GMLPCell", self)
        uv = activation(cell, x, context)
        # A rate is folded into the weights, which are small; only a mask has to reach the kernel.
        rate = self.dynamics.share() if update_mask is None else self.step_size
        return step(
            uv,
            x,
            cell.gate_norm_weight[0],
            cell.gate_norm_bias[0],
            cell.wide_gate_weight,
            cell.gate_bias[0],
            (rate * cell.out_weight[0]).to(uv.dtype),
            rate * cell.out_bias[0],
            rate * cell.transport,
            # The kernel looks up each cell's own.
            None if update_mask is None else update_mask.expand(x.size(0), x.size(1), 1),
            self.neighbour_sum.neighbours,
        )

    def _check_backend(self, name: str) -> None:
        super()._check_backend(name)
        if name == AUTO or not find_backend(name).takes_steps:
            return
        if not self.is_standard:
            raise ValueError(
                f"backend {name!r} takes plain steps only, of a GMLPCell, got {type(self).__name__} with "
                f"norm_transport={self.norm_transport}, "
                f"order={self.order!r}, alive_channel={self.alive_channel}"
            )
        if not find_backend(name).load():
            raise ValueError(f"backend {name!r} could not be built here")
