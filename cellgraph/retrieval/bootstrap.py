"""Bootstrap: intervals of means over held-out pairs.

The percentile method (Efron 1979, `doi 10.1214/aos/1176344552 <https://doi.org/10.1214/aos/1176344552>`_): pairs are
drawn with replacement and the mean taken anew, many times. The pairs are taken as independent; where many share a topic
the truth is wider.

:func:`scipy.stats.bootstrap` takes three times as long for the columns of a table, and draws otherwise: the same seed
would give other intervals.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: Values drawn at a time, which bounds the memory whatever the number of pairs.
DRAWN_AT_A_TIME = 1_000_000


class Interval(NamedTuple):
    """A mean with its interval."""

    mean: float
    low: float
    high: float


def bootstrap_intervals(
    values: Tensor, *, num_resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> list[Interval]:
    """Percentile bootstrap intervals of the means of several columns, all from the same resamples.

    Args:
        values: One row for each held-out pair, one column for each quantity.
        num_resamples: Number of resamples.
        confidence: Share of the resampled means inside the interval.
        seed: Seed of the resampling; equal seeds draw equal pairs.

    Shapes:
        - **values:** ``[num_pairs, num_columns]``
        - **output:** one :class:`Interval` for each column

    Raises:
        ValueError: If there are no pairs, a value is not finite, or an option is out of range.
    """
    if values.dim() != 2 or not len(values):
        raise ValueError(f"the bootstrap needs values [num_pairs >= 1, num_columns], got {list(values.shape)}")
    if not values.isfinite().all():
        raise ValueError("the bootstrap needs finite values, got NaN or infinity")
    if num_resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"the bootstrap needs num_resamples >= 1 and 0 < confidence < 1, got {num_resamples} and {confidence}"
        )
    values = values.detach().cpu().double()
    num_pairs = len(values)
    generator = torch.Generator().manual_seed(seed)
    chunk = max(1, DRAWN_AT_A_TIME // num_pairs)
    means = []
    for start in range(0, num_resamples, chunk):
        drawn = torch.randint(num_pairs, (min(chunk, num_resamples - start), num_pairs), generator=generator)
        # How often each pair was drawn: one matrix product then serves all columns.
        times = torch.zeros(drawn.shape, dtype=values.dtype).scatter_add_(
            1, drawn, torch.ones(1, dtype=values.dtype).expand(drawn.shape)
        )
        means.append(times @ values / num_pairs)
    tail = (1 - confidence) / 2
    # torch.quantile refuses more than 2**24 values.
    low, high = np.quantile(torch.cat(means).numpy(), [tail, 1 - tail], axis=0)
    return [
        Interval(mean, below, above)
        for mean, below, above in zip(values.mean(0).tolist(), low.tolist(), high.tolist(), strict=True)
    ]


def bootstrap_interval(
    values: Tensor, *, num_resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of a mean, e.g. of reciprocal ranks.

    Args:
        values: One value for each held-out pair.
        num_resamples: Number of resamples.
        confidence: Share of the resampled means inside the interval.
        seed: Seed of the resampling.

    Shapes:
        - **values:** ``[num_pairs]``

    Raises:
        ValueError: As :func:`bootstrap_intervals`.

    Example:
        >>> bootstrap_interval(torch.full((8,), 0.5))
        Interval(mean=0.5, low=0.5, high=0.5)
    """
    if values.dim() != 1:
        raise ValueError(f"values must be [num_pairs], got {list(values.shape)}")
    columns = values[:, None]
    return bootstrap_intervals(columns, num_resamples=num_resamples, confidence=confidence, seed=seed)[0]


def paired_difference(
    first: Tensor, second: Tensor, *, num_resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of the difference of two systems' means on the same pairs, first minus second.

    Each resample draws pairs, not values, so what makes a question hard for both systems cancels, and the interval is
    narrower than the two separate ones suggest. An interval that does not contain zero is a difference.

    Args:
        first: One value for each held-out pair, e.g. the reciprocal ranks of the lattice.
        second: The same of the other system.
        num_resamples: Number of resamples.
        confidence: Share of the resampled differences inside the interval.
        seed: Seed of the resampling.

    Shapes:
        - **first**, **second:** ``[num_pairs]``

    Raises:
        ValueError: If the shapes differ, or as :func:`bootstrap_intervals`.
    """
    if first.shape != second.shape:
        raise ValueError(f"paired values must have one shape, got {list(first.shape)} and {list(second.shape)}")
    difference = first.double() - second.double()
    return bootstrap_interval(difference, num_resamples=num_resamples, confidence=confidence, seed=seed)
