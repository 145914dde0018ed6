"""The 1-D ARC from demonstrations: rows changed alike, read, asked, copied, judged and drawn."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cellgraph.automata import AutomatonSettings, SamplePool, on_lattice, train_automaton
from cellgraph.automata.tasks.arc1d_copying import CopyingReadout
from cellgraph.automata.tasks.arc1d_demonstrations import Arc1DDemonstrations
from cellgraph.automata.tasks.arc1d_pairs import read_tasks, renumber
from cellgraph.automata.tasks.arc1d_reader import DemonstrationReader
from cellgraph.automata.tasks.arc1d_rows import OUTSIDE, appearance, by_width, mirrored, moved, numbered
from cellgraph.automata.tasks.arc1d_shown import ShownTasks
from cellgraph.lattice import Lattice
from cellgraph.nn import NCACell
from cellgraph.testing import randomise

DATA = Path(os.environ.get("CELLGRAPH_DATA", Path(__file__).parents[4] / "shared" / "data")) / "1d-arc" / "1d_arc.jsonl"
SMALL = {"width": 8, "narrow": 5, "channels": 12, "vector_channels": 6}
READER = {"reader_channels": 8, "reader_hidden": 8, "reader_steps": 2}


def pair(source, target):
    return {"input": [list(source)], "output": [list(target)]}


def recoloured(colour, other, length=5):
    """A task: what is drawn becomes another colour."""
    rows = [[0] * start + [colour] * (2 + start) + [0] * (length - 2 * start - 2) for start in (0, 1)]
    rows.append([0] * (length - 1) + [colour])
    return [pair(row, [other if c else 0 for c in row]) for row in rows]


def write(file, tasks):
    file.write_text("\n".join(json.dumps({"task": k, "train": t, "test": s}) for k, t, s in tasks))
    return file


@pytest.fixture
def path(tmp_path):
    """Twelve tasks of two kinds, of two demonstrations or three, one of them with two tests."""
    tasks = []
    random = np.random.default_rng(0)
    for number in range(12):
        colour, other = random.choice(np.arange(1, 10), 2, replace=False).tolist()
        *shown, asked = recoloured(colour, other, length=5 + number % 4)
        shown = shown if number % 2 else [*shown, recoloured(colour, other)[2]]
        tasks.append((f"1d_{'ab'[number % 2]}", shown, [asked] * (1 + (number == 4))))
    return write(tmp_path / "tasks.jsonl", tasks)


def made(path, **options):
    torch.manual_seed(0)
    task = Arc1DDemonstrations(path, **SMALL | READER | options)
    cell = NCACell(
        task.lattice,
        12,
        perception={"name": "stencil", "num_filters": 1},
        update={"name": "mlp", "hidden": 16},
        norm="rms",
        step_size=0.5,
        context_channels=task.context_channels,
    )
    return task, cell


def stirred(path, **options):
    """A task and a cell that does something."""
    task, cell = made(path, **options)
    randomise(cell, std=0.3)
    randomise(task.reader, std=0.3)
    return task, cell


def test_appearance_is_that_of_each_row():
    rows = torch.randint(0, 10, (50, 7), generator=torch.Generator().manual_seed(0))
    expected = np.stack([renumber(row) for row in rows.tolist()])
    assert np.array_equal(appearance(rows).numpy(), expected)
    assert torch.equal(appearance(rows[:, :3], rows[:, 3:]), appearance(rows))


def test_what_is_beyond_a_row_has_no_number():
    rows = torch.tensor([[0, 7, 3, OUTSIDE]])
    assert numbered(rows, appearance(rows)).tolist() == [[0, 1, 2, OUTSIDE]]


#: Rules that do not hang on places, row to row, and what each is where rows are mirrored.
def fill(row):
    drawn = np.flatnonzero(row)
    return np.where((np.arange(len(row)) > drawn[0]) & (np.arange(len(row)) < drawn[-1]), row[drawn[0]], row)


def step_right(row):
    return np.roll(row, 1)


def step_left(row):
    return np.roll(row, -1)


def random_pairs(rule, size, width):
    """Rows with some cells free at either end, of several lengths."""
    random = np.random.default_rng(1)
    pairs = np.full((size, 2, width), OUTSIDE)
    for pair in pairs:
        length = random.integers(width - 4, width + 1)
        row = np.zeros(length, dtype=int)
        row[2:-2] = random.integers(0, 10, length - 4)
        row[2] = row[-3] = random.integers(1, 10)
        pair[:, :length] = row, rule(row)
    return torch.from_numpy(pairs)


def follow(pairs, rule):
    for source, target in pairs.numpy():
        inside = source != OUTSIDE
        assert np.array_equal(inside, target != OUTSIDE)
        assert np.array_equal(rule(source[inside]), target[inside])


@pytest.mark.parametrize("rule", [fill, step_right, step_left])
def test_moved_pairs_follow_their_rule(rule):
    pairs = random_pairs(rule, 200, 14)
    after = moved(pairs, torch.Generator().manual_seed(0))
    follow(after, rule)
    changed = (after != pairs).flatten(1).any(1)
    assert 0.3 < changed.float().mean() < 0.75
    # All that there is room for, and no colour is lost.
    assert torch.equal(after.sort(2).values, pairs.sort(2).values)
    shortest = (pairs[:, 0] != OUTSIDE).sum(1) == 10
    starts = (after[shortest, 0] != 0).float().argmax(1)
    assert set(starts.tolist()) == set(range(5 - (rule is not fill)) if rule is not step_left else range(1, 5))


def test_an_empty_row_stays():
    empty = torch.tensor([[[0, 0, OUTSIDE]] * 2, [[OUTSIDE] * 3] * 2])
    assert torch.equal(moved(empty, torch.Generator().manual_seed(0)), empty)


@pytest.mark.parametrize(("rule", "turned"), [(fill, fill), (step_right, step_left), (step_left, step_right)])
def test_mirrored_pairs_follow_the_mirrored_rule(rule, turned):
    pairs = random_pairs(rule, 50, 14)
    follow(mirrored(pairs), turned)
    assert torch.equal(mirrored(mirrored(pairs)), pairs)


def test_rows_by_width():
    rows = torch.tensor([[1, OUTSIDE, OUTSIDE], [1, 2, 3], [4, 5, OUTSIDE]])
    parts = by_width(rows, 2)
    assert [(index.tolist(), cells) for index, cells in parts] == [([0, 2], 2), ([1], 3)]
    assert [(index.tolist(), cells) for index, cells in by_width(rows, 0)] == [([0, 1, 2], 3)]


def test_each_demonstration_is_left_out_once(path):
    tasks, judged, kinds = ShownTasks.read(path, 8, "test")
    lines = read_tasks(path)
    queries = tasks.left_out()
    assert kinds == ["1d_a", "1d_b"]
    assert len(queries.owner) == sum(len(line.demonstrations) for line in lines) == 30
    rest = iter(range(len(queries.owner)))
    for owner, line in enumerate(lines):
        for number, own in enumerate(line.demonstrations):
            row = next(rest)
            others = [other != number and other < len(line.demonstrations) for other in range(3)]
            assert queries.owner[row] == owner
            assert queries.shown[row].tolist() == others
            assert queries.target[row].tolist() == [*own.target, *[OUTSIDE] * (8 - len(own.target))]
    tests = judged.tests()
    assert tests.owner.tolist() == [0, 1, 2, 3, 4, 4, *range(5, 12)]
    assert tests.shown.sum(1).tolist() == [len(lines[owner].demonstrations) for owner in tests.owner]


def test_tasks_are_set_aside_whole(path):
    learned, judged, _ = ShownTasks.read(path, 8, "new")
    every, _, _ = ShownTasks.read(path, 8, "test")
    assert torch.equal(judged.pairs, every.pairs[[5, 11]])
    assert torch.equal(learned.pairs, every.pairs[[0, 1, 2, 3, 4, 6, 7, 8, 9, 10]])


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_samples_leave_one_out(path, size):
    task, _ = made(path)
    batch = task.sample(size, torch.Generator().manual_seed(3))
    assert batch.x.shape == (size, 8, 12)
    assert batch.context.shape == (size, 8, task.context_channels)
    assert batch.keys.shape == (size, 3 * 8, 8)
    for source, target, colours in zip(batch.source, batch.target, batch.colours.unflatten(1, (3, 8)), strict=True):
        assert torch.equal(source == OUTSIDE, target == OUTSIDE)
        shown = (colours != OUTSIDE).any(1)
        assert shown.sum() in (1, 2)
        # One rule: what others of the task become.
        assert set(colours[colours != OUTSIDE].tolist()) == set(target[target != OUTSIDE].tolist())


def test_no_target_is_looked_at(path, tmp_path):
    """Answers and losses are the same whatever the tests' outputs are; what is left out tells nothing of its own."""
    other = [json.loads(line) for line in path.read_text().splitlines()]
    for line in other:
        for test in line["test"]:
            test["output"] = [[9 - colour for colour in test["output"][0]]]
    changed = tmp_path / "changed.jsonl"
    changed.write_text("\n".join(map(json.dumps, other)))
    answers, losses = [], []
    for file in (path, changed):
        task, cell = stirred(file)
        batch = task.batch(task.judged_tasks, task.judged_tasks.tests())
        answers.append(task.logits(task.run(cell, batch, num_steps=3).x, batch))
        drawn = task.sample(7, torch.Generator().manual_seed(0))
        losses.append(task.loss(task.run(cell, drawn, num_steps=3).x, drawn))
    assert torch.equal(*answers)
    assert torch.equal(*losses)

    task, cell = stirred(path)
    tasks = task.learned.select(torch.tensor([0]))
    pairs = tasks.pairs.clone()
    pairs[0, 1, 1] = pairs[0, 1, 1].where(pairs[0, 1, 1] == OUTSIDE, 9 - pairs[0, 1, 1])
    answers = []
    for some in (tasks, replace(tasks, pairs=pairs)):
        batch = task.batch(some, some.left_out())
        answers.append(task.logits(task.run(cell, batch, num_steps=3).x, batch))
    same = (answers[0] == answers[1]).flatten(1).all(1)
    assert same.tolist() == [False, True, False]


