"""The figures of a validation: copies of an answer are one candidate, as where a run is judged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cellgraph.retrieval import EmbeddedPairs
from cellgraph.retrieval.lesson import _figures
from cellgraph.retrieval.metrics import distinct_answers, ranks


def test_copies_of_an_answer_are_no_rivals() -> None:
    torch.manual_seed(0)
    which = torch.randint(6, (40,))
    answer, query = torch.randn(6, 8)[which], torch.randn(40, 8)
    group = EmbeddedPairs(query, answer).group
    found = _figures(query, answer, query, answer, group)

    # By hand: how many of the six are nearer than one's own.
    six, x = (rows.double().numpy() for rows in (torch.stack([answer[which == n][0] for n in range(6)]), query))
    cosine = (x @ six.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(six, axis=1)
    rank = 1 + (cosine > cosine[np.arange(40), which.numpy()][:, None]).sum(1)
    assert rank.max() <= 6
    assert found["mrr"] == pytest.approx((1 / rank).mean(), rel=1e-6)
    assert found["recall_at_1"] == pytest.approx((rank == 1).mean(), rel=1e-6)
    candidates, target = distinct_answers(answer)
    judged = ranks(query, answer[candidates], target)
    assert found["mrr"] == pytest.approx(float((1 / judged).mean()), rel=1e-6)
