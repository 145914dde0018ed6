"""Cells that always update at random are judged and drawn alike each time, and leave the process's generator alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_tasks import TASKS

from cellgraph.nn import NCACell
from cellgraph.testing import randomise
from cellgraph.unroll import Rollout


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
