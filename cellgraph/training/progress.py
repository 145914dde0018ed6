"""Progress: a bar with the losses in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cellgraph.nn import Cell
from cellgraph.numbers import plain_numbers


class TrainingProgress(lightning.Callback):
    """Shows the updates done, the newest values of the named losses and the samples per second.

    Args:
        writer: The :class:`~cellgraph.training.metrics_log.MetricsWriter` the values come from.
        shown: Names of the values, in order; those that there are not are left out.
        interval: Seconds between two lines where the output is no terminal.
        console: Where to; standard error when absent.
    """

    @plain_numbers
    def __init__(
        self,
        writer: Any,
        *,
        shown: Sequence[str] = ("train/loss",),
        interval: float = 10.0,
        console: Console | None = None,
    ) -> None:
        self.writer, self.shown, self.interval = writer, shown, interval
        self.console = console if console is not None else Console(file=sys.stderr)
        self._bar: Progress | None = None
        self._task: Any = None
        self._shown = 0.0
        self._told = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Draw the bar."""
        self._shown = time.monotonic()
        if self.console.is_terminal:
            columns = (TextColumn("training"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(
                *columns, TextColumn("{task.fields[values]}", markup=False), console=self.console, auto_refresh=False
            )
            self._task = self._bar.add_task("", total=trainer.max_steps, completed=trainer.global_step, values="")
            self._bar.start()

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any) -> None:
        """Show how the steps are taken, once; and the newest values, four times a second at most."""
        if not self._told:
            self._told = True
            taken = next((cell.taken for cell in pl_module.modules() if isinstance(cell, Cell) and cell.taken), "")
            if taken:
                self.console.print(Text(f"steps by {taken}"), soft_wrap=True)
        now = time.monotonic()
        if now - self._shown >= (0.25 if self._bar is not None else self.interval):
            self._shown = now
            self._show(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Show the end."""
        self._show(trainer)
        self._close()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._close()

    def text(self) -> str:
        """The newest values in one line."""
        latest = self.writer.latest
        parts = [
            f"{name.partition('/')[2] if name[0] == 't' else name} {latest[name]:.4g}"
            for name in self.shown
            if name in latest
        ]
        if "train/samples_per_second" in latest:
            parts.append(f"{latest['train/samples_per_second']:.0f} samples/s")
        return "  ".join(parts)

    def _show(self, trainer: lightning.Trainer) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, values=self.text(), refresh=True)
        else:
            line = f"update {trainer.global_step}/{trainer.max_steps}  {self.text()}"
            self.console.print(Text(line), soft_wrap=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
