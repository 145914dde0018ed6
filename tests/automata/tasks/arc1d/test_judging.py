"""The judging: exact match by kind, the picture and the table."""

import pytest
import torch
from arc1d_tasks import made, twelve_tasks
from PIL import Image

from cellgraph.automata.tasks.arc1d.rows import OUTSIDE


@pytest.fixture
def path(tmp_path):
    return twelve_tasks(tmp_path / "tasks.jsonl")


@pytest.mark.parametrize("judged", ["test", "new", "validation"])
def test_judges_and_draws(path, tmp_path, judged):
    task, cell = made(path, judged=judged)
    rows = task.judged_tasks.tests()
    batch = task.batch(task.judged_tasks, rows)
    right = ((task.predict(cell, batch, num_steps=2) == batch.target) | (batch.target == OUTSIDE)).all(1).double()
    figures = task.evaluate(cell, num_steps=2)
    assert figures["accuracy"] == pytest.approx(right.mean().item())
    assert set(figures) == {"accuracy", *(task.kinds[k] for k in task.judged_tasks.kind.unique())}
    picture, table = task.draw(cell, tmp_path, num_steps=2)
    kinds = len(figures) - 1
    # Each kind has three demonstrations of two rows and a gap; a row, two steps, a gap, the target and two gaps.
    first = [(task.judged_tasks.kind == kind).nonzero()[0, 0] for kind in task.judged_tasks.kind.unique()]
    shown = task.judged_tasks.select(torch.stack(first))
    widest = (torch.cat([shown.pairs, shown.judges], 1) != OUTSIDE).sum(-1).max().item()
    assert Image.open(picture).size == (kinds * (widest + 2) * 4, (3 * 3 + 7) * 4)
    assert table.read_text().count("\n") == 2 + kinds + 1
