"""Training on embedded pairs in one call, as the tests of the engine want it."""

from __future__ import annotations

from typing import Any

from cellgraph.retrieval import EmbeddedPairs, Objective, Retrieval, TrainSettings
from cellgraph.training import TrainResult, UpdateModule, train


def train_pairs(
    model: Any,
    objective: Objective,
    pairs: EmbeddedPairs,
    validation: EmbeddedPairs | None = None,
    *,
    settings: TrainSettings | None = None,
    progress: bool = False,
    **options: Any,
) -> TrainResult[Any]:
    """Train a model on pairs."""
    return train(model, Retrieval(objective, pairs, validation), settings, progress=progress, **options)


def module(
    model: Any, objective: Objective, pairs: EmbeddedPairs, validation: EmbeddedPairs | None = None, **settings: Any
) -> UpdateModule:
    """The Lightning module that does so."""
    told = TrainSettings(**settings)
    return UpdateModule(model, Retrieval(objective, pairs, validation).lesson(told), told)
