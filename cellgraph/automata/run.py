"""The run: from a cell and a task to a trained automaton in one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellgraph.automata.curriculum import Curriculum, Steps
from cellgraph.automata.module import AutomatonModule, Updates
from cellgraph.automata.pool import SamplePool
from cellgraph.automata.task import Task
from cellgraph.nn import Cell
from cellgraph.numbers import span
from cellgraph.training import RunSettings, TrainResult, run_updates

#: What progress shows beside the figure that chooses the weights.
SHOWN = ("train/loss", "train/overflow", "train/drift", "train/num_steps", "val/loss", "val/accuracy")


@dataclass(frozen=True)
class AutomatonSettings(RunSettings):
    """How to train an automaton: the settings of any run, and these; see :class:`AutomatonModule`.

    Attributes:
        num_steps: Steps of a rollout, or the least and the most.
        supervise: At how many states of a rollout the loss is taken.
        overflow: Weight of the overflow penalty.
        bound: What states may reach without it.
        drift: Weight of the drift penalty.
        drift_steps: Further steps that it looks at.
        noise: Standard deviation of the noise on the states at the start.
        rollout_checkpoint_every: Steps from one state that is kept for backward to the next; 0 keeps all of each.
    """

    batch_size: int = 8
    weight_decay: float = 0.0
    warmup_steps: int = 0
    decay: str = "linear"
    ema: float = 0.0
    num_steps: Steps = (32, 32)
    supervise: int = 1
    overflow: float = 0.0
    bound: float = 1.0
    drift: float = 0.0
    drift_steps: int = 8
    noise: float = 0.0
    rollout_checkpoint_every: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        # Refuses what is no number of steps.
        object.__setattr__(self, "num_steps", self.steps)

    @property
    def steps(self) -> tuple[int, int]:
        """The least and the most steps."""
        return span("num_steps", self.num_steps)

    def module_options(self) -> dict[str, Any]:
        """What :class:`AutomatonModule` is told."""
        names = ("batch_size", "num_steps", "supervise", "overflow", "bound", "drift", "drift_steps", "noise")
        own = {name: getattr(self, name) for name in names}
        return {**own, "checkpoint_every": self.rollout_checkpoint_every, **self.update_options()}


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
    resume_hint: str = "",
) -> TrainResult:
    """Train an automaton, cell and task in place.

    The random state of the process is as before afterwards. Held-out figures are not taken here: see
    :meth:`Task.evaluate`.

    Args:
        cell: The cell, on the task's lattice.
        task: What it is trained for.
        settings: How to train.
        pool: Keeps states from update to update; without one every sample is new.
        curriculum: What training starts from.
        folder: Run folder for checkpoints and logs; none are left behind without one.
        resume: Whether to go on from the folder's last checkpoint.
        progress: Whether to show progress.
        resume_hint: How to resume, for the message after an interruption.

    Returns:
        What training came to; its ``model`` holds ``cell`` and ``task``, in evaluation mode on the CPU.

    Raises:
        ValueError: If a setting does not fit, the folder holds a run already and ``resume`` was not asked for, there is
            none to resume, or a loss is not finite.
        OSError: If the folder cannot be written.
        TrainingInterrupted: After SIGINT or SIGTERM, with a checkpoint in the folder.

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
    settings = settings if settings is not None else AutomatonSettings()
    monitor = f"val/{task.monitor}" if task.monitor else None

    def parts() -> tuple[AutomatonModule, Updates, list[int]]:
        module = AutomatonModule(cell, task, pool=pool, curriculum=curriculum, **settings.module_options())
        # A validation is one call of the task's.
        return module, Updates(settings.max_steps * settings.accumulate), [0]

    return run_updates(
        parts,
        settings,
        folder=folder,
        resume=resume,
        progress=progress,
        resume_hint=resume_hint,
        monitor=monitor,
        shown=SHOWN if monitor is None or monitor in SHOWN else (*SHOWN, monitor),
    )
