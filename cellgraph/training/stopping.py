"""Stopping: at the last update, or when validation no longer gets better."""

from __future__ import annotations

from typing import Any

import lightning

from cellgraph.numbers import plain_numbers
from cellgraph.training.saving import is_better


class Stopping(lightning.Callback):
    """Ends a run at its last update with a validation, and early after ``patience`` validations without a better one.

    Unlike Lightning's own, a run that stopped early and is resumed stays stopped.

    Args:
        patience: Validations without improvement after which to stop; ``None`` never stops early.
        monitor: The validation metric that should grow.

    Raises:
        ValueError: If the patience is not positive, or there is no metric to be patient with.
    """

    @plain_numbers
    def __init__(self, patience: int | None = None, *, monitor: str | None = "val/mrr") -> None:
        if patience is not None and patience < 1:
            raise ValueError(f"patience must be positive, got {patience}")
        if patience is not None and monitor is None:
            raise ValueError(f"patience={patience} needs a validation metric that should grow, got none")
        self.patience, self.monitor = patience, monitor
        self.best: float | None = None
        self.stale = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Stay stopped."""
        trainer.should_stop = self._exhausted

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any) -> None:
        """Ask for the end, which brings a validation with it."""
        if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Count validations without improvement."""
        score = pl_module.validation.get(self.monitor) if self.monitor else None
        if is_better(score, self.best):
            self.best, self.stale = float(score), 0
        else:
            self.stale += 1
        trainer.should_stop = trainer.should_stop or self._exhausted

    def state_dict(self) -> dict[str, Any]:
        """The best score and how many validations ago it was."""
        return {"best": self.best, "stale": self.stale}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.best, self.stale = state_dict["best"], state_dict["stale"]

    @property
    def _exhausted(self) -> bool:
        return self.patience is not None and self.stale >= self.patience
