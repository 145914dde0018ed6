"""The metrics log: what was measured at which update, in ``metrics.csv`` and TensorBoard."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger

from cellgraph.files import write_atomically, writing
from cellgraph.numbers import plain_numbers


class CSVLog(Logger):
    """One CSV file a run, which a run that is resumed goes on with.

    Every row is on disk when it is logged. A column that first appears later rewrites the file, in one piece, with the
    cells of earlier rows empty.

    Args:
        path: The file.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    @property
    def save_dir(self) -> str:
        """The file's folder."""
        return str(self.path.parent)

    def start(self, *, step: int) -> None:
        """Keep the rows of updates up to ``step`` and drop those after, which will be measured again."""
        self._columns, kept = ["step"], []
        if step > 0 and self.path.is_file():
            # A line cut off by a crash has no number or too few cells, one that was added to such a line too many;
            # what it said comes again. Of a file that is no log nothing is kept.
            whole = (row for row in self._read() if None not in row and None not in row.values())
            rows = [row for row in whole if row.get("step", "").isdecimal()]
            kept = [row for row in rows if int(row["step"]) <= step]
            self._columns = [*rows[0]] if rows else self._columns
        self._write_all(kept)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row."""
        row = {"step": step, **metrics}
        new = [column for column in row if column not in self._columns]
        if new:
            # Rows are kept in the file alone: there may be any number of them.
            before = [*self._read()] if self._columns and self.path.is_file() else []
            self._columns += new
            self._write_all([*before, row])
        else:
            with writing(self.path, what="the log "), self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, restval="").writerow(row)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: a run's configuration has a file of its own."""

    def _read(self) -> Iterator[dict[str, Any]]:
        """The rows; where a crash of the machine has left what cannot be read, those before it."""
        with self.path.open(newline="", encoding="utf-8", errors="replace") as file, contextlib.suppress(csv.Error):
            # File systems make zeros of what was not yet on the disk, and Python 3.10 takes none.
            yield from csv.DictReader(line.replace("\0", "") for line in file)

    def _write_all(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        with writing(self.path, what="the log "):
            write_atomically(self.path, text.getvalue().encode())


class MetricsWriter(lightning.Callback):
    """Writes the means since the row before to all loggers, every so many updates, and each validation.

    Training rows have ``step``, ``epoch``, ``seconds``, ``train/loss``, ``train/<term>``, ``train/grad_norm``,
    ``train/num_steps``, the module's readings (``train/lr`` and others) and ``train/samples_per_second``; validation
    rows ``step``, ``epoch``, ``seconds`` and ``val/<figure>``. The epoch is left out where batches have none.

    Args:
        every: Updates from one training row to the next.

    Attributes:
        seconds: Time spent on updates, validations left out, in all parts of a resumed run.
        history: The validations, in order.
    """

    @plain_numbers
    def __init__(self, every: int = 10) -> None:
        if every < 1:
            raise ValueError(f"every must be positive, got {every}")
        self.every = every
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self.latest: dict[str, float] = {}
        self._written = 0
        self._since = 0.0
        self._started = 0.0
        self._epoch: float | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Go on with the files of a resumed run."""
        self._written = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, CSVLog):
                logger.start(step=trainer.global_step)

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self._epoch = getattr(batch, "epoch", None)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any) -> None:
        """Stop the clock and write a row where one is due."""
        self.seconds += time.perf_counter() - self._started
        step = trainer.global_step
        if step > self._written and (step % self.every == 0 or step == trainer.max_steps):
            self._written = step
            means = pl_module.train_meter.means()
            spent = self.seconds - self._since
            means |= pl_module.readings(step - 1)
            means["samples_per_second"] = pl_module.train_meter.rows / spent if spent > 0 else 0.0
            self._since = self.seconds
            pl_module.train_meter.reset()
            self.latest |= {f"train/{name}": value for name, value in means.items()}
            self._write(trainer, {f"train/{name}": value for name, value in means.items()})

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Write a row."""
        self.latest |= pl_module.validation
        self.history.append({"step": trainer.global_step, **pl_module.validation})
        self._write(trainer, pl_module.validation)

    def state_dict(self) -> dict[str, Any]:
        """The times and the validations."""
        return {"seconds": self.seconds, "since": self._since, "history": self.history, "latest": self.latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.seconds, self._since = state_dict["seconds"], state_dict["since"]
        self.history, self.latest = state_dict["history"], state_dict["latest"]

    def _write(self, trainer: lightning.Trainer, values: Mapping[str, float]) -> None:
        epoch = {} if self._epoch is None else {"epoch": round(self._epoch, 6)}
        row = {**epoch, "seconds": round(self.seconds, 3), **values}
        for logger in trainer.loggers:
            logger.log_metrics(row, trainer.global_step)
