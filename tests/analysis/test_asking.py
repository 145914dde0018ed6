"""What is compared with what, on stand-ins of a network and its output."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from cellgraph.analysis.asking import candidates, compared, found, joined
from cellgraph.model import CellGraphOutput


def test_queries_are_ranked_among_keys():
    query, answer, key = (torch.randn(shape, dtype=torch.double) for shape in ((6, 4), (9, 4), (4, 4)))
    model = SimpleNamespace(key=lambda answers: answers @ key)
    output = SimpleNamespace(embedding=torch.randn(6, 4), query=query)
    assert torch.equal(compared(output), query)
    assert torch.equal(candidates(model, answer), answer @ key)
    target = torch.tensor([0, 8, 3, 3, 1, 5])
    keys = (answer @ key).numpy()
    scores = query.numpy() @ (keys / np.linalg.norm(keys, axis=1, keepdims=True)).T
    rank = (scores >= scores[np.arange(6), target.numpy()][:, None]).sum(1)
    np.testing.assert_allclose(found(model, compared(output), answer, target), 1 / rank)


def test_outputs_of_batches_are_joined():
    parts = [CellGraphOutput(embedding=torch.randn(n, 3), surface=torch.randn(n, 2), num_steps=4) for n in (2, 1)]
    whole = joined(parts)
    assert torch.equal(whole.embedding, torch.cat([part.embedding for part in parts]))
    assert torch.equal(whole.surface, torch.cat([part.surface for part in parts]))
    assert torch.equal(compared(whole), torch.cat([compared(part) for part in parts]))
    assert (whole.num_steps, whole.states) == (4, None)
