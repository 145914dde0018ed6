"""Adaptation at the test: what is a task's own, fitted by gradient to its demonstrations before its test is asked."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cellgraph.automata.tasks.arc1d.low_rank import unchanged
from cellgraph.automata.tasks.arc1d.rows import moved
from cellgraph.automata.tasks.arc1d.shown import ShownTasks
from cellgraph.nn import Cell
from cellgraph.numbers import settle_numbers

if TYPE_CHECKING:
    from cellgraph.automata.tasks.arc1d.demonstrations import Arc1DDemonstrations


@dataclass(frozen=True)
class Adaptation:
    r"""What of a task is fitted at the test, as in `test-time training <https://arxiv.org/abs/2411.07279>`_: a vector,
    and changes of low rank of the cell's weights.

    To what is read in the demonstrations comes a vector of the task's own, zero at first. It is fitted so that each
    demonstration is told from the others, by Adam. How far is chosen by leaving out: as many vectors more are fitted,
    each without one demonstration, and after the number of updates at which the demonstrations left out cost least, all
    together, the task's own is taken. That may be none. With a rank, changes of the cell's weights are fitted beside
    the vector and chosen with it, see :mod:`~cellgraph.automata.tasks.arc1d.low_rank`.

    What is left out of the fit is still shown to the rows that are fitted.

    Attributes:
        updates: Updates at most; at 0 nothing is fitted.
        lr: The rate.
        rank: Rank of the changes of the layers of the cell's update; at 0 no weight changes.
        move: Whether what is drawn in the demonstrations moves along the rows from update to update.

    Raises:
        ValueError: If a number is out of range.
    """

    updates: int = 0
    lr: float = 0.03
    rank: int = 0
    move: bool = True

    def __post_init__(self) -> None:
        settle_numbers(self)
        if self.updates < 0 or self.rank < 0 or not 0 < self.lr < math.inf:
            raise ValueError(
                "updates and rank must not be negative and lr be positive and finite, "
                f"got {self.updates}, {self.rank} and {self.lr}"
            )

    def fit(self, task: Arc1DDemonstrations, cell: Cell, tasks: ShownTasks, *, num_steps: int) -> Tensor:
        """What is each task's own, ``[num_tasks, num_numbers]``: the vector, and after it the changes of the cell.

        Args:
            task: What reads and judges.
            cell: The cell.
            tasks: The tasks, whose tests are not looked at.
            num_steps: Steps of the automaton.
        """
        queries = tasks.left_out()
        number = (tasks.present[queries.owner] & ~queries.shown).int().argmax(1)
        folds, rows = tasks.pairs.size(1) + 1, torch.arange(len(number))
        # Of each, the last of them the task's own, the rows that it is fitted to.
        fitted = torch.arange(folds)[:, None] != number
        every = rows.repeat(folds)
        generator = torch.Generator().manual_seed(0)
        first = torch.zeros(task.vector_channels)
        if self.rank:
            first = torch.cat([first, unchanged(cell, self.rank, generator)])
        own = first.repeat(folds, len(tasks), 1).requires_grad_()
        chosen, least = own[-1].detach().clone(), torch.full((len(tasks),), torch.inf)
        optimizer = torch.optim.Adam([own], lr=self.lr)
        with _frozen(cell, task), torch.enable_grad():
            for update in range(self.updates + 1):
                seen = tasks.with_pairs(moved(tasks.pairs.flatten(0, 1), generator)) if self.move else tasks
                batch = task.batch(seen, seen.left_out().select(every), own=own[:, queries.owner].flatten(0, 1))
                x = task.run(cell, batch, num_steps=num_steps, generator=generator).x
                losses = task.loss(x, batch).cpu().view(folds, -1)
                cost = torch.zeros(len(tasks)).index_add(0, queries.owner, losses[number, rows].detach().float())
                better = cost < least
                least = cost.where(better, least)
                chosen = own[-1].detach().where(better[:, None], chosen)
                if update < self.updates:
                    (own.grad,) = torch.autograd.grad((losses * fitted).sum(), own)
                    optimizer.step()
        return chosen


@contextlib.contextmanager
def _frozen(*modules: nn.Module) -> Iterator[None]:
    """While weights have no gradient, so that none is computed."""
    learned = [p for module in modules for p in module.parameters() if p.requires_grad]
    for p in learned:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learned:
            p.requires_grad_(True)
