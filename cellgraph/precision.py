"""Precision: sums and comparisons for which half precision is too narrow, and tensors of different dtypes together."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """A tensor of half precision in float32, one of more as it is.

    Example:
        >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def alike(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors in the widest of their dtypes, in float32 at least.

    Example:
        >>> [x.dtype for x in alike(torch.zeros(1), torch.zeros(1, dtype=torch.double))]
        [torch.float64, torch.float64]
    """
    widest = functools.reduce(torch.promote_types, (x.dtype for x in tensors), torch.float32)
    return tuple(x.to(widest) for x in tensors)
