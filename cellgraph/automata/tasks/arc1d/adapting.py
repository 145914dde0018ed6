"""Adaptation at the test: a vector for each task, fitted by gradient to its demonstrations before its test is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cellgraph.automata.tasks.arc1d.rows import moved
from cellgraph.automata.tasks.arc1d.shown import ShownTasks
from cellgraph.nn import Cell
from cellgraph.numbers import settle_numbers

if TYPE_CHECKING:
    from cellgraph.automata.tasks.arc1d.demonstrations import Arc1DDemonstrations


@dataclass(frozen=True)
class Adaptation:
    r"""How a task's vector is fitted at the test, as in `test-time training <https://arxiv.org/abs/2411.07279>`_, of
    one vector and no weights.

    To what is read in the demonstrations comes a vector of the task's own, zero at first. It is fitted so that each
    demonstration is told from the others, by Adam. How far is chosen by leaving out: as many vectors more are fitted,
    each without one demonstration, and after the number of updates at which the demonstrations left out cost least, all
    together, the task's own is taken. That may be none.

    What is left out of the fit is still shown to the rows that are fitted.

    Attributes:
        updates: Updates at most; at 0 nothing is fitted.
        lr: The rate.
        move: Whether what is drawn in the demonstrations moves along the rows from update to update.

    Raises:
        ValueError: If a number is out of range.
    """

    updates: int = 0
    lr: float = 0.03
    move: bool = True

    def __post_init__(self) -> None:
        settle_numbers(self)
        if self.updates < 0 or self.lr <= 0:
            raise ValueError(f"updates must not be negative and lr be positive, got {self.updates} and {self.lr}")

    def fit(self, task: Arc1DDemonstrations, cell: Cell, tasks: ShownTasks, *, num_steps: int) -> Tensor:
        """The vectors of some tasks, ``[num_tasks, vector_channels]``.

        Args:
            task: What reads and judges.
            cell: The cell.
            tasks: The tasks, whose tests are not looked at.
            num_steps: Steps of the automaton.
        """
        queries = tasks.left_out()
        number = (tasks.present[queries.owner] & ~queries.shown).int().argmax(1)
        folds, rows = tasks.pairs.size(1) + 1, torch.arange(len(number))
        # Of each vector, the last of them the task's own, the rows that it is fitted to.
        fitted = torch.arange(folds)[:, None] != number
        every = rows.repeat(folds)
        vectors = torch.zeros(folds, len(tasks), task.vector_channels, requires_grad=True)
        chosen, least = torch.zeros(len(tasks), task.vector_channels), torch.full((len(tasks),), torch.inf)
        optimizer = torch.optim.Adam([vectors], lr=self.lr)
        generator = torch.Generator().manual_seed(0)
        with _frozen(cell, task), torch.enable_grad():
            for update in range(self.updates + 1):
                seen = tasks.with_pairs(moved(tasks.pairs.flatten(0, 1), generator)) if self.move else tasks
                added = vectors[:, queries.owner].flatten(0, 1)
                batch = task.batch(seen, seen.left_out().select(every), added=added)
                losses = task.loss(task.run(cell, batch, num_steps=num_steps).x, batch).cpu().view(folds, -1)
                cost = torch.zeros(len(tasks)).index_add(0, queries.owner, losses[number, rows].detach().float())
                better = cost < least
                least = cost.where(better, least)
                chosen = vectors[-1].detach().where(better[:, None], chosen)
                if update < self.updates:
                    (vectors.grad,) = torch.autograd.grad((losses * fitted).sum(), vectors)
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
