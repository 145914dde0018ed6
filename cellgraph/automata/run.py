"""The run: from a cell and a task to a trained automaton in one call."""

from __future__ import annotations

from pathlib import Path

from cellgraph.automata.automaton import Automaton
from cellgraph.automata.curriculum import Curriculum
from cellgraph.automata.pool import SamplePool
from cellgraph.automata.settings import AutomatonSettings
from cellgraph.automata.task import Task
from cellgraph.nn import Cell
from cellgraph.training import TrainResult, train


def train_automaton(
    cell: Cell,
    task: Task,
    settings: AutomatonSettings | None = None,
    *,
    pool: SamplePool | None = None,
    curriculum: Curriculum | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    go_on: str = "",
) -> TrainResult[Automaton]:
    """Train an automaton, cell and task in place.

    The random state of the process is as before afterwards. Held-out figures are not taken here: see
    :meth:`Task.evaluate`.

    Args:
        cell: The cell, on the task's lattice.
        task: What it is trained for.
        settings: How to train.
        pool: Keeps states from update to update in this training; the task's own by default, and where it has none
            every sample is new.
        curriculum: What this training starts from; the task's own by default.
        folder: Run folder for checkpoints and logs; none are left behind without one.
        resume: Whether to go on from the folder's last checkpoint.
        progress: Whether to show progress.
        go_on: The command that goes on, for the message after an interruption.

    Returns:
        What training came to; its ``model`` is the :class:`Automaton` of cell and task, in evaluation mode on the CPU.

    Raises:
        ValueError: If a setting does not fit, the folder holds a run already and ``resume`` was not asked for, there is
            none to resume, or a loss is not finite.
        OSError: If the folder cannot be written.
        Interrupted: After SIGINT or SIGTERM, with a checkpoint in the folder.

    Example:
        >>> import torch
        >>> from cellgraph import GMLPCell, Lattice
        >>> from cellgraph.automata import Batch, SamplePool
        >>> class Fade(Task):
        ...     def sample(self, size, generator):
        ...         return Batch(torch.randn(size, self.lattice.num_nodes, 4, generator=generator))
        ...     def loss(self, x, batch):
        ...         return x.square().mean((1, 2))
        >>> cell, task = GMLPCell(Lattice((4, 4)), 4, hidden=8), Fade(Lattice((4, 4)))
        >>> settings = AutomatonSettings(max_steps=2, batch_size=2, num_steps=(2, 4), accelerator="cpu")
        >>> train_automaton(cell, task, settings, pool=SamplePool(8), progress=False).steps
        2
    """
    own = task.pool, task.curriculum
    task.pool = own[0] if pool is None else pool
    task.curriculum = own[1] if curriculum is None else curriculum
    try:
        model = Automaton(cell, task)
        task.check(model, task.Settings() if settings is None else settings)
        return train(model, task, settings, folder=folder, resume=resume, progress=progress, go_on=go_on)
    finally:
        task.pool, task.curriculum = own
