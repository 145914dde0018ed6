"""Surfaces: where a vector enters the lattice and where it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.lattice import Lattice
from cellgraph.numbers import plain_numbers


class Places(NamedTuple):
    """The cells of a surface among some cells.

    Attributes:
        row: Their rows among those cells.
        taken: Their numbers on the surface.
        num_cells: Number of those cells.
    """

    row: Tensor
    taken: Tensor
    num_cells: int


class Surface(nn.Module):
    """A set of cells that hold a vector in the first channels of their state.

    A vector of ``width = num_cells * channels`` values is laid out cell by cell, in node order, the channels of a
    cell together.

    Args:
        lattice: The lattice.
        nodes: A face's name, several names (their union), or a node mask ``[num_nodes]``: a tensor, a NumPy array or a
            list of truth values.
        channels: Number of values each cell holds.

    Raises:
        ValueError: If a face is unknown, the mask's size is not the number of nodes, or no cell is chosen.

    Example:
        >>> surface = Surface(Lattice((11, 15, 15)), "front")
        >>> surface.width
        225
        >>> x = surface.inject(torch.ones(2, 225), num_channels=64)
        >>> x.shape, bool((surface.extract(x) == 1).all())
        (torch.Size([2, 2475, 64]), True)
    """

    index: Tensor

    @plain_numbers
    def __init__(self, lattice: Lattice, nodes: Any, *, channels: int = 1) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"a surface needs at least 1 channel a cell, got {channels}")
        self.lattice = lattice
        self.channels = channels
        self.faces = _names(nodes)
        mask = lattice.node_mask(nodes) if self.faces is None else _union(lattice, self.faces)
        if not mask.any():
            raise ValueError(f"a surface needs at least one cell, the mask over {lattice.num_nodes} cells has none")
        self.mask = mask
        self.register_buffer("index", mask.nonzero().squeeze(1), persistent=False)

    @property
    def width(self) -> int:
        """Length of the vector that the surface holds."""
        return self.index.numel() * self.channels

    def inject(self, surface: Tensor, *, num_channels: int, places: Places | None = None) -> Tensor:
        """A state that is zero but for the surface.

        Args:
            surface: The vector.
            num_channels: Channels of the state.
            places: Which cells' state is wanted, see :meth:`places`; all cells' by default.

        Shapes:
            - **surface:** ``[batch, width]``
            - **output:** ``[batch, num_nodes, num_channels]``, or that of the wanted cells

        Raises:
            ValueError: If the vector's width is not the surface's, or the state has too few channels.
        """
        if not torch.compiler.is_compiling():
            if surface.dim() != 2 or surface.size(1) != self.width:
                raise ValueError(f"surface must be [batch, {self.width}], got {list(surface.shape)}")
            if num_channels < self.channels:
                raise ValueError(f"the surface needs {self.channels} channels of the state, it has {num_channels}")
        values = F.pad(surface.unflatten(1, (-1, self.channels)), (0, num_channels - self.channels))
        index, count = self.index, self.lattice.num_nodes
        if places is not None:
            index, count = places.row.to(index.device), places.num_cells
            values = values.index_select(1, places.taken.to(index.device))
        return surface.new_zeros(surface.size(0), count, num_channels).index_copy(1, index, values)

    def places(self, nodes: Tensor) -> Places:
        """Where among some cells, ``[num_cells]`` node numbers, those of the surface are."""
        row = torch.full((self.lattice.num_nodes,), -1)
        row[nodes] = torch.arange(len(nodes))
        found = row[self.mask]
        return Places(found[found >= 0], (found >= 0).nonzero().squeeze(1), len(nodes))

    def clamp(self, x: Tensor, injected: Tensor) -> Tensor:
        """The state ``x`` with the surface set back to what was injected; both ``[batch, num_nodes, channels]``."""
        clamped = torch.zeros_like(x, dtype=torch.bool).index_fill(1, self.index.to(x.device), True)
        clamped = clamped & (torch.arange(x.size(-1), device=x.device) < self.channels)
        return torch.where(clamped, injected, x)

    def extract(self, x: Tensor) -> Tensor:
        """The vector that the surface holds.

        Shapes:
            - **x:** ``[batch, num_nodes, channels]``
            - **output:** ``[batch, width]``
        """
        return self.read(x.index_select(1, self.index))

    def read(self, cells: Tensor) -> Tensor:
        """The vector that the surface holds, from the state of its own cells alone.

        Shapes:
            - **cells:** ``[batch, num_cells, channels]``
            - **output:** ``[batch, width]``
        """
        if not torch.compiler.is_compiling() and (cells.dim() != 3 or cells.size(-1) < self.channels):
            raise ValueError(f"a state of at least {self.channels} channels is read, got {list(cells.shape)}")
        return cells[..., : self.channels].flatten(1)

    def config(self) -> dict[str, object]:
        """The constructor's arguments but the lattice, as plain types."""
        return {"nodes": self.faces or self.mask.tolist(), "channels": self.channels}

    def extra_repr(self) -> str:
        return f"{self.faces or 'mask'}, cells={self.index.numel()}, channels={self.channels}"


def _names(nodes: Any) -> list[str] | None:
    """Names of faces; ``None`` where something else was given."""
    if isinstance(nodes, str):
        return [nodes]
    return list(nodes) if isinstance(nodes, Sequence) and all(isinstance(name, str) for name in nodes) else None


def _union(lattice: Lattice, names: Sequence[str]) -> Tensor:
    mask = torch.zeros(lattice.num_nodes, dtype=torch.bool)
    for name in names:
        mask = mask | lattice.face(name)
    return mask
