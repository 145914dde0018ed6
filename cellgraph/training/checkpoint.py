"""The checkpoint: written in one piece, read without executing anything."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from cellgraph.files import write_atomically
from cellgraph.folder import BEST, LAST, RunFolder
from cellgraph.numbers import plain_numbers

# What zipfile and torch.load raise where bytes are not what they should be.
_UNREADABLE = (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError)


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
            kept = [str(old) for old in (path, *_others(path)) if old.exists()]
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
    """

    @plain_numbers
    def __init__(self, folder: RunFolder, *, every: int, monitor: str | None = None) -> None:
        if every < 1:
            raise ValueError(f"every must be positive, got {every}")
        self.folder, self.every, self.monitor = folder, every, monitor
        self.best_score: float | None = None
        self.best_step = 0
        self._saved = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Nothing is due before the first update from here."""
        self._saved = trainer.global_step

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any) -> None:
        """Save where due, unless a validation follows."""
        if self._due(trainer) and not validation_due(trainer):
            self.save(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save the best, and the last where due."""
        score = pl_module.validation.get(self.monitor) if self.monitor else None
        if score is not None and (self.best_score is None or score > self.best_score):
            self.best_score, self.best_step = float(score), trainer.global_step
            trainer.save_checkpoint(self.folder.best)
        if self._due(trainer) or trainer.should_stop:
            self.save(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save the last where it has not been."""
        if trainer.global_step > self._saved:
            self.save(trainer)

    def save(self, trainer: lightning.Trainer) -> None:
        """Save the last checkpoint now."""
        trainer.save_checkpoint(self.folder.last)
        self._saved = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """The best score and its update."""
        return {"best_score": self.best_score, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.best_score, self.best_step = state_dict["best_score"], state_dict["best_step"]

    def _due(self, trainer: lightning.Trainer) -> bool:
        # Between the batches of one update the gradients so far would be lost: only its last batch counts.
        return trainer.global_step > self._saved and trainer.global_step % self.every == 0


def validation_due(trainer: lightning.Trainer) -> bool:
    """Whether a validation follows the batch that has just ended."""
    if not trainer.enable_validation:
        return False
    interval = trainer.val_check_batch
    batches = trainer.fit_loop.total_batch_idx + 1
    return trainer.should_stop or (interval is not None and batches % interval == 0)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A checkpoint's content, on the CPU. Nothing in it is executed.

    Raises:
        ValueError: If there is none or it is damaged; the message names another one beside it.
    """
    path = Path(path)
    others = [str(other) for other in _others(path) if other.exists()]
    rest = f"; {' and '.join(others)} beside it may be used instead" if others else ""
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}{rest}")
    content = io.BytesIO(path.read_bytes())
    try:
        # PyTorch writes check sums into the archive and does not look at them when it reads.
        with zipfile.ZipFile(content) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"check sum of {damaged}")
        content.seek(0)
        checkpoint = torch.load(content, map_location="cpu", weights_only=True)
        if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
            raise ValueError("it holds something else")
    except (zipfile.BadZipFile, pickle.UnpicklingError, *_UNREADABLE) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(f"the checkpoint {path} is damaged ({reason}){rest}") from error
    return checkpoint


def model_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The model's weights in a checkpoint: averaged where they were."""
    prefix = "model."
    weights = {name[len(prefix) :]: x for name, x in checkpoint["state_dict"].items() if name.startswith(prefix)}
    averages: dict[str, Tensor] = checkpoint.get("callbacks", {}).get("EMA", {}).get("average", {})
    return {**weights, **averages}


def _others(path: Path) -> list[Path]:
    return [path.with_name(name) for name in (LAST, BEST) if name != path.name]
