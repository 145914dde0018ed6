"""Interruption of training: it ends after the update in progress, with a checkpoint."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

import lightning

from cellgraph import processes
from cellgraph.interruption import SIGNALS, Interrupted, end_at_once, restore
from cellgraph.training.saving import RunCheckpoint, validation_due


class GracefulStop(lightning.Callback):
    """On the first SIGINT or SIGTERM finishes the update, saves the last checkpoint and raises
    :class:`~cellgraph.interruption.Interrupted`; a second one ends the process at once.

    Args:
        checkpoint: What saves.
        keep: Whether to save; not where the run folder goes with the run.
        go_on: The command that goes on, for the message.
    """

    def __init__(self, checkpoint: RunCheckpoint, *, keep: bool = True, go_on: str = "") -> None:
        self.checkpoint, self.keep, self.go_on = checkpoint, keep, go_on
        #: What all stop by, and what this process has had itself: only of its own a second one ends it at once.
        self._signum: int | None = None
        self._had: int | None = None
        self._update = 0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Take over the signals; Python allows that in the main thread only."""
        self._update = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            self._previous = {signum: signal.signal(signum, self._notice) for signum in SIGNALS}

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any) -> None:
        """Stop after an update's last batch, unless a validation follows."""
        if trainer.global_step > self._update:
            self._update = trainer.global_step
            self._agree()
            if self._signum is not None and not validation_due(trainer):
                self._stop(trainer, self._signum)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Stop after the validation; at the end of training there is still something to be saved."""
        self._agree()
        if self._signum is not None and not trainer.should_stop:
            # Lightning calls checkpoint callbacks last, too late here: a best score must not be lost.
            self.checkpoint.on_validation_end(trainer, pl_module)
            self._stop(trainer, self._signum)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Give the signals back; what comes after training must not go on after one that came before its end."""
        self.on_exception(trainer, pl_module, BaseException())
        self._agree()
        if self._signum is not None:
            self._stop(trainer, self._signum)

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Give the signals back."""
        restore(self._previous)
        self._previous = {}

    def _notice(self, signum: int, frame: FrameType | None) -> None:
        if self._had is not None:
            end_at_once(signum)
        self._had = signum
        self._signum = signum if self._signum is None else self._signum
        stream = sys.__stderr__
        if stream is not None and stream.isatty():
            # Not print: a signal may come in the middle of another write to the same stream, which print refuses.
            told = f"\n{signal.Signals(signum).name}: stopping after this update\n"
            os.write(stream.fileno(), told.encode())

    def _agree(self) -> None:
        """A signal that one of several processes has had is all of theirs: none trains on without the others."""
        if processes.world() > 1:
            self._signum = next((signum for signum in processes.all_have(self._signum) if signum is not None), None)

    def _stop(self, trainer: lightning.Trainer, signum: int) -> None:
        message = f"stopped after update {trainer.global_step}, nothing kept"
        if self.keep:
            # A second one of the same update would put the one before it out of its place.
            if trainer.global_step > self.checkpoint.saved:
                self.checkpoint.save(trainer)
            hint = f"; go on with: {self.go_on}" if self.go_on else ""
            message = f"stopped after update {trainer.global_step}, saved {self.checkpoint.folder.last}{hint}"
        if processes.rank() == 0:
            print(message, file=sys.stderr)
        raise Interrupted(signum, told=True)
