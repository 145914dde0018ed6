"""The reader: what several demonstrations say together, and lattices cut to short rows."""

import pytest
import torch
from arc1d_tasks import stirred, twelve_tasks

from cellgraph.automata import on_lattice
from cellgraph.automata.tasks.arc1d.reader import DemonstrationReader
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE
from cellgraph.lattice import Lattice
from cellgraph.testing import randomise


@pytest.fixture
def path(tmp_path):
    return twelve_tasks(tmp_path / "tasks.jsonl")


def test_reading_together_is_the_mean_of_those_there_are():
    torch.manual_seed(0)
    reader = DemonstrationReader(Lattice((6,), [(-1,), (1,)]), 4, channels=5, hidden=6, num_steps=2)
    randomise(reader.cell, std=0.3)
    pairs = torch.randint(0, 10, (3, 2, 6), generator=torch.Generator().manual_seed(0))
    states, summaries = reader(pairs)
    assert states.shape == (3, 6, 5)
    present = torch.tensor([[True, False, True]])
    together = reader.together(summaries[None], present)
    torch.testing.assert_close(together, reader.vector((summaries[:1] + summaries[2:]) / 2))
    # What stands beyond a row does not count.
    padded = torch.nn.functional.pad(pairs[..., :5], (0, 1), value=OUTSIDE)
    _, (one, *_) = reader(padded)
    x = reader(padded)[0][0, :5]
    features = torch.relu(reader.features(x))
    torch.testing.assert_close(one, torch.cat([features.mean(0), features.amax(0)]))


def test_maxima_over_a_pair_reach_its_other_end():
    def agree(pooled):
        torch.manual_seed(0)
        reader = DemonstrationReader(Lattice((9,), [(-1,), (1,)]), 4, channels=5, hidden=6, num_steps=2, pooled=pooled)
        randomise(reader.cell, std=0.3)
        pairs = torch.zeros(2, 2, 9, dtype=torch.long)
        pairs[:, :, 0], pairs[0, 1, 8] = 1, 1
        states, _ = reader(pairs)
        return ((states[0] - states[1]).abs() < 1e-5).all(-1).tolist()

    assert agree(0) == [True] * 6 + [False] * 3
    assert agree(5) == [False] * 9


def test_a_cut_lattice_is_as_good_as_one_of_that_width(path):
    task, cell = stirred(path, width=9, narrow=6)
    cut, narrow = stirred(path, width=9, narrow=0), stirred(path, width=9, narrow=0)
    tasks = task.judged_tasks
    batch = task.batch(tasks, tasks.tests())
    x = task.run(cell, batch, num_steps=3, trajectory=True)
    assert x.trajectory.shape == (4, len(batch), 9, 12)
    torch.testing.assert_close(x.trajectory[-1], x.x)
    short = (batch.source != OUTSIDE).sum(1) <= 6
    assert 0 < short.sum() < len(short)
    whole = cut[0].run(cut[1], batch, num_steps=3).x
    torch.testing.assert_close(x.x[~short], whole[~short])
    small = on_lattice(narrow[1], Lattice((6,), narrow[1].lattice.offsets))
    alone, context = batch.x[short, :6], batch.context[short, :6]
    for _ in range(3):
        alone = small(alone, None, context)
    torch.testing.assert_close(x.x[short, :6], alone)
    assert not x.x[short, 6:].any()
