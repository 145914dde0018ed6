"""Rows in memory or on the disk: what is done with both alike, block by block where they are on the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: Rows at a time.
BLOCK = 8192
#: Of rows on the disk, how many closed forms are computed from: by then, more change little.
SOME = 20_000


def mapped(rows: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """What a function makes of each row: at once in memory, or when rows of a disk are read."""
    return function(rows) if isinstance(rows, Tensor) else rows.mapped(function)


def mean_row(rows: Any) -> Tensor:
    """The mean of the rows, ``[features]``."""
    if isinstance(rows, Tensor):
        return rows.mean(0)
    blocks = [(block.double().sum(0), block.dtype) for block in rows.split(BLOCK)]
    return (torch.stack([total for total, _ in blocks]).sum(0) / len(rows)).to(blocks[0][1])


def mean_square(rows: Any, mean: Tensor) -> Tensor:
    """The mean square of all values about a mean."""
    if isinstance(rows, Tensor):
        return (rows - mean).square().mean()
    total = torch.stack([(block - mean).double().square().sum() for block in rows.split(BLOCK)]).sum()
    return (total / (len(rows) * len(mean))).to(mean.dtype)


def check_finite(name: str, rows: Any) -> None:
    """Refuse rows, or states of tokens, with a value that is no number.

    Raises:
        ValueError: If there is NaN or an infinity.
    """
    if not hasattr(rows, "split"):
        if not rows.finite():
            raise ValueError(f"the token states of the {name}s must be finite, got NaN or infinity")
        return
    finite = [torch.isfinite(block).all(1) for block in rows.split(BLOCK)]
    bad = (~torch.cat(finite)).nonzero().flatten() if finite else torch.empty(0)
    if len(bad):
        raise ValueError(f"{name} must be finite, got NaN or infinity in {len(bad)} rows, first in {int(bad[0])}")


def some_rows(*columns: Any, most: int = SOME) -> tuple[Tensor, ...]:
    """The rows themselves in memory; of those on the disk so many, the same of each column, drawn from all."""
    if all(isinstance(column, Tensor) for column in columns):
        return columns
    drawn = torch.randperm(len(columns[0]), generator=torch.Generator().manual_seed(0))[:most].sort().values
    return tuple(column[drawn] for column in columns)
