"""Cubes that read sequences: all at once, laid out on the surface, or one token after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cellgraph.lattice import Lattice
from cellgraph.nn import GMLPCell, Surface
from cellgraph.numbers import plain_numbers
from cellgraph.sequence.block import Block
from cellgraph.sequence.layouts import layout
from cellgraph.transport import Conveyor
from cellgraph.unroll import rollout


class _Cube(Block):
    """A lattice of gated cells between its front and its back."""

    @plain_numbers
    def __init__(
        self,
        width: int,
        *,
        shape: Sequence[int],
        num_steps: int,
        hidden: int,
        heads: int,
        neighbourhood: Any,
        gate_std: float,
        out_std: float,
        **options: Any,
    ) -> None:
        given = {"shape": list(shape), "num_steps": num_steps, "hidden": hidden, "heads": heads}
        more = {"neighbourhood": neighbourhood, "gate_std": gate_std, "out_std": out_std}
        super().__init__(width, **given, **more, **options)
        lattice = Lattice(tuple(shape), neighbourhood=neighbourhood)
        self.cell = GMLPCell(lattice, channels=width, hidden=hidden, heads=heads, gate_std=gate_std, out_std=out_std)
        self.num_steps = num_steps

    def compile_step(self, *, compiling: bool = True) -> None:
        """Make the step fast, in place, see :meth:`Cell.compile_step <cellgraph.nn.Cell.compile_step>`."""
        self.cell.compile_step(compiling=compiling)


class TokenCube(_Cube):
    """The tokens laid out on the front of a cube, one a cell, which the cells carry to the back and change on the way.

    New, the conveyor alone would hand each token on as it is (:class:`~cellgraph.transport.Conveyor`).

    Args:
        width: Features of a token, and channels of a cell.
        shape: Layers, rows and columns of the lattice; the front has a cell for each token of the longest sequence.
        num_steps: Steps of the rollout.
        hidden, heads, gate_std, out_std: See :class:`~cellgraph.nn.GMLPCell`.
        neighbourhood: See :class:`~cellgraph.Lattice`.
        order: How tokens are laid out, see :func:`~cellgraph.sequence.layout`.

    Raises:
        ValueError: If a value is out of range, or the steps do not cross the lattice.
    """

    kind = "cube"

    @plain_numbers
    def __init__(
        self,
        width: int,
        *,
        shape: Sequence[int] = (3, 4, 8),
        num_steps: int = 3,
        hidden: int = 128,
        heads: int = 8,
        neighbourhood: Any = 26,
        gate_std: float = 0.2,
        out_std: float = 1.0,
        order: str = "rows",
    ) -> None:
        super().__init__(
            width,
            shape=shape,
            num_steps=num_steps,
            hidden=hidden,
            heads=heads,
            neighbourhood=neighbourhood,
            gate_std=gate_std,
            out_std=out_std,
            order=order,
        )
        lattice = self.cell.lattice
        self.front, self.back = (Surface(lattice, face, channels=width) for face in ("front", "back"))
        self.conveyor = Conveyor.install(self.cell, self.front, self.back, num_steps=num_steps, clamped=False)
        self.conveyor.check_reach(num_steps)
        places = layout(order, *lattice.shape[1:])
        self.capacity = len(places)
        self.register_buffer("places", places, persistent=False)

    places: Tensor

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The sequence that follows."""
        batch, length, width = x.shape
        if not torch.compiler.is_compiling() and length > len(self.places):
            raise ValueError(f"the front of {self.cell.lattice} has {len(self.places)} cells, got {length} tokens")
        cells = self.places[:length]
        surface = x.new_zeros(batch, len(self.places), width).index_copy(1, cells, x)
        state = self.front.inject(surface.flatten(1), num_channels=width)
        last = rollout(self.cell, state.to(self.cell.dtype), num_steps=self.num_steps).x
        carried = last.index_select(1, self.back.index.index_select(0, cells)) / self.conveyor.gain(self.num_steps)
        return carried * mask[..., None], mask


class StreamCube(_Cube):
    """One token after another enters the front of a cube, spread over its cells; after each its back is read.

    The state of the cells is the memory: a sequence may be of any length.

    Args:
        width: Features of a token, and channels of a cell.
        shape: Layers, rows and columns of the lattice.
        num_steps: Steps of the rollout after each token.
        surface_channels: Values that each cell of the front takes.
        hidden, heads, gate_std, out_std: See :class:`~cellgraph.nn.GMLPCell`.
        neighbourhood: See :class:`~cellgraph.Lattice`.

    Raises:
        ValueError: If a value is out of range.
    """

    kind = "stream"

    @plain_numbers
    def __init__(
        self,
        width: int,
        *,
        shape: Sequence[int] = (2, 4, 4),
        num_steps: int = 1,
        surface_channels: int = 8,
        hidden: int = 128,
        heads: int = 8,
        neighbourhood: Any = 26,
        gate_std: float = 0.2,
        out_std: float = 1.0,
    ) -> None:
        super().__init__(
            width,
            shape=shape,
            num_steps=num_steps,
            hidden=hidden,
            heads=heads,
            neighbourhood=neighbourhood,
            gate_std=gate_std,
            out_std=out_std,
            surface_channels=surface_channels,
        )
        if surface_channels > width:
            raise ValueError(f"surface_channels must be at most the width {width}, got {surface_channels}")
        lattice = self.cell.lattice
        self.front = Surface(lattice, "front", channels=surface_channels)
        self.back = Surface(lattice, "back", channels=width)
        least = max(num_steps, lattice.shape[0] - 1)
        Conveyor.install(
            self.cell, self.front, Surface(lattice, "back", channels=surface_channels), num_steps=least, clamped=False
        )
        self.spread = nn.Linear(width, self.front.width)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The sequence that follows: the mean of the back's cells after each token."""
        entering = self.spread(x).to(self.cell.dtype) * mask[..., None]
        lattice = self.cell.lattice
        state = entering.new_zeros(len(x), lattice.num_nodes, self.width)
        heard = []
        # Behind the last token of the longest sequence there is nothing to read.
        there = mask.any(0).nonzero()
        longest = int(there[-1]) + 1 if len(there) else 1
        for surface in entering[:, :longest].unbind(1):
            state = state + self.front.inject(surface, num_channels=self.width)
            state = rollout(self.cell, state, num_steps=self.num_steps).x
            heard.append(state.index_select(1, self.back.index).mean(1))
        read = nn.functional.pad(torch.stack(heard, dim=1), (0, 0, 0, x.size(1) - longest))
        return read * mask[..., None], mask
