"""The 1-D ARC: read, numbered, told, judged and drawn."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from arc1d_tasks import DATA
from PIL import Image

from cellgraph.automata import AutomatonSettings, train_automaton
from cellgraph.automata.tasks.arc1d.kinds import Arc1D
from cellgraph.automata.tasks.arc1d.pairs import read_arc1d, renumber
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE
from cellgraph.automata.tasks.arc1d.table import PUBLISHED, PUBLISHED_MEAN, TOLD, TOLD_MEAN
from cellgraph.nn import Cell, NCACell


def row(*colours):
    return {"input": [list(colours)], "output": [list(colours)[::-1]]}


@pytest.fixture
def path(tmp_path):
    """Three tasks of two kinds, rows to be reversed."""
    tasks = [
        {"task": "1d_b", "train": [row(0, 3, 3), row(5, 0, 4, 0), row(0, 9)], "test": [row(7, 7, 0, 1, 1)]},
        {"task": "1d_a", "train": [row(0, 1), row(2, 0)], "test": [row(0, 4)]},
        {"task": "1d_a", "train": [row(0, 6), row(8, 0)], "test": [row(0, 2)]},
    ]
    file = tmp_path / "tasks.jsonl"
    file.write_text("\n".join(map(json.dumps, tasks)))
    return file


class Oracle(Cell):
    """Writes the mirrored input's colour into the channels that are read."""

    def perceive(self, x, context=None):
        return None

    def update(self, x, perceived, context=None):
        return self.answer - x


def test_published_means():
    """Each column's mean is the table's own total, but for the rounding of one kind that has 51 tasks."""
    assert np.mean(list(PUBLISHED.values()), axis=0) == pytest.approx(PUBLISHED_MEAN, abs=0.02)
    assert TOLD.keys() == PUBLISHED.keys()
    assert np.mean(list(TOLD.values())) == pytest.approx(TOLD_MEAN, abs=0.1)


def test_reader_sets_pairs_aside(path):
    training, validation, test = read_arc1d(path)
    assert len(training) == 6
    assert [(pair.kind, pair.source, pair.target) for pair in validation] == [("1d_b", (0, 9), (9, 0))]
    assert [pair.source for pair in test] == [(7, 7, 0, 1, 1), (0, 4), (0, 2)]


@pytest.mark.parametrize(
    "line",
    [
        '{"task": "a"}',
        "[]",
        "[" * 100_000,
        '{"task": "a", "train": [], "test": [{"input": [[1]], "output": [[1, 2]]}]}',
        '{"task": 5, "train": [], "test": []}',
        '{"task": ["a"], "train": [], "test": []}',
        *(
            json.dumps({"task": "a", "train": [{"input": [[1, 0]], "output": [[0, 1]]} | {side: grid}], "test": []})
            for side in ("input", "output")
            for grid in (
                [[10, 0]],
                [[0, 11]],
                [[-1, 0]],
                [[1.0, 0]],
                [[True, 0]],
                [[None, 0]],
                [["1", 0]],
                [[[1], 0]],
                [12, 10],
                ["01"],
                "01",
                ["0", "1"],
                [[]],
                [],
                {},
                None,
                [[1, 0], [0, 1]],
            )
        ),
    ],
)
def test_reader_names_the_line(tmp_path, line):
    file = tmp_path / "tasks.jsonl"
    good = {"task": "a", "train": [row(0, 1), row(2, 0)], "test": [row(0, 4)]}
    file.write_text(json.dumps(good) + "\n" + line)
    with pytest.raises(ValueError, match="line 2 of"):
        read_arc1d(file)


def test_reader_asks_for_a_task(tmp_path):
    file = tmp_path / "tasks.jsonl"
    file.write_text("")
    with pytest.raises(ValueError, match=r"tasks\.jsonl must hold tasks of the 1-D ARC, got no line"):
        read_arc1d(file)


def test_reader_says_where_data_belongs(tmp_path):
    with pytest.raises(FileNotFoundError, match="CELLGRAPH_DATA"):
        read_arc1d(tmp_path / "none.jsonl")


def test_renumber_is_a_permutation_by_first_appearance():
    numbers = renumber((0, 9, 9, 2, 0, 5, 2))
    assert sorted(numbers) == list(range(10))
    assert numbers[[0, 9, 2, 5]].tolist() == [0, 1, 2, 3]


