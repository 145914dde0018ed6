"""Layouts: in which order a sequence is laid out on a rectangle of cells."""

from __future__ import annotations

import torch
from torch import Tensor

#: Row by row; to and fro; along a Hilbert curve, on which near places are near cells.
ORDERS = ("rows", "snake", "hilbert")


def layout(order: str, height: int, width: int) -> Tensor:
    """Number of the cell, in C order, that each place of a sequence lies on, ``[height * width]``.

    Args:
        order: One of :data:`ORDERS`. The Hilbert curve (Hilbert 1891) is that of the least square of a power of two
            around the rectangle, from which the cells outside are left out.
        height, width: Of the rectangle.

    Raises:
        ValueError: If the order is unknown.

    Example:
        >>> layout("snake", 2, 3).tolist()
        [0, 1, 2, 5, 4, 3]
        >>> layout("hilbert", 2, 2).tolist()
        [0, 1, 3, 2]
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
    cells = torch.arange(height * width).view(height, width)
    if order == "rows":
        return cells.flatten()
    if order == "snake":
        return torch.stack([row.flip(0) if number % 2 else row for number, row in enumerate(cells)]).flatten()
    side = 1 << (max(height, width) - 1).bit_length()
    places = [_on_curve(side, distance) for distance in range(side * side)]
    return torch.tensor([row * width + column for row, column in places if row < height and column < width])


def _on_curve(side: int, distance: int) -> tuple[int, int]:
    """The row and column of a point of the Hilbert curve that fills a square."""
    x = y = 0
    size = 1
    while size < side:
        right = 1 & (distance // 2)
        up = 1 & (distance ^ right)
        if not up:
            if right:
                x, y = size - 1 - x, size - 1 - y
            x, y = y, x
        x, y = x + size * right, y + size * up
        distance //= 4
        size *= 2
    # The first step is along a row.
    return (y, x) if side.bit_length() % 2 else (x, y)
