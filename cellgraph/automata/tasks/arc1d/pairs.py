"""Pairs of rows: the 1-D ARC as it is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COLOURS = 10


@dataclass(frozen=True)
class RowPair:
    """A row and what it is to become.

    Attributes:
        kind: Kind of task, e.g. ``"1d_flip"``.
        source: Colours, 0 to 9; 0 is the background.
        target: Colours, as many.
    """

    kind: str
    source: tuple[int, ...]
    target: tuple[int, ...]


@dataclass(frozen=True)
class RowTask:
    """A task: pairs that show a rule, and pairs to judge what was learned of it.

    Attributes:
        demonstrations: The pairs that show it.
        tests: The pairs that judge.
    """

    demonstrations: tuple[RowPair, ...]
    tests: tuple[RowPair, ...]


def read_tasks(path: str | Path) -> list[RowTask]:
    """Read the 1-D ARC (`Xu et al. 2024 <https://arxiv.org/abs/2305.18354>`_) from JSON lines.

    A line is a task: ``{"task": kind, "train": [{"input": [[...]], "output": [[...]]}, ...], "test": [...]}``, each
    side of a pair a grid of one row.

    Args:
        path: The file.

    Raises:
        ValueError: If a line is no such task, or there is none.
        OSError: If the file cannot be read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no 1-D ARC at {path}: CELLGRAPH_DATA must name the folder with 1d-arc/1d_arc.jsonl")
    tasks = []
    # A text may hold what else splits lines.
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n")):
        if not line.strip():
            continue
        try:
            task = json.loads(line)
            kind = task["task"]
            if not isinstance(kind, str):
                raise ValueError(f"a kind must be a name, got {kind!r}")
            pairs = {
                part: tuple(RowPair(kind, _row(pair["input"]), _row(pair["output"])) for pair in task[part])
                for part in ("train", "test")
            }
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"line {number + 1} of {path} must be a task of the 1-D ARC, got {line[:60]!r}: {error}"
            ) from error
        for pair in pairs["train"] + pairs["test"]:
            if len(pair.source) != len(pair.target):
                raise ValueError(
                    f"line {number + 1} of {path}: rows must be as long as their targets, "
                    f"got {len(pair.source)} and {len(pair.target)}"
                )
        tasks.append(RowTask(pairs["train"], pairs["test"]))
    if not tasks:
        raise ValueError(f"{path} must hold tasks of the 1-D ARC, got no line")
    return tasks


def read_arc1d(path: str | Path) -> tuple[list[RowPair], list[RowPair], list[RowPair]]:
    """Read the pairs of the 1-D ARC alone, see :func:`read_tasks`.

    Returns:
        The training pairs without those set aside; those set aside for validation, the last of every third task; and
        the test pairs.
    """
    training: list[RowPair] = []
    validation: list[RowPair] = []
    test: list[RowPair] = []
    for number, task in enumerate(read_tasks(path)):
        kept = len(task.demonstrations) - (number % 3 == 0)
        training += task.demonstrations[:kept]
        validation += task.demonstrations[kept:]
        test += task.tests
    return training, validation, test


def renumber(source: Sequence[int]) -> np.ndarray:
    """New numbers of the colours by their first appearance in a row; the background stays 0.

    Colours that are not in the row follow in their own order. A rule that treats colours alike is the same rule then.

    Example:
        >>> renumber([0, 7, 7, 3])[[0, 7, 3, 1]].tolist()
        [0, 1, 2, 3]
    """
    order = list(dict.fromkeys([0, *source, *range(COLOURS)]))
    numbers = np.empty(COLOURS, dtype=np.int64)
    numbers[order] = np.arange(COLOURS)
    return numbers


def _row(grid: Any) -> tuple[int, ...]:
    """The colours of a grid of one row."""
    if not isinstance(grid, list) or len(grid) != 1 or not isinstance(grid[0], list) or not grid[0]:
        raise ValueError(f"a side of a pair must be a list of one row of colours, got {str(grid)[:40]}")
    # Of type: a truth value is a whole number to Python, too.
    if not all(type(colour) is int and 0 <= colour < COLOURS for colour in grid[0]):
        raise ValueError(f"colours must be whole numbers from 0 to {COLOURS - 1}, got {str(grid[0])[:40]}")
    return tuple(grid[0])
