"""Embedded pairs to judge teachers and adapters by: how well answers are found, and who stays whose neighbour."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.data import QAPair, Split, read_pairs, split_pairs
from cellgraph.retrieval import (
    EmbeddedPairs,
    Ridge,
    TrainSettings,
    distinct_answers,
    predict,
    ranks,
    reciprocal_ranks,
    standard_objective,
)
from cellgraph.retrieval.task import Retrieval
from cellgraph.retrieval.twins import alone
from cellgraph.training import train

#: Learning rates of which the better by validation is taken.
RATES = (1e-3, 3e-3)


def read_split(path: Path, *, limit: int | None, test: int, validation: int) -> Split:
    """Pairs of a file, so many drawn from all of it, split by topic."""
    pairs = read_pairs(path)
    if limit is not None and limit < len(pairs):
        pairs = random.Random(0).sample(pairs, limit)
    return split_pairs(pairs, test=test, validation=validation, seed=0)


@dataclass(frozen=True)
class Part:
    """Embedded questions and answers of some pairs, and the answers each once."""

    question: Tensor
    answer: Tensor
    candidates: Tensor
    target: Tensor

    @classmethod
    def of(cls, pairs: Sequence[QAPair], question: Tensor, answer: Tensor) -> Part:
        """With the candidates of a retrieval among these pairs."""
        return cls(question, answer, *distinct_answers(answer, [pair.answer for pair in pairs]))

    def mrr(self, query: Tensor, key: Tensor) -> float:
        """Mean reciprocal rank of each pair's answer by the cosine of its query with all keys, one a pair."""
        return float(reciprocal_ranks(ranks(query, key[self.candidates], self.target)).mean())


def ridge(train_part: Part, test: Part) -> Tensor:
    """What ridge regression answers to the held-out questions."""
    return Ridge().fit(train_part.question, train_part.answer).predict(test.question)


def linear(train_part: Part, validation: Part, test: Part, *, updates: int) -> float:
    """Mean reciprocal rank of linear maps of question and answer, trained to find answers within batches of 128.

    The rate is the better of two by validation.
    """
    known = EmbeddedPairs(train_part.question, train_part.answer)
    held = EmbeddedPairs(validation.question, validation.answer)
    found: list[tuple[float, float]] = []
    for rate in RATES:
        torch.manual_seed(0)
        cell = GMLPCell(Lattice((2, 4, 4)), channels=8, hidden=8)
        model = CellGraph(cell, in_features=known.question.size(1), surface_channels=1, readout_channels=1)
        model.path.fit(known.question, known.answer)  # type: ignore[union-attr]
        settings = TrainSettings(max_steps=updates, batch_size=128, lr=rate, compile=False, precision="32-true")
        # Before it is calibrated, which finds nothing better and takes longest.
        task = Uncalibrated(standard_objective(surface=0.0, negatives="batch"), known, held)
        trained = train(alone(model), task, settings, progress=False).model
        scores = []
        for part in (validation, test):
            made = predict(trained, part.question)
            scores.append(part.mrr(made.query, made.key(part.answer)))
        found.append((scores[0], scores[1]))
    return max(found)[1]


class Uncalibrated(Retrieval):
    """Training without the closed form at its end."""

    def finish(self, model: nn.Module, settings: Any) -> None:
        """Nothing."""


def overlap(before: Tensor, after: Tensor, *, k: int = 10) -> float:
    """Share of the k nearest neighbours by cosine, among all rows, that are the same before and after."""
    near = []
    for x in (before, after):
        unit = F.normalize(x.float(), dim=1)
        near.append((unit @ unit.T).fill_diagonal_(-2).topk(k, dim=1).indices)
    same = (near[0][:, :, None] == near[1][:, None, :]).any(2)
    return float(same.float().mean())
