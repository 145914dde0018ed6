"""Bootstrap: intervals of means over held-out pairs.

The percentile method (Efron 1979, `doi 10.1214/aos/1176344552 <https://doi.org/10.1214/aos/1176344552>`_): pairs are
drawn with replacement and the mean taken anew, many times. Pairs that share a topic are not independent: where groups
are given, whole groups are drawn (the cluster bootstrap, Field and Welsh 2007, `doi 10.1111/j.1467-9868.2007.00593.x
<https://doi.org/10.1111/j.1467-9868.2007.00593.x>`_), and intervals are as wide as they should be.

:func:`scipy.stats.bootstrap` takes three times as long for the columns of a table, and draws otherwise: the same seed
would give other intervals.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

#: Values drawn at a time, which bounds the memory whatever the number of pairs.
DRAWN_AT_A_TIME = 1_000_000


class Interval(NamedTuple):
    """A mean with its interval.

    Attributes:
        mean: The mean.
        low: Lower end of the interval.
        high: Upper end.
        p: Two-sided probability of a resampled mean on the other side of 0, at least one over the resamples.
    """

    mean: float
    low: float
    high: float
    p: float = 1.0


def bootstrap_intervals(
    values: Tensor,
    *,
    groups: Tensor | None = None,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """Percentile bootstrap intervals of the means of several columns, all from the same resamples.

    Args:
        values: One row for each held-out pair, one column for each quantity.
        groups: Number of each pair's group, from 0: drawn are groups with all their pairs; each pair is one by default.
        num_resamples: Number of resamples.
        confidence: Share of the resampled means inside the interval.
        seed: Seed of the resampling; equal seeds draw equal pairs.

    Shapes:
        - **values:** ``[num_pairs, num_columns]``
        - **groups:** ``[num_pairs]``
        - **output:** one :class:`Interval` for each column

    Raises:
        ValueError: If there are no pairs, a value is not finite, the groups are not one for each pair, or an option is
            out of range.
    """
    if values.dim() != 2 or not len(values):
        raise ValueError(f"the bootstrap needs values [num_pairs >= 1, num_columns], got {list(values.shape)}")
    if not values.isfinite().all():
        raise ValueError("the bootstrap needs finite values, got NaN or infinity")
    if num_resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"the bootstrap needs num_resamples >= 1 and 0 < confidence < 1, got {num_resamples} and {confidence}"
        )
    if groups is not None and groups.shape != values.shape[:1]:
        raise ValueError(f"the bootstrap needs a group for each of {len(values)} pairs, got {list(groups.shape)}")
    values = values.detach().cpu().double()
    sums, sizes = _by_group(values, groups)
    num_groups = len(sums)
    generator = torch.Generator().manual_seed(seed)
    chunk = max(1, DRAWN_AT_A_TIME // num_groups)
    means = []
    for start in range(0, num_resamples, chunk):
        drawn = torch.randint(num_groups, (min(chunk, num_resamples - start), num_groups), generator=generator)
        # How often each group was drawn: one matrix product then serves all columns.
        times = torch.zeros(drawn.shape, dtype=values.dtype).scatter_add_(
            1, drawn, torch.ones(1, dtype=values.dtype).expand(drawn.shape)
        )
        means.append(times @ sums / (times @ sizes))
    tail = (1 - confidence) / 2
    drawn_means = torch.cat(means).numpy()
    # torch.quantile refuses more than 2**24 values.
    low, high = np.quantile(drawn_means, [tail, 1 - tail], axis=0)
    beyond = np.minimum((drawn_means <= 0).sum(0), (drawn_means >= 0).sum(0))
    p = np.clip(2 * beyond / num_resamples, 1 / num_resamples, 1)
    columns = values.mean(0).tolist(), low.tolist(), high.tolist(), p.tolist()
    return [Interval(*column) for column in zip(*columns, strict=True)]


def bootstrap_interval(
    values: Tensor,
    *,
    groups: Tensor | None = None,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a mean, e.g. of reciprocal ranks.

    Args:
        values: One value for each held-out pair.
        groups: Number of each pair's group, see :func:`bootstrap_intervals`.
        num_resamples: Number of resamples.
        confidence: Share of the resampled means inside the interval.
        seed: Seed of the resampling.

    Shapes:
        - **values:** ``[num_pairs]``

    Raises:
        ValueError: As :func:`bootstrap_intervals`.

    Example:
        >>> bootstrap_interval(torch.full((8,), 0.5)).low
        0.5
    """
    if values.dim() != 1:
        raise ValueError(f"values must be [num_pairs], got {list(values.shape)}")
    options: dict[str, Any] = {"num_resamples": num_resamples, "confidence": confidence, "seed": seed}
    return bootstrap_intervals(values[:, None], groups=groups, **options)[0]


def paired_difference(
    first: Tensor,
    second: Tensor,
    *,
    groups: Tensor | None = None,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of the difference of two systems' means on the same pairs, first minus second.

    Each resample draws pairs, not values, so what makes a question hard for both systems cancels, and the interval is
    narrower than the two separate ones suggest. An interval that does not contain zero is a difference.

    Args:
        first: One value for each held-out pair, e.g. the reciprocal ranks of the lattice.
        second: The same of the other system.
        groups: Number of each pair's group, see :func:`bootstrap_intervals`.
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
    options: dict[str, Any] = {"num_resamples": num_resamples, "confidence": confidence, "seed": seed}
    return bootstrap_interval(difference, groups=groups, **options)


def _by_group(values: Tensor, groups: Tensor | None) -> tuple[Tensor, Tensor]:
    """The sums of the values of each group, ``[num_groups, num_columns]``, and how many there are of them."""
    if groups is None:
        return values, values.new_ones(len(values), 1)
    _, number = groups.cpu().unique(return_inverse=True)
    num_groups = int(number.max()) + 1
    sums = values.new_zeros(num_groups, values.size(1)).index_add_(0, number, values)
    return sums, values.new_zeros(num_groups, 1).index_add_(0, number, values.new_ones(len(values), 1))
