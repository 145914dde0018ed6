"""The sum as a depthwise convolution over the full grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.ops.backend import Case
from cellgraph.ops.grid import GridBackend, from_grid, to_grid
from cellgraph.ops.stencil import pad

if TYPE_CHECKING:
    from cellgraph.ops.neighbour_sum import NeighbourSum


class Conv(GridBackend):
    """A depthwise convolution of torch; weights shared by all cells only."""

    name = "conv"
    # Compiled, steps around it took 0.8 of the time in training and 1.3 of it forward, for a minute of compiling.
    compiles = False

    def fits(self, case: Case) -> str | None:
        """A lattice whose cells share their weights."""
        if not case.shared:
            return "shares its weights between all cells, use 'stencil' for weights of layers or cells"
        return super().fits(case)

    def run(self, layer: NeighbourSum, x: Tensor, weight: Tensor) -> Tensor:
        """Sum ``x`` over the neighbourhoods.

        Raises:
            ValueError: If there is a weight for each cell.
        """
        if weight.size(1) != 1:
            raise ValueError(f"backend 'conv' {self.fits(Case(layer.lattice, shared=False))}")
        lattice, channels, radius = layer.lattice, x.size(-1), layer.lattice.radius
        side = 2 * radius + 1
        moves = torch.tensor([*lattice.offsets, (0,) * lattice.dim], device=x.device)
        place = ((moves + radius) * side ** torch.arange(lattice.dim - 1, -1, -1, device=x.device)).sum(1)
        dtype = torch.promote_types(x.dtype, weight.dtype)
        kernel = weight.new_zeros(side**lattice.dim, channels, dtype=dtype).index_copy(0, place, weight[:, 0].to(dtype))
        kernel = kernel.T.reshape(channels, 1, *(side,) * lattice.dim)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[lattice.dim - 1]
        grid = pad(to_grid(layer, x).to(dtype), layer.periodic, radius)
        # Autocast would take a convolution in half precision, and its sum with it.
        with torch.autocast(x.device.type, enabled=False):
            summed = convolve(grid.movedim(-1, 1), kernel, groups=channels)
        return from_grid(layer, summed.movedim(1, -1))
