from __future__ import annotations

import numpy as np
import pytest
import torch

from cellgraph.answering.categories import (
    EVERYDAY,
    GENERAL,
    SIMILAR,
    TECHNICAL,
    categorise,
    nearest_cosine,
    similarity_threshold,
)


@pytest.mark.parametrize(
    ("question", "category"),
    [
        ("How are you today?", EVERYDAY),
        ("What's your name?", EVERYDAY),
        ("I\u2019m tired, what now?", EVERYDAY),
        ("Now that they've lost what we'll do?", EVERYDAY),
        ("What'll it do?", GENERAL),
        ("Can you explain max_norm of kappa?", TECHNICAL),
        ("What does numpy.fft.rfft give you?", GENERAL),
        ("What is the zeta of a kappa?", TECHNICAL),
        ("What is the zeta?", GENERAL),
        ("What does it do?", GENERAL),
    ],
)
def test_rules(question: str, category: str) -> None:
    train = ["What does it do?", "What is the use of a class?", "Can you explain a class in PyTorch?", "give you"] * 5
    assert categorise([question], torch.tensor([0.2]), train, threshold=0.5) == [category]
    assert categorise([question], torch.tensor([0.5]), train, threshold=0.5) == [SIMILAR]


def test_similar_is_what_a_quarter_of_the_validation_reaches() -> None:
    validation, train = torch.randn(41, 8), torch.randn(30, 8)
    unit = [x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True) for x in (validation, train)]
    nearest = (unit[0] @ unit[1].T).max(1)
    assert nearest_cosine(validation, train).numpy() == pytest.approx(nearest, abs=1e-6)
    assert similarity_threshold(validation, train) == pytest.approx(np.quantile(nearest, 0.75), abs=1e-6)
