"""Shapes: the pattern and the voxel shape that automata grow, drawn by code."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: Points drawn along each axis of a cell; a cell has their mean colour.
FINENESS = {2: 8, 3: 4}


def flower(size: int = 24) -> Tensor:
    """A flower with two leaves.

    Shapes:
        - **output:** ``[size, size, 4]``: red, green and blue times the opacity, and the opacity.

    Example:
        >>> flower(24).shape
        torch.Size([24, 24, 4])
    """
    y, x = _axes(size, 2)
    image = np.zeros((*y.shape, 4), dtype=np.float32)
    _paint(image, (abs(x - 0.08 * np.sin(3 * y)) < 0.06) & (y > -0.1) & (y < 0.85), (0.15, 0.55, 0.2))
    for side in (-1, 1):
        along, across = side * x - 0.32, y - 0.55 + 0.35 * (side * x - 0.32)
        _paint(image, (along / 0.3) ** 2 + (across / 0.12) ** 2 < 1, (0.2, 0.7, 0.25))
    radius, angle = np.hypot(x, y + 0.3), np.arctan2(y + 0.3, x)
    petals = radius < 0.36 + 0.16 * np.cos(5 * (angle + np.pi / 2))
    _paint(image, petals, (0.9, 0.25, 0.45))
    _paint(image, petals & (radius < 0.3), (0.95, 0.5, 0.3))
    _paint(image, radius < 0.17, (0.98, 0.85, 0.2))
    return _averaged(image, size)


def tree(size: int = 14) -> Tensor:
    """An apple tree, its height along the second axis, downwards.

    Shapes:
        - **output:** ``[size, size, size, 4]``, as of :func:`flower`.

    Example:
        >>> tree(14).shape
        torch.Size([14, 14, 14, 4])
    """
    z, y, x = _axes(size, 3)
    image = np.zeros((*y.shape, 4), dtype=np.float32)
    radius = np.hypot(x, z)
    _paint(image, (y > -0.1) & (y < 0.85) & (radius < 0.17), (0.45, 0.28, 0.12))
    _paint(image, (y > 0.68) & (y < 0.85) & (radius < 0.32), (0.45, 0.28, 0.12))
    _paint(image, (radius / 0.72) ** 2 + ((y + 0.25) / 0.58) ** 2 < 1, (0.2, 0.6, 0.25))
    apples = ((0.1, -0.3, 0.5), (0.3, -0.1, -0.45), (-0.55, -0.25, 0.0), (0.1, -0.75, -0.1), (0.55, -0.35, 0.1))
    for at_z, at_y, at_x in apples:
        _paint(image, (z - at_z) ** 2 + (y - at_y) ** 2 + (x - at_x) ** 2 < 0.04, (0.85, 0.15, 0.15))
    return _averaged(image, size)


def _axes(size: int, dim: int) -> np.ndarray:
    """Coordinates of the points from -1 to 1, ``[dim, points, ...]``."""
    points = size * FINENESS[dim]
    return (np.indices((points,) * dim) + 0.5) / points * 2 - 1


def _paint(image: np.ndarray, where: np.ndarray, colour: tuple[float, float, float]) -> None:
    image[where] = (*colour, 1.0)


def _averaged(image: np.ndarray, size: int) -> Tensor:
    dim = image.ndim - 1
    split = image.reshape(*(size, FINENESS[dim]) * dim, 4)
    return torch.from_numpy(split.mean(tuple(range(1, 2 * dim, 2))))
