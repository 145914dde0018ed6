"""Rows: colours of many rows at once, numbered by their appearance, moved and mirrored."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.automata.tasks.arc1d.pairs import COLOURS

#: What stands in the cells of a lattice beyond the end of a row, which begins at the first cell.
OUTSIDE = COLOURS


def appearance(*rows: Tensor) -> Tensor:
    """Numbers of the colours by their first appearance, as :func:`~cellgraph.automata.tasks.arc1d.pairs.renumber` has
    them, of many rows at once.

    What is read in these numbers is the same whatever the colours are: only the background is known by its own.

    Args:
        rows: Colours, ``[size, width]``, in the order in which they are looked at.

    Returns:
        The number of each colour in each row, ``[size, 10]``.

    Example:
        >>> appearance(torch.tensor([[7, 0, 3]]), torch.tensor([[3, 0, 1]]))[0, [0, 7, 3, 1]]
        tensor([0, 1, 2, 3])
    """
    line = torch.cat(rows, dim=1)
    colours = torch.arange(COLOURS, device=line.device)
    found = line[..., None] == colours
    # Colours that are not there follow in their own order.
    first = torch.where(found.any(1), found.float().argmax(1), line.size(1) + colours)
    first[:, 0] = -1
    return first.argsort(1).argsort(1)


def numbered(rows: Tensor, numbers: Tensor) -> Tensor:
    """Rows ``[size, width]`` with numbers ``[size, 10]`` in the place of the colours."""
    return torch.where(rows == OUTSIDE, OUTSIDE, numbers.gather(1, rows.clamp(max=COLOURS - 1)))


def moved(pairs: Tensor, generator: torch.Generator) -> Tensor:
    """Pairs of rows, in each of which all that is not background has moved along the row, both rows alike.

    It moves as far as there is room, to each place with equal probability; one pair of four stays as it is. A rule
    that does not hang on places is the same rule then.

    Args:
        pairs: Colours, ``[size, 2, width]``.
        generator: Source of the places, on the CPU.
    """
    size, width = len(pairs), pairs.size(2)
    inside = pairs[:, 0] != OUTSIDE
    length = inside.sum(1)
    drawn = ((pairs != 0) & inside[:, None]).any(1)
    first = drawn.float().argmax(1)
    last = width - 1 - drawn.flip(1).float().argmax(1)
    room = first + length - last
    chance = torch.rand(2, size, generator=generator).to(pairs.device)
    by = torch.where(drawn.any(1) & (chance[0] < 0.75), (chance[1] * room).long() - first, 0)
    # What leaves at one end is background, and comes in at the other.
    place = (torch.arange(width, device=pairs.device) - by[:, None]) % length.clamp(min=1)[:, None]
    return torch.where(inside[:, None], pairs.gather(2, place[:, None].expand_as(pairs)), pairs)


def mirrored(pairs: Tensor) -> Tensor:
    """Pairs of rows ``[size, 2, width]`` from their ends to their beginnings: a rule of its own, as consistent."""
    length = (pairs[:, 0] != OUTSIDE).sum(1, keepdim=True)
    own = torch.arange(pairs.size(2), device=pairs.device)
    place = torch.where(own < length, length - 1 - own, own)
    return pairs.gather(2, place[:, None].expand_as(pairs))


def stretched(pairs: Tensor, by: Tensor, narrow: int) -> Tensor:
    """Demonstrations whose pieces have grown, where pieces are only coloured: where background stays background and
    nothing else becomes it. A piece is of cells side by side that look alike and become alike.

    All pieces of a task grow by as many cells: what is longer stays longer, and what touches still touches. It is a
    rule of its own, as consistent. Rows grow with their pieces, narrow ones to so many cells at most; beyond that
    background at their ends gives way. A task of which a row would not fit stays as it is, and so does one that moves
    or draws: there lengths say how far, and it would become another rule, such as to move two cells instead of one.

    Args:
        pairs: Colours, ``[num_tasks, num_demonstrations, 2, width]``.
        by: Cells by which pieces grow, ``[num_tasks]``.
        narrow: What a row no wider may come to; others may take all the width.
    """
    width = pairs.size(3)
    rows = pairs.flatten(0, 1)
    inside = rows[:, 0] != OUTSIDE
    look = rows[:, 0] * (OUTSIDE + 1) + rows[:, 1]
    drawn = inside & (look != 0)
    begins = drawn & F.pad(look.diff(dim=1) != 0, (1, 0), value=True)
    # Where each cell's copies end.
    ends = (inside + begins * by.repeat_interleave(pairs.size(1))[:, None]).cumsum(1)
    length, grown = inside.sum(1), ends[:, -1]
    excess = (grown - torch.where(length <= narrow, narrow, width)).clamp(min=0)
    ahead = drawn.float().argmax(1)
    behind = (length - width + drawn.flip(1).float().argmax(1)).clamp(min=0)
    fits = (excess <= ahead + behind).view(pairs.shape[:2]).all(1)
    fits &= ((pairs[:, :, 0] == 0) == (pairs[:, :, 1] == 0)).flatten(1).all(1)
    own = torch.arange(width, device=rows.device).expand_as(inside)
    place = torch.searchsorted(ends, own + (excess - behind).clamp(min=0)[:, None], right=True).clamp(max=width - 1)
    after = rows.gather(2, place[:, None].expand_as(rows))
    after = after.where((own < (grown - excess)[:, None])[:, None], OUTSIDE)
    return torch.where(fits[:, None, None, None], after.view_as(pairs), pairs)


def by_width(rows: Tensor, narrow: int) -> list[tuple[Tensor, int]]:
    """The numbers of the rows that are no wider, and of the others, each with the cells that they need.

    Args:
        rows: Colours, ``[size, width]``.
        narrow: Cells that are enough for the first; at 0 there are none.
    """
    short = ((rows != OUTSIDE).sum(1) <= narrow) & (narrow > 0)
    parts = [(short.nonzero()[:, 0], narrow), ((~short).nonzero()[:, 0], rows.size(1))]
    return [(index, cells) for index, cells in parts if len(index)]
