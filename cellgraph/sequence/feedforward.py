"""The cube in the place of a perceptron: each vector through a lattice of its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cellgraph.lattice import Lattice
from cellgraph.nn import GMLPCell, Readout, Surface
from cellgraph.nn.adapter import check_width
from cellgraph.numbers import plain_numbers
from cellgraph.unroll import rollout


class CubeFeedForward(nn.Module):
    r"""What a perceptron is to a transformer: from each vector, by itself, to what is added to it.

    .. math:: y = R \, [x_T], \qquad x_0 = \mathrm{inject}(E x)

    The vectors of a sequence do not hear each other here, so that a causal model stays causal. R is zero when new:
    nothing is added.

    Args:
        width: Features of a vector.
        shape: Layers, rows and columns of the lattice.
        channels, hidden, heads: See :class:`~cellgraph.nn.GMLPCell`.
        num_steps: Steps of the rollout.
        surface_channels: Values that each cell of the front takes.

    Shapes:
        - **x**, **output:** ``[..., width]``

    Raises:
        ValueError: If a number is out of range, or the steps do not cross the lattice; if a vector has another width.

    Example:
        >>> import torch
        >>> bool(CubeFeedForward(16, shape=(2, 2, 2), channels=8, hidden=8, heads=1)(torch.ones(3, 5, 16)).any())
        False
    """

    @plain_numbers
    def __init__(
        self,
        width: int,
        *,
        shape: Sequence[int] = (2, 4, 4),
        channels: int = 32,
        hidden: int = 64,
        heads: int = 4,
        num_steps: int = 2,
        surface_channels: int = 4,
    ) -> None:
        super().__init__()
        lattice = Lattice(tuple(shape), neighbourhood=26)
        if num_steps < lattice.shape[0] - 1:
            raise ValueError(f"num_steps must cross the {lattice.shape[0]} layers, got {num_steps}")
        self.cell = GMLPCell(lattice, channels=channels, hidden=hidden, heads=heads, gate_std=0.2, out_std=1.0)
        self.front = Surface(lattice, "front", channels=surface_channels)
        self.encode = nn.Linear(width, self.front.width)
        self.readout = Readout(Surface(lattice, "back").mask, channels, width)
        self.num_steps = num_steps

    def forward(self, x: Tensor) -> Tensor:
        """What is added."""
        check_width(x, self.encode.in_features, "x")
        rows = self.encode(x.reshape(-1, x.size(-1))).to(self.cell.dtype)
        state = self.front.inject(rows, num_channels=self.cell.channels)
        last = rollout(self.cell, state, num_steps=self.num_steps).x
        added = self.readout(last.index_select(1, self.readout.index))
        return added.view(x.shape).to(x.dtype)

    def compile_step(self, *, compiling: bool = True) -> None:
        """Make the steps fast, in place, see :meth:`Cell.compile_step <cellgraph.nn.Cell.compile_step>`."""
        self.cell.compile_step(compiling=compiling)
