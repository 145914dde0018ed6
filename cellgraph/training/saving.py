"""Saving: checkpoints are written in one piece, at their time."""

from __future__ import annotations

import io
import math
import os
import sys
from pathlib import Path
from typing import Any, TypeGuard

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import CheckpointIO

from cellgraph import processes
from cellgraph.files import keep_before, write_atomically, writing
from cellgraph.folder import PREVIOUS, RunFolder
from cellgraph.numbers import plain_numbers
from cellgraph.training.checkpoint import others_beside, read_checkpoint, step_of


class AtomicCheckpointIO(CheckpointIO):
    """Checkpoints that are whole or absent: written beside the old one, then put in its place."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OSError: If the folder cannot be written or the disk is full; the checkpoint before is left as it was.
        """
        path = Path(path)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            write_atomically(path, buffer.getvalue())
        except OSError as error:
            kept = [str(old) for old in (path, *others_beside(path)) if old.exists()]
            rest = f"; {' and '.join(kept)} from before is untouched" if kept else ""
            raise OSError(
                error.errno, f"cannot write the checkpoint {path}: {error.strerror or error}{rest}"
            ) from error

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint, see :func:`read_checkpoint`."""
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


class RunCheckpoint(Checkpoint):
    """Keeps the last and the best checkpoint of a run.

    Both are taken after an update, and after its validation where one is due, so that a run that goes on from them
    repeats nothing and leaves out nothing.

    Args:
        folder: The run folder.
        every: Updates from one last checkpoint to the next; there is always one at the end.
        monitor: The validation metric that is best when greatest; without one there is no best checkpoint.

    Attributes:
        saved: The update of the last checkpoint.
    """

    @plain_numbers
    def __init__(self, folder: RunFolder, *, every: int, monitor: str | None = None) -> None:
        if every < 1:
            raise ValueError(f"every must be positive, got {every}")
        self.folder, self.every, self.monitor = folder, every, monitor
        self.best_score: float | None = None
        self.best_step = 0
        self.saved = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Nothing is due before the first update from here."""
        self.saved = trainer.global_step

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any) -> None:
        """Save where due, unless a validation follows."""
        if self._due(trainer) and not validation_due(trainer):
            self.save(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save the best, and the last where due."""
        score = pl_module.validation.get(self.monitor) if self.monitor else None
        if is_better(score, self.best_score):
            self.best_score, self.best_step = float(score), trainer.global_step
            trainer.save_checkpoint(self.folder.best)
        if self._due(trainer) or trainer.should_stop:
            self.save(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save the last where it has not been."""
        if trainer.global_step > self.saved:
            self.save(trainer)

    def save(self, trainer: lightning.Trainer) -> None:
        """Save the last checkpoint now; the one before it is kept as ``previous.ckpt``."""
        if trainer.is_global_zero:
            with writing(self.folder.previous, what="the checkpoint "):
                keep_before(self.folder.last, PREVIOUS)
        trainer.save_checkpoint(self.folder.last)
        self.saved = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """The best score and its update."""
        return {"best_score": self.best_score, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back; a best whose checkpoint is not there any more is chosen anew."""
        self.best_score, self.best_step = state_dict["best_score"], state_dict["best_step"]
        if self.best_score is not None and processes.by_first(lambda: step_of(self.folder.best)) != self.best_step:
            if processes.rank() == 0:
                told = f"{self.folder.best} is not that of the best update so far, {self.best_step}"
                print(f"{told}: the best is chosen anew from here", file=sys.stderr)
            self.best_score, self.best_step = None, 0

    def _due(self, trainer: lightning.Trainer) -> bool:
        # Between the batches of one update the gradients so far would be lost: only its last batch counts.
        return trainer.global_step > self.saved and trainer.global_step % self.every == 0


def is_better(score: float | None, best: float | None) -> TypeGuard[float]:
    """Whether a figure that should grow is better than the best so far; what is missing or no number never is."""
    return score is not None and not math.isnan(score) and (best is None or score > best)


def validation_due(trainer: lightning.Trainer) -> bool:
    """Whether a validation follows the batch that has just ended."""
    if not trainer.enable_validation:
        return False
    interval = trainer.val_check_batch
    batches = trainer.fit_loop.total_batch_idx + 1
    return trainer.should_stop or (interval is not None and batches % interval == 0)
