"""The judging: exact match by kind, the picture and the table."""

import json

import numpy as np
import pytest
import torch
from arc1d_tasks import made, twelve_tasks
from PIL import Image
from rich.console import Console

from cellgraph.automata import Automaton, AutomatonSettings
from cellgraph.automata.tasks.arc1d.adapting import Adaptation
from cellgraph.automata.tasks.arc1d.picture import PALETTE, save_blocks
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE
from cellgraph.automata.tasks.arc1d.table import table_of_kinds
from cellgraph.folder import RunFolder
from cellgraph.training import Job


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
    assert ("published" in table.read_text()) == (judged == "test")


def test_what_is_judged_is_judged_once_for_figures_and_table(path, tmp_path, monkeypatch):
    """Both what is fitted to a task at the test and what chance makes of the cells come to both alike."""
    task, cell = made(path, adaptation=Adaptation(updates=1))
    fitted, judged = [], []
    fit, batches = Adaptation.fit, task.judged_batches

    def counted_fit(self, task, cell, tasks, **options):
        fitted.append(len(tasks))
        return fit(self, task, cell, tasks, **options)

    def counted_batches(*given, **options):
        judged.append(1)
        return batches(*given, **options)

    monkeypatch.setattr(Adaptation, "fit", counted_fit)
    monkeypatch.setattr(task, "judged_batches", counted_batches)
    job = Job(RunFolder(tmp_path), AutomatonSettings(num_steps=2), Console(quiet=True))
    figures = task.judge(Automaton(cell, task), job, {"updates": 0, "seconds": 0.0})
    assert len(judged) == 1
    # Every task once, and for the picture one of each kind.
    assert fitted == [12, 2]
    told = json.loads((tmp_path / "evaluation.json").read_text())["held_out"]
    assert told == figures
    expected = table_of_kinds(["1d_a", "1d_b"], figures, told=True)
    assert (tmp_path / "arc1d_demonstrations.md").read_text() == expected


@pytest.mark.parametrize(("blocks", "shape"), [(1, (2, 1)), (2, (2, 2)), (5, (4, 3)), (7, (6, 3)), (17, (12, 3))])
def test_any_number_of_kinds_is_drawn(tmp_path, blocks, shape):
    # A block is two rows of one cell, in a colour of its own.
    colours = torch.arange(blocks) % 10
    file = save_blocks(colours[None, :, None].repeat(2, 1, 1), tmp_path / "kinds.png")
    seen = np.asarray(Image.open(file).convert("RGB"))[2::4, 2::4]
    assert seen.shape[:2] == shape
    tall = shape[0] // 2
    for block in range(tall * shape[1]):
        code = PALETTE[int(colours[block]) if block < blocks else OUTSIDE]
        wanted = [int(code[i : i + 2], 16) for i in (0, 2, 4)]
        for row in (0, 1):
            assert seen[2 * (block % tall) + row, block // tall].tolist() == wanted


def test_published_figures_stand_beside_those_of_the_tests_alone():
    kinds = ["1d_flip", "1d_own"]
    figures = dict.fromkeys(kinds, 0.5)
    lines = table_of_kinds(kinds, figures, told=True).splitlines()[2:]
    assert [line.replace("|", " ").split() for line in lines] == [
        ["flip", "50", "100", "28", "70"],
        ["own", "50", "-", "-", "-"],
        ["mean", "over", "kinds", "50.00", "81.4", "60.12", "41.56"],
    ]
    for judged in ("new", "validation"):
        told = table_of_kinds(kinds, figures, told=True, judged=judged)
        assert told.splitlines()[0].split("|")[1:-1] == [" kind            ", f" this automaton, {judged} "]
        assert "60.12" not in told
