"""The task of question answering, on embeddings: what training on pairs is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cellgraph.folder import RunFolder
from cellgraph.precision import alike
from cellgraph.pretrained import Pretrained
from cellgraph.retrieval.asking import ask
from cellgraph.retrieval.embedded import EmbeddedPairs
from cellgraph.retrieval.lesson import PairLesson, with_noise
from cellgraph.retrieval.networks import load_network
from cellgraph.retrieval.objectives import Objective
from cellgraph.retrieval.settings import TrainSettings
from cellgraph.training import Job, Task

#: Questions asked at a time when a network is calibrated.
CALIBRATED = 64


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

    @torch.no_grad()
    def finish(self, model: nn.Module, settings: TrainSettings) -> None:
        """Calibrate the embedding of a network with a path on the training pairs.

        The queries are those of questions with the noise of training: without it, a network is surer of a training
        pair than it is of any other. Of pairs on the disk some are taken.
        """
        path = getattr(model, "path", None)
        if path is None or self.pairs is None:
            return
        generator = torch.Generator().manual_seed(settings.seed)
        pairs = self.pairs.some()

        def noisy(rows: Tensor) -> Tensor:
            return with_noise(alike(pairs.question[rows], path.linear.weight)[0], settings.noise, generator)

        asked = ask(model, noisy, len(pairs), dialogues=pairs.dialogues, batch_size=CALIBRATED)
        places, queries = zip(*((rows, output.query.float()) for rows, output in asked), strict=True)
        pooled, answer = (alike(part, path.linear.weight)[0] for part in (pairs.pooled, pairs.answer))
        path.calibrate(path.question(pooled), torch.cat(queries)[torch.cat(places).argsort()], answer)

    def save(self, model: nn.Module, folder: RunFolder) -> None:
        """Write a trained network."""
        assert isinstance(model, Pretrained)
        model.save_pretrained(folder.model)

    def load(self, make: Any, folder: RunFolder) -> Any:
        """The trained network of a run folder."""
        return load_network(folder.model)

    def judge(self, model: nn.Module, job: Job, training: Mapping[str, Any]) -> Any:
        """Pairs without texts and a held-out part are not judged: see :func:`~cellgraph.retrieval.evaluate`."""
        raise NotImplementedError
