"""The layout: which value of a surface holds which component."""

from __future__ import annotations

import torch
from torch import Tensor

LAYOUTS = ("frame", "rows", "centre", "correlation")


def places(layout: str, count: int, positions: Tensor, *, correlation: Tensor | None = None) -> Tensor:
    """Where on a surface the leading components go, each to a value of its own.

    Where cells hold several values, all cells get one before any gets a second.

    Args:
        layout: ``"rows"``: in the order of the surface; ``"centre"``: from its middle outwards; ``"correlation"``:
            those that go together near one another, on the values nearest the middle.
        count: Number of components.
        positions: Where each value's cell is.
        correlation: How components go together.

    Shapes:
        - **positions:** ``[out_features, dim]``
        - **correlation:** ``[count, count]``
        - **output:** ``[count]``, numbers of values

    Example:
        >>> line = torch.arange(5)[:, None]
        >>> places("centre", 3, line).tolist(), places("rows", 3, line).tolist()
        ([2, 1, 3], [0, 1, 2])
    """
    positions = positions.double()
    level = _levels(positions)
    if layout == "rows":
        return torch.argsort(level, stable=True)[:count]
    distance = torch.linalg.vector_norm(positions - positions.unique(dim=0).mean(0), dim=1)
    # Equal distances differ by rounding.
    outwards = (level * (1 + distance.max().ceil()) + distance).mul(1e6).round()
    chosen = torch.argsort(outwards, stable=True)[:count]
    if layout == "centre" or count < 3 or correlation is None:
        return chosen
    return chosen[_neighbours(correlation.double(), positions[chosen])]


def _levels(positions: Tensor) -> Tensor:
    """How many values of the same cell come before each."""
    cell = torch.unique(positions, dim=0, return_inverse=True)[1]
    order = torch.argsort(cell, stable=True)
    counts = torch.bincount(cell)
    level = torch.empty_like(cell)
    level[order] = torch.arange(len(cell)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return level


def _neighbours(correlation: Tensor, positions: Tensor) -> Tensor:
    """For each component one of the positions, so that those that go together are near.

    The components are drawn by the leading eigenvectors of the Laplacian of their correlations (`Belkin and Niyogi 2003
    <https://doi.org/10.1162/089976603321780317>`_), each axis by rank, and given the positions that are nearest in sum.
    """
    from scipy.optimize import linear_sum_assignment

    affinity = correlation.clamp_min(0).fill_diagonal_(0) + 1e-9
    root = affinity.sum(1).rsqrt()
    extent = positions.amax(0) - positions.amin(0)
    # The widest axis shows what varies most.
    axes = torch.argsort(extent, descending=True, stable=True)[: int((extent > 0).sum())]
    vectors = torch.linalg.eigh(root[:, None] * affinity * root)[1].flip(1)[:, 1 : 1 + len(axes)] * root[:, None]
    drawn = _ranks(vectors)
    wanted = _ranks(positions[:, axes])
    rows, columns = linear_sum_assignment(torch.cdist(drawn, wanted).square().numpy())
    return torch.from_numpy(columns)[torch.from_numpy(rows).argsort()]


def _ranks(x: Tensor) -> Tensor:
    """Each column's ranks as shares of their number, equal values at their mean rank."""
    from scipy.stats import rankdata

    return torch.from_numpy(rankdata(x.numpy().round(9), axis=0)) / len(x)
