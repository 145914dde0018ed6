"""A task of each kind, as small as it can be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cellgraph.automata.task import Task
from cellgraph.automata.tasks import (
    Arc1D,
    Arc1DDemonstrations,
    Growing,
    Life,
    Majority,
    Passage,
    SelfClassification,
    Voronoi,
)
from cellgraph.automata.tasks.arc1d.adapting import Adaptation


def rows(folder: Path) -> Path:
    pairs = [{"input": [row], "output": [row[::-1]]} for row in ([0, 3, 3], [5, 0, 4, 0], [0, 9])]
    (folder / "t.jsonl").write_text(json.dumps({"task": "1d_a", "train": pairs, "test": pairs}))
    return folder / "t.jsonl"


def demonstrations(folder: Path) -> Task:
    sizes = {"channels": 12, "vector_channels": 3, "reader_channels": 8, "reader_steps": 2, "width": 6, "narrow": 3}
    return Arc1DDemonstrations(rows(folder), adaptation=Adaptation(updates=1, lr=0.1), **sizes)


TASKS: dict[str, Callable[[Path], Task]] = {
    "arc1d": lambda folder: Arc1D(rows(folder), width=6, channels=12, kind_channels=3),
    "arc1d_demonstrations": demonstrations,
    "growing": lambda folder: Growing(size=8, channels=6, damages=2, long_run=3),
    "life": lambda folder: Life((17, 17), channels=2, size=2, horizon=2),
    "majority": lambda folder: Majority(7, channels=4, size=3),
    "passage": lambda folder: Passage(3, hole=2, channels=4, substrate=2),
    "self_classification": lambda folder: SelfClassification(12, seeds=0),
    "voronoi": lambda folder: Voronoi(40, channels=2, size=2, horizon=2),
}
