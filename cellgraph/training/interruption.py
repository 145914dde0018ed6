"""Interruption: Ctrl-C and SIGTERM end a training run after the update in progress, with a checkpoint."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning

from cellgraph.training.checkpoint import RunCheckpoint, validation_due

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(SystemExit):
    """Training was asked to stop and has saved a checkpoint.

    Not caught, it ends the process quietly with 128 and the signal's number, as a shell would report it: 130 after
    Ctrl-C, 143 after SIGTERM.

    Args:
        signum: The signal.
        checkpoint: What was saved, if anything.
    """

    def __init__(self, signum: int, checkpoint: Path | None) -> None:
        super().__init__(128 + signum)
        self.signum, self.checkpoint = signum, checkpoint


class GracefulStop(lightning.Callback):
    """On the first SIGINT or SIGTERM finishes the update, saves ``last.ckpt`` and raises :class:`TrainingInterrupted`;
    a second one ends the process at once.

    Args:
        checkpoint: What saves.
        keep: Whether to save; not where the run folder goes with the run.
        resume_hint: How to go on, for the message.
    """

    def __init__(self, checkpoint: RunCheckpoint, *, keep: bool = True, resume_hint: str = "") -> None:
        self.checkpoint, self.keep, self.resume_hint = checkpoint, keep, resume_hint
        self._signum: int | None = None
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
            if self._signum is not None and not validation_due(trainer):
                self._stop(trainer, self._signum)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Stop after the validation; a run at its end anyway is let go."""
        if self._signum is not None and not trainer.should_stop:
            # Lightning calls checkpoint callbacks last, too late here: a best score must not be lost.
            self.checkpoint.on_validation_end(trainer, pl_module)
            self._stop(trainer, self._signum)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Give the signals back."""
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Give the signals back."""
        self.on_train_end(trainer, pl_module)

    def _notice(self, signum: int, frame: FrameType | None) -> None:
        if self._signum is not None:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self._signum = signum
        name = signal.Signals(signum).name
        # Not print: a signal may arrive in the middle of another write to the same stream, which print refuses.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{name}: stopping after this update\n".encode())

    def _stop(self, trainer: lightning.Trainer, signum: int) -> None:
        saved = None
        message = f"stopped after update {trainer.global_step}, nothing kept"
        if self.keep:
            self.checkpoint.save(trainer)
            saved = self.checkpoint.last
            hint = f"; {self.resume_hint}" if self.resume_hint else ""
            message = f"stopped after update {trainer.global_step}, saved {saved}{hint}"
        print(message, file=sys.stderr)
        raise TrainingInterrupted(signum, saved)
