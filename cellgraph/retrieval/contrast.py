"""Contrastive losses on a matrix of logits, with equal answers left out of the negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SCALE = 100.0
"""Largest scale of the cosines: where `CLIP <https://arxiv.org/abs/2103.00020>`_ (section 2.5) clips it."""


def contrast(logits: Tensor, *, group: Tensor | None = None, target: Tensor | None = None) -> Tensor:
    r"""InfoNCE (`van den Oord et al. 2018 <https://arxiv.org/abs/1807.03748>`_, equation 4).

    .. math:: -\frac{1}{n} \sum_i \log \frac{e^{l_{it_i}}}{\sum_j e^{l_{ij}}}

    Args:
        logits: Scaled similarities.
        group: Equal for columns with equal answers; such columns, the row's own aside, are left out of its sum. For
            a square matrix whose column :math:`i` is row :math:`i`'s.
        target: The right column of each row, where columns are distinct; the diagonal when absent.

    Shapes:
        - **logits:** ``[rows, columns]``
        - **group:** ``[rows]``
        - **target:** ``[rows]``
        - **output:** ``[]``
    """
    if group is not None:
        logits = logits.masked_fill(_twins(group), float("-inf"))
    return F.cross_entropy(logits, _diagonal(logits) if target is None else target)


def contrast_with_some(logits: Tensor, others: Tensor, *, group: Tensor, numbers: Tensor) -> Tensor:
    """:func:`contrast` of each row against the other rows' answers and some more.

    Args:
        logits: Scaled similarities with the rows' own answers.
        others: The same with some answers.
        group: Number of each row's answer.
        numbers: Numbers of the others; those that a row has as its answer are left out.

    Shapes:
        - **logits:** ``[rows, rows]``
        - **others:** ``[rows, columns]``
        - **group:** ``[rows]``
        - **numbers:** ``[columns]``
        - **output:** ``[]``
    """
    logits = logits.masked_fill(_twins(group), float("-inf"))
    others = others.masked_fill(torch.isin(numbers, group), float("-inf"))
    return F.cross_entropy(torch.cat([logits, others], dim=1), _diagonal(logits))


def contrast_within(logits: Tensor, *, group: Tensor, dialogue: Tensor) -> Tensor:
    """:func:`contrast` of each row against the other turns of its own dialogue.

    Args:
        logits: Scaled similarities of the turns' predictions and answers.
        group: Equal for equal answers.
        dialogue: Equal for turns of one dialogue.

    Shapes:
        - **logits:** ``[rows, rows]``
        - **group:** ``[rows]``
        - **dialogue:** ``[rows]``
        - **output:** ``[]``, the mean over rows that have a negative, 0 when none has
    """
    same = dialogue[:, None] == dialogue[None, :]
    kept = same & ~_twins(group)
    counted = kept.sum(1) > 1
    loss = F.cross_entropy(logits.masked_fill(~kept, float("-inf")), _diagonal(logits), reduction="none")
    # A row alone has a loss of exactly zero, so the sum runs over all rows and the mean over those that count.
    return loss.sum() / counted.sum().clamp(min=1)


def _twins(group: Tensor) -> Tensor:
    twins = group[:, None] == group[None, :]
    twins.fill_diagonal_(False)
    return twins


def _diagonal(logits: Tensor) -> Tensor:
    return torch.arange(logits.size(0), device=logits.device)