def test_colours_renamed_are_colours_renamed_in_the_answer(path):
    task, cell = stirred(path, narrow=0)
    renamed = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(9) + 1, torch.tensor([OUTSIDE])])
    tasks = task.judged_tasks
    batch, other = (
        task.batch(some, some.tests())
        for some in (tasks, replace(tasks, pairs=renamed[tasks.pairs], judges=renamed[tasks.judges]))
    )
    one, two = (task.logits(task.run(cell, each, num_steps=3).x, each) for each in (batch, other))
    known = torch.cat([batch.source, batch.colours], 1)
    for row, (before, after) in enumerate(zip(one, two, strict=True)):
        there = known[row].unique()[:-1]
        torch.testing.assert_close(after[:, renamed[there]], before[:, there])


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


def test_the_loss_asks_for_what_can_be_known(path):
    task, cell = stirred(path)
    batch = task.sample(6, torch.Generator().manual_seed(1))
    x = task.run(cell, batch, num_steps=2).x
    logits = task.logits(x, batch)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(6, 8))
    target = batch.target.clone()
    here = target[0, 1].item()
    unknown = next(c for c in range(1, 10) if c not in batch.source[0].tolist() + batch.colours[0].tolist())
    expected = []
    for row, colours in zip(logits, target, strict=True):
        inside = colours != OUTSIDE
        expected.append(-row[inside].gather(1, colours[inside][:, None]).mean())
    torch.testing.assert_close(task.loss(x, batch), torch.stack(expected))
    target[0, 1] = unknown
    count = int((target[0] != OUTSIDE).sum())
    without = (expected[0] * count + logits[0, 1, here]) / (count - 1)
    torch.testing.assert_close(task.loss(x, replace(batch, target=target))[0], without)


