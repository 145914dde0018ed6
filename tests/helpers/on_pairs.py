"""Training on embedded pairs in one call, as the tests of the engine want it."""

from __future__ import annotations

from typing import Any

from cellgraph.retrieval import EmbeddedPairs, Objective, Retrieval, TrainSettings, standard_objective
from cellgraph.training import TrainResult, UpdateModule, train

#: Settings without what is made for the main job: tests of the engine say themselves what they want of that.
SETTINGS: dict[str, Any] = {
    **{"max_steps": 1000, "batch_size": 64, "lr": 1e-3, "betas": (0.9, 0.999), "warmup_steps": 50, "ema": 0.999},
    **{"lr_multipliers": {}, "noise": 0.0, "compile": False, "val_batch_size": None},
    **{"val_every": 100, "checkpoint_every": 100, "log_every": 10},
}
#: Terms of equal weight that compare within the batch, likewise.
OBJECTIVE = {"surface": 1.0, "negatives": "batch", "direction": "symmetric", "centred": False, "temperature": 0.07}


def plain_settings(**options: Any) -> TrainSettings:
    """Settings, as plain as they can be."""
    return TrainSettings(**{**SETTINGS, **options})


def plain_objective(**options: Any) -> Objective:
    """The standard objective, as plain as it can be."""
    return standard_objective(**{**OBJECTIVE, **options})


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
    told = plain_settings(**settings)
    return UpdateModule(model, Retrieval(objective, pairs, validation).lesson(told), told)
