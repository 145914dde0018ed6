"""Noise on question embeddings: there in training, of the stated norm, absent in evaluation."""

from __future__ import annotations

import pytest
import torch
from on_pairs import module, plain_objective, plain_settings

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.retrieval import Batch, EmbeddedPairs


def seen(noise: float, *, training: bool) -> torch.Tensor:
    """The questions that reach the model."""
    pairs = EmbeddedPairs(torch.zeros(400, 64), torch.randn(400, 64))
    model = CellGraph(
        GMLPCell(Lattice((2, 8, 8)), 4, hidden=4, heads=1), in_features=64, surface_channels=1, num_steps=1
    )
    learner = module(model, plain_objective(), pairs, pairs, noise=noise).train(training)
    questions = []
    model.register_forward_pre_hook(lambda _, inputs: questions.append(inputs[0]))
    if training:
        learner.training_step(Batch.gather(pairs, torch.arange(400)[:, None]), 0)
    else:
        learner.validation_step(0, 0)
    return questions[0]


def test_the_expected_norm_is_the_setting() -> None:
    norms = seen(0.7, training=True).norm(dim=1)
    # The mean of a chi distribution of 64 degrees, over the root of 64, is 0.996.
    assert float(norms.mean()) == pytest.approx(0.7 * 0.996, rel=0.02)


@pytest.mark.parametrize(("noise", "training"), [(0.7, False), (0.0, True)])
def test_there_is_none_in_evaluation_or_at_zero(noise: float, training: bool) -> None:
    assert not seen(noise, training=training).any()


def test_a_negative_one_is_refused() -> None:
    with pytest.raises(ValueError, match="noise must not be negative, got -1"):
        plain_settings(noise=-1)