def test_copying_mixes_own_and_shown_colours():
    torch.manual_seed(0)
    readout = CopyingReadout(4, 3, width=2).double()
    x, keys = torch.randn(1, 3, 4).double(), torch.randn(1, 3, 3).double()
    colours = torch.tensor([[5, 8, OUTSIDE]])
    rows = torch.tensor([[7, 3, OUTSIDE]])
    with torch.no_grad():
        found = readout(x, rows, keys, colours)[0].exp().numpy()
        own, gate = readout.own(x)[0].numpy(), readout.gate(x)[0].numpy()
        query, key = readout.query(x)[0].numpy(), readout.key(keys)[0].numpy()
    for cell in range(3):
        share = np.exp(own[cell, :3]) / np.exp(own[cell, :3]).sum()
        alike = np.exp(query[cell] @ key[:2].T / np.sqrt(2))
        alike /= alike.sum()
        keep = 1 / (1 + np.exp(-gate[cell, 0]))
        expected = np.zeros(10)
        expected[[0, 7, 3]] = keep * share
        expected[5] += (1 - keep) * alike[0]
        expected[8] += (1 - keep) * alike[1]
        assert found[cell] == pytest.approx(expected, abs=2e-7)


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


def test_tasks_are_drawn_by_what_they_cost(path):
    task, _ = made(path)
    batch = task.sample(6, torch.Generator().manual_seed(0))
    # What moves along a row keeps its colours.
    for number, source in zip(batch.number, batch.source, strict=True):
        assert (task.learned.pairs[number, :, 0].sort(1).values == source.sort().values).all(1).any()
    batch = replace(batch, number=torch.tensor([4, 4, 7, 7, 7, 2]))
    task.notice(batch, torch.tensor([1.0, 2.0, 0.1, 0.2, 0.6, 5.0]))
    expected = torch.ones(12)
    expected[[4, 7, 2]] = torch.tensor([(1 + 1.5) / 2, (1 + 0.3) / 2, (1 + 5.0) / 2])
    torch.testing.assert_close(task.cost, expected)
    task.cost.zero_()[7] = 0.3025
    # A root of 0.55 and the twentieth: six parts for this one, and half a one for each of the eleven others.
    generator = torch.Generator().manual_seed(0)
    seen = torch.cat([task.sample(40, generator).number for _ in range(10)])
    assert (seen == 7).float().mean() == pytest.approx(6 / (6 + 5.5), abs=0.1)
    task.by_loss = False
    seen = torch.cat([task.sample(40, generator).number for _ in range(10)])
    assert (seen == 7).float().mean() == pytest.approx(1 / 12, abs=0.05)


