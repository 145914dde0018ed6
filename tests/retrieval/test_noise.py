"""Noise on questions: there in training, of the stated share of their norm, absent in evaluation."""

from __future__ import annotations

import pytest
import torch
from on_pairs import module, plain_objective, plain_settings

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.retrieval import Batch, EmbeddedPairs
from cellgraph.retrieval.lesson import with_noise

#: Of norm 2.
QUESTIONS = 2 * torch.nn.functional.normalize(torch.randn(400, 64, generator=torch.Generator().manual_seed(0)))


def seen(noise: float, *, training: bool) -> torch.Tensor:
    """What was added to the questions that reach the model."""
    pairs = EmbeddedPairs(QUESTIONS, torch.randn(400, 64))
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
    return questions[0] - (QUESTIONS if training else QUESTIONS[: len(questions[0])])


def test_the_expected_norm_is_the_setting() -> None:
    norms = seen(0.7, training=True).norm(dim=1)
    # The mean of a chi distribution of 64 degrees, over the root of 64, is 0.996.
    assert float(norms.mean()) == pytest.approx(2 * 0.7 * 0.996, rel=0.02)


def test_a_token_that_is_not_there_stays_so() -> None:
    tokens = torch.zeros(2, 3, 8)
    tokens[:, :2] = 1.0
    noisy = with_noise(tokens, 0.5, torch.Generator().manual_seed(0))
    assert not noisy[:, 2].any()
    assert not torch.equal(noisy[:, :2], tokens[:, :2])


@pytest.mark.parametrize(("noise", "training"), [(0.7, False), (0.0, True)])
def test_there_is_none_in_evaluation_or_at_zero(noise: float, training: bool) -> None:
    assert not seen(noise, training=training).any()


def test_a_negative_one_is_refused() -> None:
    with pytest.raises(ValueError, match="noise must not be negative, got -1"):
        plain_settings(noise=-1)
