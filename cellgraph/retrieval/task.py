"""The task of question answering, on embeddings: what training on pairs is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from cellgraph.folder import RunFolder
from cellgraph.model import CellGraph
from cellgraph.retrieval.embedded import EmbeddedPairs
from cellgraph.retrieval.lesson import PairLesson
from cellgraph.retrieval.objectives import Objective
from cellgraph.retrieval.settings import TrainSettings
from cellgraph.training import Job, Task


class Retrieval(Task):
    """From the embedding of a question to that of its answer.

    Args:
        objective: What to train for; it is left as it is.
        pairs: Training pairs.
        validation: Pairs that choose the best weights; without them the last ones are kept.
    """

    monitor = "mrr"
    shown = (
        "train/loss",
        "train/surface",
        "train/internal",
        "train/dialogue",
        "train/turn",
        "val/cosine",
        "val/mrr",
    )
    Settings = TrainSettings

    def __init__(
        self, objective: Objective, pairs: EmbeddedPairs | None = None, validation: EmbeddedPairs | None = None
    ) -> None:
        self.objective, self.pairs, self.validation = objective, pairs, validation

    def lesson(self, settings: TrainSettings) -> PairLesson:
        """A new training by these settings."""
        if self.pairs is None:
            raise ValueError("training needs embedded pairs, there are none yet")
        return PairLesson(self.objective, self.pairs, self.validation, settings)

    def save(self, model: nn.Module, folder: RunFolder) -> None:
        """Write a trained network."""
        assert isinstance(model, CellGraph)
        model.save_pretrained(folder.model)

    def load(self, make: Any, folder: RunFolder) -> CellGraph:
        """The trained network of a run folder."""
        return CellGraph.from_pretrained(folder.model)

    def judge(self, model: nn.Module, job: Job, training: Mapping[str, Any]) -> Any:
        """Pairs without texts and a held-out part are not judged: see :func:`~cellgraph.retrieval.evaluate`."""
        raise NotImplementedError
