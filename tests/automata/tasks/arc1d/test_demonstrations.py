"""The 1-D ARC from demonstrations: drawn, asked, told and learned."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from arc1d_tasks import READER, SMALL, made, recoloured, stirred, twelve_tasks, write

from cellgraph.automata import Automaton, AutomatonSettings, SamplePool, train_automaton
from cellgraph.automata.tasks.arc1d.demonstrations import Arc1DDemonstrations
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE
from cellgraph.folder import RunFolder


@pytest.fixture
def path(tmp_path):
    return twelve_tasks(tmp_path / "tasks.jsonl")


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


def test_tasks_are_stretched_whole(path):
    task, _ = made(path, stretch=1.0, move=False)
    batch = task.sample(30, torch.Generator().manual_seed(0))

    def drawn(rows):
        return ((rows != 0) & (rows != OUTSIDE)).sum(-1)

    seen = set()
    for number, source, colours in zip(batch.number, batch.source, batch.colours.unflatten(1, (3, 8)), strict=True):
        before, present = drawn(task.learned.pairs[number, :, 0]), task.learned.present[number]
        # Each row's drawn cells are one piece: of those shown and the one asked for, each has grown by as many.
        after = sorted([drawn(source).item(), *drawn(colours)[(colours != OUTSIDE).any(1)].tolist()])
        (more,) = {new - old for new, old in zip(after, before[present].sort().values.tolist(), strict=True)}
        seen.add(more)
    assert seen == {1, 2}


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judged": "train"}, "train"),
        ({"width": 4, "narrow": 0}, "cells, got 4"),
        ({"narrow": 9}, "0 to 8"),
        ({"mirror": 1.5}, "1.5"),
        ({"stretch": -0.5}, "-0.5"),
        ({"reader_steps": 0}, "0 steps"),
        ({"vector_channels": 0}, "positive, got 0"),
    ],
)
def test_refuses(path, options, message):
    with pytest.raises(ValueError, match=message):
        Arc1DDemonstrations(path, **SMALL | READER | options)


def test_weights_go_from_one_split_to_another(path, tmp_path):
    """What the tasks of a split cost is theirs, and stays with a run that goes on."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    whole, cell = made(path)
    part, _ = made(path, judged="validation")
    assert len(part.learned) < len(whole.learned)
    part.cost.fill_(3.0)
    part.save(Automaton(cell, part), folder)
    loaded = whole.load(Automaton(cell, whole), folder).task
    assert torch.equal(loaded.cost, torch.ones(len(whole.learned)))
    assert torch.equal(loaded.start.weight, part.start.weight)
    again, _ = made(path, judged="validation")
    assert torch.equal(again.load(Automaton(cell, again), folder).task.cost, part.cost)