def test_renumbered_rows_do_not_depend_on_colours(path, tmp_path):
    swapped = tmp_path / "swapped.jsonl"
    swapped.write_text(path.read_text().replace("[5, 0, 4, 0]", "[4, 0, 5, 0]").replace("[0, 4, 0, 5]", "[0, 5, 0, 4]"))
    for renumbered in (True, False):
        one, other = (Arc1D(file, width=6, renumbered=renumbered) for file in (path, swapped))
        assert torch.equal(one.source, other.source) == renumbered


def test_rows_lie_in_the_middle(path):
    task = Arc1D(path, width=6, renumbered=False)
    assert task.judged_source.tolist()[:2] == [[7, 7, 0, 1, 1, OUTSIDE], [OUTSIDE, OUTSIDE, 0, 4, OUTSIDE, OUTSIDE]]
    assert task.judged_target.tolist()[1] == [OUTSIDE, OUTSIDE, 4, 0, OUTSIDE, OUTSIDE]
    assert task.judged_kind.tolist() == [1, 0, 0]


def test_validation_pairs_are_trained_on_only_when_the_test_is_judged(path):
    task = Arc1D(path, width=6, judged="validation")
    assert len(task.source) == 6
    assert len(task.judged_source) == 1
    assert len(Arc1D(path, width=6).source) == 7


def told_kinds(file, **options):
    """A task on a file, and a cell for it."""
    task = Arc1D(file, width=6, channels=8, kind_channels=3, **options)
    return task, NCACell(task.lattice, 8, perception="stencil", context_channels=task.context_channels).eval()


def test_a_kind_of_which_nothing_is_judged_is_not_drawn(path, tmp_path):
    """Of the three tasks the first alone has a pair set aside."""
    task, cell = told_kinds(path, judged="validation")
    assert task.kinds == ["1d_a", "1d_b"]
    assert set(task.evaluate(cell, num_steps=2)) == {"accuracy", "1d_b"}
    picture, table = task.draw(cell, tmp_path, num_steps=2)
    # One row of four cells at most, two apart, and seven lines: the row, two steps, a gap, the target and two gaps.
    assert Image.open(picture).size == ((2 + 2) * 4, 7 * 4)
    assert table.read_text().count("\n") == 2 + 1 + 1


@pytest.mark.parametrize("judged", ["test", "validation"])
def test_a_kind_may_have_its_only_pair_set_aside(tmp_path, judged):
    tasks = [
        {"task": "1d_a", "train": [row(0, 1)], "test": [row(0, 4)]},
        {"task": "1d_b", "train": [row(0, 6), row(8, 0)], "test": [row(0, 2)]},
    ]
    file = tmp_path / "tasks.jsonl"
    file.write_text("\n".join(map(json.dumps, tasks)))
    task, cell = told_kinds(file, judged=judged)
    assert task.kinds == ["1d_a", "1d_b"]
    assert sorted(task.kind.tolist()) == ([0, 1, 1] if judged == "test" else [1, 1])
    assert "1d_a" in task.evaluate(cell, num_steps=1)


def test_pairs_to_train_on_and_to_judge_are_asked_for(tmp_path):
    file = tmp_path / "tasks.jsonl"
    file.write_text(json.dumps({"task": "1d_a", "train": [row(0, 1)], "test": []}))
    for judged, left in (("test", "1 and 0"), ("validation", "0 and 1")):
        with pytest.raises(ValueError, match=f"pairs to train on and pairs to judge, got {left}"):
            Arc1D(file, width=6, judged=judged)


@pytest.mark.parametrize("encoding", ["learned", "fixed"])
def test_every_cell_is_told_the_kind(path, encoding):
    task = Arc1D(path, width=6, channels=24, encoding=encoding)
    batch = task.sample(5, torch.Generator().manual_seed(0))
    told = batch.x[..., 3:11] if encoding == "fixed" else batch.context[..., OUTSIDE + 1 :]
    vectors = task.kind_code if encoding == "fixed" else task.kind_vector.weight
    assert torch.equal(told, vectors[batch.kind][:, None].expand_as(told))
    width = 0 if batch.context is None else batch.context.size(2)
    assert width == task.context_channels


