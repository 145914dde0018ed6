"""The backend of GPUs: Triton kernels for the sum and for the gated half of a step."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellgraph.lattice import Lattice
from cellgraph.ops.backend import Case
from cellgraph.ops.grid import GridBackend
from cellgraph.ops.triton.gate import fits_gated_step, gated_step
from cellgraph.ops.triton.stencil import triton_sum

if TYPE_CHECKING:
    from cellgraph.ops.neighbour_sum import NeighbourSum

#: Places that the table of neighbours may have: the kernels count them in 32 bits.
MOST_PLACES = 2**31 - 1


class Triton(GridBackend):
    """Triton kernels: the sum, and most of a step of the gated cell."""

    name = "triton"
    is_opaque = True

    def needs(self) -> str | None:
        """Triton, and a GPU or Triton's interpreter."""
        if importlib.util.find_spec("triton") is None:
            return "needs triton: pip install cellgraph[gpu]"
        if not torch.cuda.is_available() and not self.is_simulated:
            return "needs a GPU, or Triton's interpreter: set TRITON_INTERPRET=1 before the start"
        return None

    def fits(self, case: Case) -> str | None:
        """A lattice on a GPU, each offset's opposite an offset, of no more cells than can be counted."""
        graph = case.graph
        if (graph.num_directions + 1) * graph.num_nodes > MOST_PLACES:
            return f"counts up to {MOST_PLACES:,} places of neighbours, got {graph.num_nodes:,} cells"
        if isinstance(graph, Lattice) and not graph.is_symmetric:
            return f"needs the opposite of each offset, got {graph.offsets}"
        if case.device is not None and case.device.type != "cuda" and not self.is_simulated:
            return f"runs on a GPU, got a tensor on {case.device}"
        return super().fits(case)

    @property
    def is_simulated(self) -> bool:
        """Whether the kernels run in Triton's interpreter."""
        # Triton takes a moment to import, and interprets only where it was told to before.
        if importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET", "0") in ("", "0"):
            return False
        from cellgraph.ops.triton import kernels

        return kernels.INTERPRETED

    def run(self, layer: NeighbourSum, x: Tensor, weight: Tensor) -> Tensor:
        """Sum ``x`` over the neighbourhoods."""
        return triton_sum(x, weight, layer.neighbours, False, torch.promote_types(x.dtype, weight.dtype))

    def gated_step(self, channels: int, hidden: int) -> Callable[..., Tensor] | None:
        """The gated step as one kernel, where the projection is small enough."""
        return gated_step if fits_gated_step(channels, hidden) else None
