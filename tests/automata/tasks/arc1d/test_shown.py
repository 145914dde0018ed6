"""Tasks as they are shown: read, left out and set aside."""

import pytest
import torch
from arc1d_tasks import DATA, recoloured, twelve_tasks, write

from cellgraph.automata.tasks.arc1d.demonstrations import Arc1DDemonstrations
from cellgraph.automata.tasks.arc1d.pairs import read_tasks
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE
from cellgraph.automata.tasks.arc1d.shown import ShownTasks


@pytest.fixture
def path(tmp_path):
    return twelve_tasks(tmp_path / "tasks.jsonl")


def test_blank_lines_are_no_tasks(path):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "", *lines[1:], "", "  \n"]))
    assert len(read_tasks(path)) == len(lines)
    path.write_text(path.read_text() + "{}")
    with pytest.raises(ValueError, match=f"line {len(lines) + 4} of"):
        read_tasks(path)


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


def test_tasks_that_lack_a_demonstration_have_it_for_a_test(path):
    tasks, _, _ = ShownTasks.read(path, 8, "test")
    lacking, queries = tasks.each_left_out(), tasks.left_out()
    asked = lacking.tests()
    assert torch.equal(asked.source, queries.source)
    assert torch.equal(asked.target, queries.target)
    assert torch.equal(asked.shown, queries.shown)
    assert torch.equal(lacking.kind, tasks.kind[queries.owner])
    shown = queries.shown[..., None, None]
    assert torch.equal(lacking.pairs.where(shown, OUTSIDE), lacking.pairs)
    assert torch.equal(lacking.pairs.where(shown, 0), tasks.pairs[queries.owner].where(shown, 0))


def test_tasks_are_set_aside_whole(path):
    learned, judged, _ = ShownTasks.read(path, 8, "new")
    every, _, _ = ShownTasks.read(path, 8, "test")
    assert torch.equal(judged.pairs, every.pairs[[5, 11]])
    assert torch.equal(learned.pairs, every.pairs[[0, 1, 2, 3, 4, 6, 7, 8, 9, 10]])


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
