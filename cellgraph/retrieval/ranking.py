"""Retrieval: whether predictions find their answers among all of a validation set."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.precision import alike


def reciprocal_ranks(prediction: Tensor, answer: Tensor, group: Tensor, *, chunk: int = 1024) -> Tensor:
    """One over the rank of each prediction's own answer, by cosine, among all the answers.

    Ties count against the prediction, and so do values that are not numbers. Answers equal to its own do not count.

    Args:
        prediction: Predicted answers.
        answer: True answers.
        group: Equal for equal answers.
        chunk: Predictions compared at once.

    Shapes:
        - **prediction:** ``[rows, width]``
        - **answer:** ``[rows, width]``
        - **group:** ``[rows]``
        - **output:** ``[rows]``

    Example:
        >>> answer = torch.eye(3)
        >>> reciprocal_ranks(answer[[0, 2, 2]], answer, torch.arange(3))
        tensor([1.0000, 0.3333, 1.0000])
    """
    prediction, answer = (F.normalize(x, dim=-1) for x in alike(prediction, answer))
    ranks = []
    for first in range(0, len(prediction), chunk):
        rows = torch.arange(first, min(first + chunk, len(prediction)), device=prediction.device)
        similarity = prediction[rows] @ answer.T
        own = similarity.gather(1, rows[:, None])
        other = group[rows][:, None] != group[None, :]
        ranks.append(1 + (~(similarity < own) & other).sum(1))
    return 1 / torch.cat(ranks).float()
