"""The result: what a training came to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class TrainResult(Generic[Model]):
    """What training came to.

    Attributes:
        model: The model, with the weights of the best validation (averaged where averages were kept), on the CPU and in
            evaluation mode. Without a monitored validation, those at the end.
        steps: Updates done.
        best_step: The update of the best validation; 0 without one.
        seconds: Time spent on updates, over all parts of a resumed run.
        metrics: Metrics of the best validation and the newest of training, by name.
        history: All the validations.
        precision: Lightning's name of the arithmetic that was used.
    """

    model: Model
    steps: int
    best_step: int
    seconds: float
    metrics: dict[str, float]
    history: list[dict[str, float]]
    precision: str

    def to_dict(self) -> dict[str, Any]:
        """What it came to in plain types, without the model and the history."""
        counts = {"updates": self.steps, "best_update": self.best_step, "seconds": round(self.seconds, 3)}
        finite = {name: value if math.isfinite(value) else None for name, value in self.metrics.items()}
        return {**counts, **finite}