def test_loss_is_the_mean_cross_entropy_of_a_row(path):
    task = Arc1D(path, width=6, channels=24, encoding="learned")
    batch = task.sample(4, torch.Generator().manual_seed(1))
    x = torch.randn(4, 6, 24)
    expected = []
    for state, target in zip(x, batch.target, strict=True):
        normed = state / state.square().mean(-1, keepdim=True).sqrt()
        logp = F.log_softmax(normed @ task.readout.weight.T + task.readout.bias, -1)
        expected.append(np.mean([-logp[i, t].item() for i, t in enumerate(target) if t != OUTSIDE]))
    assert task.loss(x, batch).tolist() == pytest.approx(expected, rel=1e-4)


def test_fixed_vectors_read_the_last_channels(path):
    task = Arc1D(path, width=6, channels=24, encoding="fixed")
    x = F.pad(10.0 * F.one_hot(task.judged_target.where(task.judged_target != OUTSIDE, 0), 10).float(), (14, 0))
    batch = task.batch(task.judged_source, task.judged_target, task.judged_kind)
    # The other nine colours together have 9 exp(-10) of the right one's weight.
    assert task.loss(x, batch).tolist() == pytest.approx([np.log1p(9 * np.exp(-10))] * 3, rel=1e-3)


def test_exact_match_counts_whole_rows(path):
    task = Arc1D(path, width=6, channels=24, encoding="fixed", renumbered=False)
    cell = Oracle(task.lattice, 24)
    cell.answer = F.pad(F.one_hot(task.judged_target.where(task.judged_target != OUTSIDE, 3), 10).float(), (14, 0))
    assert task.evaluate(cell, num_steps=1) == {"accuracy": 1.0, "1d_a": 1.0, "1d_b": 1.0}
    cell.answer[1, 2] = cell.answer[1, 2].roll(1)
    assert task.evaluate(cell, num_steps=1) == pytest.approx({"accuracy": 2 / 3, "1d_a": 0.5, "1d_b": 1.0})


def test_learns_to_reverse_and_draws(path, tmp_path):
    torch.manual_seed(0)
    task = Arc1D(path, width=6, channels=32, offsets=[-2, -1, 1, 2])
    cell = NCACell(
        task.lattice,
        32,
        perception={"name": "stencil", "num_filters": 1},
        update={"name": "mlp", "hidden": 32},
        norm="rms",
        step_size=0.5,
        context_channels=task.context_channels,
    )
    settings = AutomatonSettings(max_steps=80, batch_size=8, num_steps=4, lr=1e-2, accelerator="cpu")
    train_automaton(cell, task, settings, progress=False)
    batch = task.batch(task.source, task.target, task.kind)
    right = (task.predict(cell, batch, num_steps=4) == task.target) | (task.target == OUTSIDE)
    assert right.all()
    picture, table = task.draw(cell, tmp_path, num_steps=4)
    # Two kinds of five cells, two apart: the row, four steps, a gap, the target and two gaps, at four pixels a cell.
    assert Image.open(picture).size == (2 * (5 + 2) * 4, 9 * 4)
    assert table.read_text().count("\n") == 2 + 2 + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "other"}, "other"),
        ({"judged": "train"}, "train"),
        ({"width": 4}, "5 cells, got 4"),
        ({"encoding": "fixed", "channels": 16}, "at least 21"),
    ],
)
def test_refuses(path, options, message):
    with pytest.raises(ValueError, match=message):
        Arc1D(path, **{"width": 6} | options)


@pytest.mark.skipif(not DATA.is_file(), reason="needs the 1-D ARC in CELLGRAPH_DATA")
def test_the_corpus():
    training, validation, test = read_arc1d(DATA)
    assert (len(training) + len(validation), len(validation), len(test)) == (2703, 301, 901)
    assert {pair.kind for pair in test} == set(PUBLISHED)
    # What a kind alone cannot tell: the new colours of the three kinds that recolour.
    hidden = {pair.kind for pair in test if not set(pair.target) <= {0, *pair.source}}
    assert hidden == {"1d_recolor_oe", "1d_recolor_cnt", "1d_recolor_cmp"}
