"""The layout: the cells of many grids in a table, a row for each task, with the places of their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from cellgraph.automata.tasks.arc2d.grids import GridPair

#: What stands where a row has no cell.
OUTSIDE = -1


@dataclass(frozen=True)
class GridLayout:
    """Grids of different shapes side by side: a row has all cells of some grids, one grid after the other.

    Attributes:
        source: Colours, ``[rows, cells]``; behind the last grid of a row they are :data:`OUTSIDE`.
        target: Colours that they are to become, likewise.
        grid: Number of each cell's grid within its row, likewise.
        neighbours: Place in its row of each cell's neighbour by direction, ``[rows, cells, taps]``, the centre last; of
            those outside of the grid it is ``cells``.
        opposite: For each direction the one that leads back, ``[taps]``.
    """

    source: Tensor
    target: Tensor
    grid: Tensor
    neighbours: Tensor
    opposite: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[GridPair]], offsets: Sequence[Sequence[int]]) -> GridLayout:
        """Lay out grids.

        Args:
            rows: The pairs of each row.
            offsets: Where neighbours are, as of :class:`~cellgraph.Lattice`.

        Raises:
            ValueError: If an offset has no opposite.
        """
        taps = [*map(tuple, offsets), (0, 0)]
        missing = [tap for tap in taps if (-tap[0], -tap[1]) not in taps]
        if missing:
            raise ValueError(f"each offset must have its opposite, {missing[0]} has none in {taps[:-1]}")
        cells = max(sum(pair.cells for pair in row) for row in rows)
        laid = np.full((3, len(rows), cells), OUTSIDE)
        neighbours = np.full((len(rows), cells, len(taps)), cells)
        for number, row in enumerate(rows):
            start = 0
            for grid, pair in enumerate(row):
                own = slice(start, start + pair.cells)
                laid[:, number, own] = pair.source.ravel(), pair.target.ravel(), np.full(pair.cells, grid)
                height, width = pair.source.shape
                y, x = np.divmod(np.arange(pair.cells), width)
                for tap, (down, right) in enumerate(taps):
                    there = (y + down >= 0) & (y + down < height) & (x + right >= 0) & (x + right < width)
                    neighbours[number, own, tap] = np.where(there, start + (y + down) * width + x + right, cells)
                start += pair.cells
        opposite = [taps.index((-down, -right)) for down, right in taps]
        source, target, own_grid = torch.from_numpy(laid)
        return cls(source, target, own_grid, torch.from_numpy(neighbours), torch.tensor(opposite))

    @property
    def inside(self) -> Tensor:
        """Where there is a cell, ``[rows, cells]``."""
        return self.grid != OUTSIDE

    def select(self, index: Tensor) -> GridLayout:
        """Some of the rows, no longer than the longest of them."""
        grid = self.grid[index]
        cells = int((grid != OUTSIDE).sum(1).max())
        source, target = self.source[index, :cells], self.target[index, :cells]
        neighbours = self.neighbours[index, :cells].clamp(max=cells)
        return GridLayout(source, target, grid[:, :cells], neighbours, self.opposite)

    def to(self, device: torch.device | str) -> GridLayout:
        """The grids on a device."""
        return GridLayout(*(getattr(self, part.name).to(device) for part in fields(self)))

    def coloured(self, colours: Tensor) -> GridLayout:
        """The same grids in other colours.

        Args:
            colours: What becomes of each colour, ``[rows, grids, 10]``.
        """
        source, target = (self._mapped(part, colours) for part in (self.source, self.target))
        return GridLayout(source, target, self.grid, self.neighbours, self.opposite)

    def _mapped(self, part: Tensor, colours: Tensor) -> Tensor:
        place = self.grid.clamp(min=0) * colours.size(2) + part.clamp(min=0)
        return torch.where(self.inside, colours.flatten(1).gather(1, place), OUTSIDE)

    def turned(self, taps: Tensor) -> GridLayout:
        """The same grids as they look when the directions are others: mirrored or rotated, where the cells stay.

        Args:
            taps: The direction that each is to be, ``[taps]``, one of :func:`turns`.
        """
        taps = taps.to(self.opposite.device)
        opposite = taps.argsort()[self.opposite[taps]]
        return GridLayout(self.source, self.target, self.grid, self.neighbours[..., taps], opposite)


def turns(offsets: Sequence[Sequence[int]]) -> Tensor:
    """The rotations and mirrors of the square as permutations of the directions, ``[8, taps]``, the first changes none.

    Raises:
        ValueError: If the offsets are not alike in all of them.
    """
    taps = [*map(tuple, offsets), (0, 0)]
    found = []
    for mirrored in (False, True):
        turned = [(y, -x) if mirrored else (y, x) for y, x in taps]
        for _ in range(4):
            if set(turned) != set(taps):
                raise ValueError(f"to be turned, offsets must be alike in all rotations and mirrors, got {taps[:-1]}")
            found.append([taps.index(tap) for tap in turned])
            turned = [(x, -y) for y, x in turned]
    return torch.tensor(found)
