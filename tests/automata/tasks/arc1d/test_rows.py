"""Rows changed alike: numbered, moved, mirrored and stretched."""

from itertools import groupby

import numpy as np
import pytest
import torch

from cellgraph.automata.tasks.arc1d.pairs import renumber
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE, appearance, by_width, mirrored, moved, numbered, stretched


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


def grown(pair, by, limit):
    """A pair of rows with more of each piece, cut at the ends to a limit; nothing if that does not do."""
    columns = list(zip(*pair.tolist(), strict=True))
    pieces = [list(group) for _, group in groupby(columns)]
    columns = [column for piece in pieces for column in piece + piece[:1] * (by if any(piece[0]) else 0)]
    while len(columns) > limit and columns[-1] == (0, 0):
        columns.pop()
    while len(columns) > limit and columns[0] == (0, 0):
        columns.pop(0)
    return np.array(columns).T if len(columns) <= limit else None


def test_pieces_grow():
    random = np.random.default_rng(2)
    pairs = np.full((60, 2, 2, 14), OUTSIDE)
    by = random.integers(0, 3, 60)
    expected = pairs.copy()
    stayed = 0
    for number, (task, then, more) in enumerate(zip(pairs, expected, by, strict=True)):
        lengths = random.integers(5, 13, 2)
        for pair, length in zip(task, lengths, strict=True):
            pair[:, :length] = 0
            pair[:, 1 : length - 2] = random.integers(0, 2, length - 3) * random.integers(3, 5, (2, length - 3))
        if number % 10 == 0:
            # Something is drawn where nothing was.
            task[0, 1, 0] = 7
        limits = np.where(lengths <= 8, 8, 14)
        after = [grown(p[:, :n], more, limit) for p, n, limit in zip(task, lengths, limits, strict=True)]
        if number % 10 == 0 or any(rows is None for rows in after):
            stayed += 1
            then[:] = task
        else:
            for rows, place in zip(after, then, strict=True):
                place[:, : rows.shape[1]] = rows
    assert 10 < stayed < 30
    found = stretched(torch.from_numpy(pairs), torch.from_numpy(by), 8)
    assert np.array_equal(found.numpy(), expected)


def test_empty_rows_do_not_grow():
    empty = torch.tensor([[[[0, 0, OUTSIDE]] * 2, [[OUTSIDE] * 3] * 2]])
    assert torch.equal(stretched(empty, torch.tensor([2]), 3), empty)


def test_rows_by_width():
    rows = torch.tensor([[1, OUTSIDE, OUTSIDE], [1, 2, 3], [4, 5, OUTSIDE]])
    parts = by_width(rows, 2)
    assert [(index.tolist(), cells) for index, cells in parts] == [([0, 2], 2), ([1], 3)]
    assert [(index.tolist(), cells) for index, cells in by_width(rows, 0)] == [([0, 1, 2], 3)]
