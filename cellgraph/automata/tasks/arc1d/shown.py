"""Tasks as they are shown: demonstrations of many tasks as tensors, and the rows that are asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from cellgraph.automata.batch import Batch
from cellgraph.automata.tasks.arc1d.pairs import RowPair, read_tasks
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE

#: What is judged: the tests of all tasks, or of those set aside the tests or the demonstrations.
JUDGED = ("test", "new", "validation")
#: One task of so many is set aside.
ASIDE = 6


@dataclass(frozen=True)
class Queries:
    """Rows that are asked for, each of a task of several.

    Attributes:
        owner: Numbers of their tasks, ``[size]``.
        shown: Which demonstrations of its task each may see, ``[size, num_demonstrations]``.
        source: Colours, ``[size, width]``.
        target: What they are to become, ``[size, width]``.
    """

    owner: Tensor
    shown: Tensor
    source: Tensor
    target: Tensor

    def select(self, index: Tensor | slice) -> Queries:
        """Some of them."""
        return Queries(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device) -> Queries:
        """The rows on a device."""
        return Queries(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class ShownTasks:
    """Tasks, padded to the most pairs that one has.

    Attributes:
        pairs: Demonstrations, ``[num_tasks, num_demonstrations, 2, width]``.
        judges: Test pairs, ``[num_tasks, num_tests, 2, width]``.
        kind: Numbers of the kinds, ``[num_tasks]``.
    """

    pairs: Tensor
    judges: Tensor
    kind: Tensor

    @classmethod
    def read(cls, path: str | Path, width: int, judged: str) -> tuple[ShownTasks, ShownTasks, list[str]]:
        """The tasks to learn from, those to judge, and the names of the kinds, from a file.

        Args:
            path: The file.
            width: Cells of a row, with what is beyond its end.
            judged: One of :data:`JUDGED`.

        Raises:
            ValueError: If a row is wider, a task has not two demonstrations or no test, or nothing is left to learn.
        """
        tasks = read_tasks(path)
        few = [number for number, task in enumerate(tasks) if len(task.demonstrations) < 2 or not task.tests]
        if few:
            task = tasks[few[0]]
            raise ValueError(
                "a task must have two demonstrations or more and a test, "
                f"got {len(task.demonstrations)} and {len(task.tests)} in line {few[0] + 1} of {path}"
            )
        kinds = sorted({task.demonstrations[0].kind for task in tasks})
        together = cls(
            _laid_out([task.demonstrations for task in tasks], width),
            _laid_out([task.tests for task in tasks], width),
            torch.tensor([kinds.index(task.demonstrations[0].kind) for task in tasks]),
        )
        if judged == "test":
            return together, together, kinds
        aside = torch.arange(len(tasks)) % ASIDE == ASIDE - 1
        if not aside.any():
            raise ValueError(f"to set tasks aside there must be {ASIDE} or more, got {len(tasks)}")
        return together.select((~aside).nonzero()[:, 0]), together.select(aside.nonzero()[:, 0]), kinds

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def present(self) -> Tensor:
        """Which demonstrations there are, ``[num_tasks, num_demonstrations]``."""
        return (self.pairs[:, :, 0] != OUTSIDE).any(2)

    def select(self, index: Tensor) -> ShownTasks:
        """Some of the tasks."""
        return ShownTasks(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device) -> ShownTasks:
        """The tasks on a device."""
        return ShownTasks(*(getattr(self, field.name).to(device) for field in fields(self)))

    def enough(self, drawn: Tensor, size: int) -> int:
        """How many of the drawn tasks have as many demonstrations together."""
        return int((self.present[drawn].sum(1).cumsum(0) < size).sum()) + 1

    def left_out(self) -> Queries:
        """Every demonstration, asked of the others of its task."""
        owner, number = self.present.nonzero(as_tuple=True)
        own = torch.arange(self.pairs.size(1), device=owner.device) == number[:, None]
        return Queries(owner, self.present[owner] & ~own, *self.pairs[owner, number].unbind(1))

    def each_left_out(self) -> ShownTasks:
        """For every demonstration a task that lacks it and has it for a test, the same tasks beside each other."""
        owner, number = self.present.nonzero(as_tuple=True)
        own = torch.arange(self.pairs.size(1), device=owner.device) == number[:, None]
        pairs = self.pairs[owner].masked_fill(own[..., None, None], OUTSIDE)
        return ShownTasks(pairs, self.pairs[owner, number][:, None], self.kind[owner])

    def tests(self) -> Queries:
        """Every test, asked of all demonstrations of its task."""
        owner, number = (self.judges[:, :, 0] != OUTSIDE).any(2).nonzero(as_tuple=True)
        return Queries(owner, self.present[owner], *self.judges[owner, number].unbind(1))

    def with_pairs(self, pairs: Tensor) -> ShownTasks:
        """The tasks with other demonstrations, ``[num_tasks * num_demonstrations, 2, width]``."""
        return replace(self, pairs=pairs.view_as(self.pairs))


@dataclass(frozen=True)
class ShownBatch(Batch):
    """Rows with what was read in their tasks' demonstrations.

    Attributes:
        source: The rows' colours, ``[size, width]``.
        keys: States of the demonstrations' cells, ``[size, num_keys, key_channels]``.
        colours: What those cells have become, ``[size, num_keys]``; where nothing is shown it is no colour.
        number: Numbers of their tasks among those learned from, ``[size]``, where they are drawn from these.
        changes: Changes of the cell that are each row's own, ``[size, num_numbers]``, see
            :mod:`~cellgraph.automata.tasks.arc1d.low_rank`.
    """

    source: Tensor = None  # type: ignore[assignment]
    keys: Tensor = None  # type: ignore[assignment]
    colours: Tensor = None  # type: ignore[assignment]
    number: Tensor | None = None
    changes: Tensor | None = None


def _laid_out(groups: Sequence[Sequence[RowPair]], width: int) -> Tensor:
    """Pairs of rows by group, from the first cell of the lattice, ``[num_groups, most, 2, width]``."""
    laid = torch.full((len(groups), max(map(len, groups)), 2, width), OUTSIDE)
    for group, pairs in zip(laid, groups, strict=True):
        for place, pair in zip(group, pairs, strict=False):
            if len(pair.source) > width:
                raise ValueError(f"the lattice must be as wide as every row, {len(pair.source)} cells, got {width}")
            place[:, : len(pair.source)] = torch.tensor([pair.source, pair.target])
    return laid
