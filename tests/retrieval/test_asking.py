"""Asking: each question once, in its place, or an error in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.retrieval import predict

WIDTH = 6


def network(memory_channels: int) -> CellGraph:
    torch.manual_seed(0)
    cell = GMLPCell(Lattice((2, 2, 2)), channels=8, hidden=8, memory_channels=memory_channels, out_std=1.0)
    model = CellGraph(cell, in_features=WIDTH, surface_channels=1, num_steps=2)
    torch.nn.init.normal_(model.readout.weight)
    return model.train()


def test_turns_come_back_in_the_places_of_their_questions() -> None:
    model, question = network(2), torch.randn(4, WIDTH)
    found = predict(model, question, dialogues=[np.array([2, 0]), [3, 1]], batch_size=np.int64(1)).embedding
    model.eval()
    with torch.no_grad():
        for first, second in ((2, 0), (3, 1)):
            turn = model(question[[first]])
            assert torch.allclose(found[[first]], turn.embedding, atol=1e-6)
            assert torch.allclose(found[[second]], model(question[[second]], turn.memory).embedding, atol=1e-6)
            assert not torch.allclose(found[[second]], model(question[[second]]).embedding, atol=1e-3)


@pytest.mark.parametrize("memory_channels", [0, 2])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dialogues": [[0], [2]]}, "each of 3 questions exactly once, got 2 numbers, of 2 questions"),
        ({"dialogues": [[0, 1], [1, 2]]}, "got 4 numbers, of 3 questions"),
        ({"dialogues": [[0], [1], [3]]}, "got 3 numbers, of 2 questions"),
        ({"dialogues": []}, "got 0 numbers, of 0 questions"),
        ({"dialogues": [[0, 1.0, 2]]}, "the number of a turn must be an integer, got 1.0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, got -1"),
        ({"batch_size": 2.0}, "batch_size must be an integer, got 2.0"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_line(memory_channels: int, options: dict[str, Any], message: str) -> None:
    model = network(memory_channels)
    with pytest.raises(ValueError, match=message):
        predict(model, torch.randn(3, WIDTH), **options)
    assert model.training
