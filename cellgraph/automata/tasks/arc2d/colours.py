"""Colours: which of a task's may be others without its rule being another, and such changes drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cellgraph.automata.tasks.arc2d.grids import COLOURS, GridTask


def free_colours(task: GridTask) -> list[int]:
    """Colours that the rule of a task does not seem to name, as its demonstrations show it.

    The rule may name the background, a colour that all of them have, and one that a target has without its source.
    Colours that the demonstrations do not have at all are free.

    Example:
        >>> import numpy as np
        >>> from cellgraph.automata.tasks.arc2d.grids import GridPair
        >>> shown = [GridPair(np.array([[0, 1, c]]), np.array([[0, 2, c]])) for c in (4, 5)]
        >>> free_colours(GridTask("", tuple(shown), ()))
        [3, 4, 5, 6, 7, 8, 9]
    """
    sources = [set(np.unique(pair.source).tolist()) for pair in task.demonstrations]
    targets = [set(np.unique(pair.target).tolist()) for pair in task.demonstrations]
    everywhere = set.intersection(*(source | target for source, target in zip(sources, targets, strict=True)))
    new = set[int]().union(*(target - source for source, target in zip(sources, targets, strict=True)))
    return sorted(set(range(COLOURS)) - {0} - everywhere - new)


def permuted(free: Sequence[Sequence[int]], grids: int, generator: torch.Generator) -> Tensor:
    """What becomes of the colours when the free ones change places, ``[rows, grids, 10]``.

    Args:
        free: The free colours of each row.
        grids: How many grids a row has at most; each has a permutation of its own.
        generator: Source of the permutations, on the CPU.
    """
    kept = torch.ones(len(free), COLOURS, dtype=torch.bool)
    for row, some in enumerate(free):
        kept[row, list(some)] = False
    # Places of the free colours by a random order, all others where they are.
    own = torch.arange(COLOURS)
    chance = torch.rand(len(free), grids, COLOURS, generator=generator)
    behind = kept[:, None].expand_as(chance)
    order = torch.where(behind, 2.0, chance).argsort(-1)
    into = torch.where(behind, COLOURS + own, own).argsort(-1)
    drawn = torch.empty_like(order).scatter(-1, into, order)
    return torch.where(behind, own, drawn)
