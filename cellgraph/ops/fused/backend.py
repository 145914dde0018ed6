"""The backend of processors: whole steps of a gMLP cell by one C++ operator."""

from __future__ import annotations

import torch

from cellgraph.ops.backend import Case
from cellgraph.ops.fused.build import find_compiler, load_operators
from cellgraph.ops.stencil import Stencil


class Fused(Stencil):
    """``stencil``, but a :class:`~cellgraph.nn.GMLPCell` on a CPU takes whole steps by one C++ operator."""

    name = "fused"
    takes_steps = True
    compiles = False

    def needs(self) -> str | None:
        """A C++ compiler."""
        return None if find_compiler() else "needs a C++ compiler"

    def fits(self, case: Case) -> str | None:
        """A lattice on a CPU in float32 or float64, its weights shared."""
        if not case.shared:
            return "shares its weights between all cells, use 'stencil' for weights of layers or cells"
        if case.device is not None and case.device.type != "cpu":
            return f"runs on a CPU, got a tensor on {case.device}"
        if case.dtype not in (None, torch.float32, torch.float64):
            return f"computes in float32 or float64, got {case.dtype}"
        return super().fits(case)

    def load(self) -> bool:
        """Build the operators, where that was not done before, and load them."""
        return load_operators()
