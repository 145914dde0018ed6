"""The lattice: a static grid graph in one, two or three dimensions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cellgraph.graph import Graph
from cellgraph.numbers import has_axis, integer, integers

#: Neighbourhoods by dimension: number of neighbours -> largest number of axes an offset may move along.
NEIGHBOURHOODS: dict[int, dict[int, int]] = {1: {2: 1}, 2: {4: 1, 8: 2}, 3: {6: 1, 18: 2, 26: 3}}

#: Cells are counted in 32 bits where they are many; nothing that has this many fits in a machine.
MOST_CELLS = 2**31 - 1
#: Names of the faces: name -> (axis counted from the last one, first or last index of that axis).
FACES: dict[str, tuple[int, int]] = {
    "front": (-3, 0),
    "back": (-3, -1),
    "top": (-2, 0),
    "bottom": (-2, -1),
    "left": (-1, 0),
    "right": (-1, -1),
}

BOUNDARIES = ("open", "periodic")


class Lattice(Graph):
    r"""A grid of cells as a static graph, one node a cell, in C order of the shape.

    Cell :math:`i` hears its neighbours :math:`i + o_k`, where the offsets :math:`o_k` of the neighbourhood are the
    directions :math:`k = 0 \dots K - 1` in lexicographic order, e.g. ``(-1, 0, 0), (0, -1, 0), (0, 0, -1),
    (0, 0, 1), (0, 1, 0), (1, 0, 0)`` for six neighbours. Across an open boundary there is no neighbour; across a
    periodic one the lattice closes into a ring.

    Args:
        shape: ``(width,)``, ``(height, width)`` or ``(depth, height, width)``, in cells.
        neighbourhood: Number of neighbours of an inner cell: 2 in one dimension, 4 or 8 in two, 6, 18 or 26 in three
            (von Neumann and Moore neighbourhoods of radius one, and the one between them). The smallest by default.
            Or a list of offsets of any length, e.g. ``[(-2,), (-1,), (1,), (2,)]``.
        boundary: ``"open"`` or ``"periodic"``, for all axes or one for each.
        mask: Boolean array of the shape: the cells that exist (all of them by default).

    Raises:
        ValueError: If the shape, neighbourhood or boundary is unknown, a periodic axis is shorter than three cells, or
            twice the longest offset and one (neighbours on its two sides would be one cell), or the mask keeps no cell.

    Example:
        >>> lattice = Lattice((11, 15, 15), neighbourhood=6)
        >>> lattice.num_nodes, lattice.num_edges
        (2475, 13740)
        >>> int(lattice.face("front").sum())
        225
    """

    def __init__(
        self,
        shape: Sequence[int],
        neighbourhood: int | Sequence[Sequence[int]] | None = None,
        *,
        boundary: str | Sequence[str] = "open",
        mask: Any = None,
    ) -> None:
        self.shape = _checked_shape(shape)
        known = NEIGHBOURHOODS[self.dim]
        self.neighbourhood = _checked_neighbourhood(min(known) if neighbourhood is None else neighbourhood, self.dim)
        #: The K offsets, lexicographically sorted; their order numbers the directions.
        self.offsets: tuple[tuple[int, ...], ...] = (
            _compact_offsets(self.dim, known[self.neighbourhood])
            if isinstance(self.neighbourhood, int)
            else self.neighbourhood
        )
        #: The longest reach of an offset along any axis.
        self.radius = max(abs(move) for offset in self.offsets for move in offset)
        self.boundary = _checked_boundary(boundary, self.shape, self.radius)
        self.mask = _checked_mask(mask, self.shape)

        #: ``[num_nodes]`` index of each cell in the full grid.
        self.grid_index: Tensor = self.mask.flatten().nonzero().squeeze(1)
        positions = self.mask.nonzero()
        edge_index, edge_direction = self._edges(positions)
        super().__init__(
            edge_index,
            len(positions),
            edge_direction=edge_direction,
            num_directions=len(self.offsets),
            positions=positions,
        )

    @property
    def dim(self) -> int:
        """Number of dimensions, 1 to 3."""
        return len(self.shape)

    @property
    def is_symmetric(self) -> bool:
        """Whether every offset's opposite is an offset."""
        return all(tuple(-move for move in offset) in self.offsets for offset in self.offsets)

    @property
    def is_full(self) -> bool:
        """Whether every cell of the shape exists."""
        return self.num_nodes == self.mask.numel()

    @property
    def layer(self) -> Tensor:
        """``[num_nodes]`` index of each cell along the first axis."""
        return self.positions[:, 0]

    @property
    def num_layers(self) -> int:
        """Size of the first axis."""
        return self.shape[0]

    def face(self, name: str) -> Tensor:
        """Node mask of a face.

        Args:
            name: ``front``/``back`` (ends of the depth axis), ``top``/``bottom`` (height) or ``left``/``right``
                (width); a lattice of fewer dimensions has the later pairs only.

        Shapes:
            - **output:** ``[num_nodes]``, boolean.

        Raises:
            ValueError: If the lattice has no face of that name, or no cell lies on it.
        """
        axis, index = FACES.get(name, (-4, 0))
        if -axis > self.dim:
            names = [n for n, (a, _) in FACES.items() if -a <= self.dim]
            raise ValueError(f"a {self.dim}-D lattice has the faces {names}, got {name!r}")
        on_face = self.positions[:, axis] == index % self.shape[axis]
        if not on_face.any():
            raise ValueError(f"the mask leaves no cell on the face {name!r}")
        return on_face

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain types."""
        return {
            "shape": list(self.shape),
            "neighbourhood": self.neighbourhood if isinstance(self.neighbourhood, int) else [*map(list, self.offsets)],
            "boundary": list(self.boundary),
            "mask": None if self.is_full else self.mask.tolist(),
        }

    def _edges(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        size = torch.tensor(self.shape)
        periodic = torch.tensor([b == "periodic" for b in self.boundary])
        node_at = torch.full(self.shape, -1)
        node_at[tuple(positions.T)] = torch.arange(len(positions))

        targets, sources, directions = [], [], []
        for k, offset in enumerate(self.offsets):
            there = positions + torch.tensor(offset)
            there = torch.where(periodic, there % size, there)
            inside = ((there >= 0) & (there < size)).all(dim=1)
            source = node_at[tuple(there[inside].T)]
            exists = source >= 0
            sources.append(source[exists])
            targets.append(inside.nonzero().squeeze(1)[exists])
            directions.append(torch.full_like(sources[-1], k))
        return torch.stack([torch.cat(sources), torch.cat(targets)]), torch.cat(directions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lattice) and self.config() == other.config()

    def __hash__(self) -> int:
        return hash((self.shape, self.neighbourhood, self.boundary, self.num_nodes))

    def __repr__(self) -> str:
        masked = "" if self.is_full else f", num_nodes={self.num_nodes}"
        return f"Lattice({self.shape}, {self.neighbourhood}, boundary={self.boundary}{masked})"


def _checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = integers("shape", shape)
    except ValueError:
        sizes = ()
    if len(sizes) not in NEIGHBOURHOODS or min(sizes) < 1:
        raise ValueError(f"shape must be 1 to 3 positive integers, got {shape!r}")
    if math.prod(sizes) > MOST_CELLS:
        raise ValueError(f"a lattice has at most {MOST_CELLS:,} cells, got the shape {shape!r}")
    return sizes


def _compact_offsets(dim: int, axes: int) -> tuple[tuple[int, ...], ...]:
    """All offsets of radius one that move along at most so many axes, in lexicographic order."""
    moves = itertools.product((-1, 0, 1), repeat=dim)
    return tuple(o for o in moves if 0 < sum(map(abs, o)) <= axes)


def _checked_neighbourhood(neighbourhood: Any, dim: int) -> int | tuple[tuple[int, ...], ...]:
    known = NEIGHBOURHOODS[dim]
    number = None if has_axis(neighbourhood) else integer("neighbourhood", neighbourhood)
    if number in known:
        return number
    if number is not None or isinstance(neighbourhood, str) or not len(neighbourhood):
        raise ValueError(
            f"neighbourhood of a {dim}-D lattice must be one of {sorted(known)} or a list of offsets, "
            f"got {neighbourhood!r}"
        )
    offsets = tuple(sorted(integers("an offset of the neighbourhood", offset) for offset in neighbourhood))
    for offset in offsets:
        if len(offset) != dim or not any(offset):
            raise ValueError(f"an offset of a {dim}-D lattice must be {dim} integers, not all zero, got {offset}")
    if len(set(offsets)) != len(offsets):
        raise ValueError(f"neighbourhood must not list an offset twice, got {neighbourhood!r}")
    return offsets


def _checked_boundary(boundary: str | Sequence[str], shape: tuple[int, ...], radius: int) -> tuple[str, ...]:
    several = has_axis(boundary) and not isinstance(boundary, str)
    per_axis: Any = tuple(boundary) if several else (boundary,) * len(shape)
    if len(per_axis) != len(shape) or any(b not in BOUNDARIES for b in per_axis):
        raise ValueError(
            f"boundary must be one of {BOUNDARIES}, or one for each of the {len(shape)} axes, got {boundary!r}"
        )
    for axis, (kind, size) in enumerate(zip(per_axis, shape, strict=True)):
        if kind == "periodic" and size < 2 * radius + 1:
            raise ValueError(
                f"a periodic axis needs at least {2 * radius + 1} cells, axis {axis} of {shape} has {size}"
            )
    return per_axis


def _checked_mask(mask: Any, shape: tuple[int, ...]) -> Tensor:
    if mask is None:
        return torch.ones(shape, dtype=torch.bool)
    array = np.asarray(mask)
    if array.shape != shape:
        raise ValueError(f"mask must have the lattice's shape {shape}, got {array.shape}")
    kept = torch.from_numpy(array.astype(bool))
    if not kept.any():
        raise ValueError(f"mask keeps none of the {kept.numel()} cells, at least one is needed")
    return kept
