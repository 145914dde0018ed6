"""Every task learns, validates, judges and draws where the cell is: on a GPU, and on one that is pretended."""

from __future__ import annotations

from pathlib import Path

import arc2d_tasks
import pytest
import torch
from elsewhere import DEVICE, Elsewhere
from small_tasks import TASKS

from cellgraph.automata import AutomatonSettings
from cellgraph.automata.automaton import Automaton
from cellgraph.nn import NCACell
from cellgraph.testing import randomise

KINDS = (*TASKS, "arc2d")


def automaton(kind: str, folder: Path) -> Automaton:
    torch.manual_seed(0)
    if kind == "arc2d":  # its cells have weights for each task
        task, cell = arc2d_tasks.experiment(arc2d_tasks.ten_tasks(folder / "arc2d.json"))
        return Automaton(cell, task)
    task = TASKS[kind](folder)
    batch = task.sample(2, torch.Generator().manual_seed(0))
    told = 0 if batch.context is None else batch.context.size(-1)
    perception = "stencil" if kind in ("voronoi", "arc1d", "arc1d_demonstrations") else "filters"
    cell = NCACell(task.lattice, batch.x.size(-1), perception=perception, context_channels=told, fire_rate=0.5)
    randomise(cell, std=0.1)
    return Automaton(cell, task)


def exercise(made: Automaton, device: torch.device, folder: Path) -> dict[str, float]:
    """All that is done with a task, where the automaton is; the figures of its validation."""
    made.to(device)
    cell, task = made.cell, made.task
    assert cell.device == device
    lesson = task.lesson(AutomatonSettings(num_steps=(2, 2), batch_size=2, max_steps=2, noise=0.1))
    generator = torch.Generator(device if device.type == "cuda" else "cpu").manual_seed(0)
    if device.type != "privateuseone":
        lesson.learn(made.train(), 0, done=0.0, generator=generator).loss.backward()
        assert all(p.grad is None or p.grad.device == device for p in made.parameters())
    figures = task.validate(cell.eval(), num_steps=2)
    assert task.evaluate(cell, num_steps=2)
    assert all(path.stat().st_size for path in task.draw(cell, folder, num_steps=2))
    batch = task.sample(2, torch.Generator().manual_seed(0)).to(device)
    if batch.x.size(1) == task.lattice.num_nodes:  # grids of other shapes have no pool, and none is damaged
        task.damage(batch, torch.Generator().manual_seed(0))
    task.loss(task.run(cell, batch, num_steps=1).x, batch).sum().backward()
    return figures


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_works_where_the_cell_is(kind: str, tmp_path: Path) -> None:
    made = automaton(kind, tmp_path)
    expected = exercise(made, torch.device("cpu"), tmp_path)
    with Elsewhere():
        found = exercise(automaton(kind, tmp_path), DEVICE, tmp_path)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_a_task_works_on_a_gpu(kind: str, tmp_path: Path) -> None:
    expected = exercise(automaton(kind, tmp_path), torch.device("cpu"), tmp_path)
    found = exercise(automaton(kind, tmp_path), torch.device("cuda", 0), tmp_path)
    assert found == pytest.approx(expected, rel=1e-2)
