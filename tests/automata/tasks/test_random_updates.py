"""Cells that always update at random are judged and drawn alike each time, and leave the process's generator alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

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
from cellgraph.nn import NCACell
from cellgraph.testing import randomise
from cellgraph.unroll import Rollout


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


@pytest.mark.parametrize("kind", TASKS)
def test_random_updates_are_the_same_each_time(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS[kind](tmp_path)
    channels = task.sample(1, torch.Generator().manual_seed(0)).x.size(-1)
    cell = NCACell(
        task.lattice,
        channels,
        perception="stencil",
        context_channels=task.context_channels,
        fire_rate=0.5,
        always_random=True,
    )
    torch.manual_seed(5)
    randomise(cell, std=0.1)
    cell.eval()
    # What chance made of the cells is among what must be the same.
    states: list[torch.Tensor] = []
    run = task.run

    def heard(*given: Any, **named: Any) -> Rollout:
        states.append((ended := run(*given, **named)).x)
        return ended

    monkeypatch.setattr(task, "run", heard)
    before = torch.get_rng_state()

    def all_of_it(name: str) -> list[object]:
        states.clear()
        (tmp_path / name).mkdir()
        # As text, in which NaN is NaN.
        figures = str([task.validate(cell, num_steps=3), task.evaluate(cell, num_steps=3)])
        files = [path.read_bytes() for path in task.draw(cell, tmp_path / name, num_steps=3)]
        return [figures, files]

    first, seen = all_of_it("first"), [x.clone() for x in states]
    assert first == all_of_it("second")
    assert all(torch.equal(x, y) for x, y in zip(seen, states, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