def test_training_notices(path):
    task, cell = made(path)
    train_automaton(cell, task, AutomatonSettings(max_steps=1, batch_size=4, num_steps=2), progress=False)
    assert 2 <= (task.cost != 1).sum() <= 4


def test_refuses_a_pool(path):
    task, cell = made(path)
    with pytest.raises(ValueError, match="pool"):
        train_automaton(cell, task, AutomatonSettings(max_steps=1, num_steps=2), pool=SamplePool(8), progress=False)


@pytest.mark.parametrize("kind_given", [False, True])
def test_the_kind_is_told_only_if_asked_for(path, kind_given):
    task, _ = stirred(path, kind_given=kind_given)
    tasks = task.judged_tasks
    one, other = (task.batch(some, some.tests()) for some in (tasks, replace(tasks, kind=1 - tasks.kind)))
    assert torch.equal(one.context, other.context) != kind_given


def test_learns_to_recolour_as_shown(tmp_path):
    """Which colour, only the demonstrations tell."""
    tasks = []
    random = np.random.default_rng(0)
    for _ in range(24):
        colour, other = random.choice(np.arange(1, 10), 2, replace=False).tolist()
        *shown, asked = recoloured(colour, other)
        tasks.append(("1d_a", shown, [asked]))
    task, cell = made(write(tmp_path / "tasks.jsonl", tasks))
    settings = AutomatonSettings(max_steps=60, batch_size=12, num_steps=3, lr=1e-2, accelerator="cpu")
    train_automaton(cell, task, settings, progress=False)
    assert task.evaluate(cell, num_steps=3) == {"accuracy": 1.0, "1d_a": 1.0}


@pytest.mark.parametrize("judged", ["test", "new", "validation"])
def test_judges_and_draws(path, tmp_path, judged):
    task, cell = made(path, judged=judged)
    rows = task.judged_tasks.left_out() if judged == "validation" else task.judged_tasks.tests()
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judged": "train"}, "train"),
        ({"width": 4, "narrow": 0}, "cells, got 4"),
        ({"narrow": 9}, "0 to 8"),
        ({"mirror": 1.5}, "1.5"),
        ({"reader_steps": 0}, "0 steps"),
        ({"vector_channels": 0}, "positive, got 0"),
    ],
)
def test_refuses(path, options, message):
    with pytest.raises(ValueError, match=message):
        Arc1DDemonstrations(path, **SMALL | READER | options)


@pytest.mark.parametrize(("shown", "asked"), [(1, 1), (3, 0)])
def test_refuses_a_task_that_shows_too_little(tmp_path, shown, asked):
    pairs = recoloured(1, 2)
    with pytest.raises(ValueError, match="line 2 of"):
        Arc1DDemonstrations(write(tmp_path / "t.jsonl", [("a", pairs, pairs), ("a", pairs[:shown], pairs[:asked])]))


def test_nothing_to_set_aside(tmp_path):
    pairs = recoloured(1, 2)
    with pytest.raises(ValueError, match="6 or more, got 1"):
        Arc1DDemonstrations(write(tmp_path / "t.jsonl", [("a", pairs, pairs)]), judged="new")


@pytest.mark.skipif(not DATA.is_file(), reason="needs the 1-D ARC in CELLGRAPH_DATA")
def test_the_corpus_shows_all_colours():
    """With the demonstrations every test's colours are there."""
    for task in read_tasks(DATA):
        shown = {colour for pair in task.demonstrations for colour in pair.target}
        assert len(task.demonstrations) == 3
        assert all(set(pair.target) <= {*pair.source, *shown} for pair in task.tests)
