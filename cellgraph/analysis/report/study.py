"""The study behind a report: everything that is measured of a trained network, before it is drawn."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from cellgraph.analysis.plots import Curve
from cellgraph.analysis.report.ablation import Ablation
from cellgraph.analysis.report.computation import Computation
from cellgraph.analysis.report.cube import Cube
from cellgraph.analysis.report.drawing import Picture
from cellgraph.analysis.report.embeddings import Embeddings
from cellgraph.analysis.report.influence import Influence
from cellgraph.analysis.report.patterns import Patterns
from cellgraph.analysis.report.specialisation import Specialisation
from cellgraph.analysis.report.subject import Effort, Numbers, Subject
from cellgraph.analysis.report.training import Training
from cellgraph.analysis.report.worth import Worth
from cellgraph.data import QAPair
from cellgraph.generators import own_generators
from cellgraph.model import CellGraph

Section = TypeVar("Section")

#: Stages of a study as its progress is told, and their share of the time.
STAGES = {
    "worth": 35,
    "computation": 20,
    "embeddings": 3,
    "cube": 1,
    "specialisation": 22,
    "ablation": 8,
    "influence": 6,
    "patterns": 50,
}


@dataclass(frozen=True)
class Study:
    """All that was measured, section by section."""

    subject: Subject
    worth: Worth
    computation: Computation
    embeddings: Embeddings
    cube: Cube
    specialisation: Specialisation
    ablation: Ablation
    influence: Influence
    patterns: Patterns
    training: Training

    @property
    def numbers(self) -> dict[str, Numbers]:
        """Every number of the report as plain types, what ``report.json`` holds."""
        return {
            "network": _network(self.subject),
            "worth": self.worth.numbers,
            "computation": self.computation.numbers,
            "embeddings": self.embeddings.numbers,
            "cube": self.cube.numbers,
            "specialisation": self.specialisation.numbers,
            "ablation": self.ablation.numbers,
            "influence": self.influence.numbers,
            "patterns": self.patterns.numbers,
            "training": self.training.numbers,
        }

    def pictures(self) -> Iterator[Picture]:
        """All pictures, drawn one at a time."""
        lattice = self.subject.model.lattice
        yield from self.worth.pictures()
        yield from self.computation.pictures(lattice)
        yield from self.embeddings.pictures()
        yield from self.cube.pictures(lattice)
        yield from self.specialisation.pictures(lattice)
        yield from self.ablation.pictures(lattice)
        yield from self.influence.pictures(lattice)
        yield from self.patterns.pictures(lattice)
        yield from self.training.pictures()


def study(
    model: CellGraph,
    pairs: Sequence[QAPair],
    question: Tensor,
    answer: Tensor,
    curves: Mapping[str, Curve],
    *,
    training: Tensor | None = None,
    lead: Mapping[str, float | None] | None = None,
    effort: Effort | None = None,
    seed: int = 0,
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> Study:
    """Measure a trained network on held-out pairs.

    Args:
        model: The network, in evaluation mode.
        pairs: The held-out pairs.
        question: Their question embeddings, ``[num_pairs, in_features]``.
        answer: Their answer embeddings, ``[num_pairs, in_features]``.
        curves: What training logged, from :func:`~cellgraph.analysis.plots.read_metrics`.
        training: Question embeddings of training pairs, ``[num_training_pairs, in_features]``; without them nothing is
            said of what is not linear.
        lead: The network's lead over the adapters alone, see :class:`~cellgraph.analysis.report.subject.Subject`.
        effort: How much to measure; the default is a full report.
        seed: Seed of everything random.
        progress: Called with the stage and the share of it that was done, 0 at its beginning.

    Raises:
        ValueError: If there are fewer than three pairs.
    """
    dtype = torch.promote_types(model.cell.dtype, torch.float32)
    if dtype != model.cell.dtype:
        # Derivatives and statistics are not for half precision.
        model = copy.deepcopy(model).to(dtype)
    subject = Subject(
        model,
        pairs,
        question.to(dtype),
        answer.to(dtype),
        effort or Effort(),
        seed,
        training=None if training is None else training.to(dtype),
        lead=lead,
    )

    def at_once(stage: str, measure: Callable[[Subject], Section]) -> Section:
        progress(stage, 0.0)
        found = measure(subject)
        progress(stage, 1.0)
        return found

    # Networks asked as they are draw from the global generators where their cells update at random.
    with own_generators(seed):
        return Study(
            subject=subject,
            worth=Worth.measure(subject, functools.partial(progress, "worth")),
            computation=at_once("computation", Computation.measure),
            embeddings=at_once("embeddings", Embeddings.measure),
            cube=at_once("cube", Cube.measure),
            specialisation=at_once("specialisation", Specialisation.measure),
            ablation=at_once("ablation", Ablation.measure),
            influence=at_once("influence", Influence.measure),
            patterns=Patterns.measure(subject, functools.partial(progress, "patterns")),
            training=Training.measure(model, curves),
        )


def _network(subject: Subject) -> Numbers:
    """What the network is."""
    model, lattice = subject.model, subject.model.lattice
    return {
        "shape": list(lattice.shape),
        "neighbourhood": lattice.neighbourhood,
        "cells": lattice.num_nodes,
        "edges": lattice.num_edges,
        "channels": model.cell.channels,
        "surface_channels": model.input_surface.channels,
        "path": "none" if model.path is None else "linear",
        "cells_read": len(model.read_index),
        "num_steps": model.num_steps[1],
        "remembers": model.remembers,
        "parameters": model.parameter_counts(),
        "held_out_pairs": len(subject.pairs),
    }
