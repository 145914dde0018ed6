"""The automaton: a cell and what its task learned with it, as one module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from cellgraph.nn import Cell
from cellgraph.nn.memory import memory_of
from cellgraph.unroll import Rollout, rollout

if TYPE_CHECKING:
    from cellgraph.automata.task import Task


class Automaton(nn.Module):
    """A cell with its task: what is trained, averaged, saved and loaded as one.

    Args:
        cell: The cell, on the task's lattice.
        task: The task, whose own parameters are trained with the cell's.

    Example:
        >>> import torch
        >>> from cellgraph.automata.tasks import Majority
        >>> from cellgraph.nn import NCACell
        >>> task = Majority(9, channels=4)
        >>> automaton = Automaton(NCACell(task.lattice, 4), task)
        >>> automaton(torch.zeros(2, 9, 4), num_steps=3).x.shape
        torch.Size([2, 9, 4])
    """

    def __init__(self, cell: Cell, task: Task) -> None:
        super().__init__()
        self.cell, self.task = cell, task

    def forward(self, x: Tensor, *, num_steps: int, **options: Any) -> Rollout:
        """Let the cell go on from states ``[batch, num_nodes, channels]``; the options are those of
        :func:`~cellgraph.unroll.rollout`."""
        return rollout(self.cell, x, memory_of(x, self.cell.memory_channels), num_steps=num_steps, **options)

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the cell and of the task."""
        return {name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()}

    def compile_step(self) -> None:
        """Make the cell's step fast."""
        self.cell.compile_step()
