"""The run: a module trained by its settings, in a folder that can be resumed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from cellgraph.training.checkpoint import RunCheckpoint, model_weights, read_checkpoint
from cellgraph.training.metrics_log import MetricsWriter
from cellgraph.training.precision import used_precision
from cellgraph.training.progress import SHOWN
from cellgraph.training.settings import RunSettings
from cellgraph.training.trainer import build_trainer, callback, fit, run_checkpoint
from cellgraph.training.update import UpdateModule


@dataclass(frozen=True)
class TrainResult:
    """What training came to.

    Attributes:
        model: The model, with the weights of the best validation (averaged where averages were kept), on the CPU and in
            evaluation mode. Without validation, those at the end.
        steps: Updates done.
        best_step: The update of the best validation; 0 without one.
        seconds: Time spent on updates, over all parts of a resumed run.
        metrics: Metrics of the best validation and the newest of training, by name.
        history: All the validations.
        precision: Lightning's name of the arithmetic that was used.
    """

    model: nn.Module
    steps: int
    best_step: int
    seconds: float
    metrics: dict[str, float]
    history: list[dict[str, float]]
    precision: str


def run_updates(
    parts: Callable[[], tuple[UpdateModule, Any, Any]],
    settings: RunSettings,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    resume_hint: str = "",
    monitor: str | None = "val/mrr",
    shown: Sequence[str] = SHOWN,
) -> TrainResult:
    """Train a module by its settings: what every kind of training has in common.

    The random state of the process is as before afterwards.

    Args:
        parts: Makes the module and its loaders, see :func:`fit`; called with the random state seeded.
        settings: How to train.
        folder: Run folder for checkpoints and logs; none are left behind without one.
        resume: Whether to go on from the folder's last checkpoint.
        progress: Whether to show progress.
        resume_hint: How to resume, for the message after an interruption.
        monitor: The validation metric that chooses the weights, the greater the better; ``None`` takes the last.
        shown: Names of the values that progress shows.

    Raises:
        ValueError: If a setting does not fit, the folder holds a run already and ``resume`` was not asked for, there is
            none to resume, or a loss is not finite.
        OSError: If the folder cannot be written.
        TrainingInterrupted: After SIGINT or SIGTERM, with a checkpoint in the folder.
    """
    if resume and folder is None:
        raise ValueError("resume=True needs the folder of the run, got none")
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as place, isolate_rng():
        last = run_checkpoint(place)
        if not resume and last.exists():
            raise ValueError(f"{place} holds a run already ({last.name}): resume it or choose another folder")
        first_step = int(read_checkpoint(last)["global_step"]) if resume else 0
        precision = used_precision(settings.precision, settings.accelerator, last=last)
        lightning.seed_everything(settings.seed, verbose=False)
        module, stream, checked = parts()
        trainer = build_trainer(
            place,
            max_steps=settings.max_steps,
            precision=precision,
            accumulate=settings.accumulate,
            clip=settings.clip,
            ema=settings.ema,
            val_every=settings.val_every,
            checkpoint_every_steps=settings.checkpoint_every if folder is not None else settings.max_steps,
            patience=settings.patience,
            monitor=monitor,
            shown=shown,
            log_every=settings.log_every,
            accelerator=settings.accelerator,
            keep=folder is not None,
            progress=progress,
            resume_hint=resume_hint,
            first_step=first_step,
        )
        fit(module, stream, checked, trainer, resume_from=last if resume else None)
        return _result(module, trainer)


def _result(module: UpdateModule, trainer: lightning.Trainer) -> TrainResult:
    checkpoint: RunCheckpoint = callback(trainer, RunCheckpoint)
    writer: MetricsWriter = callback(trainer, MetricsWriter)
    chosen = checkpoint.best if checkpoint.best_score is not None else checkpoint.last
    module.cpu()
    module.model.load_state_dict(model_weights(read_checkpoint(chosen)))
    best = next((row for row in writer.history if row["step"] == checkpoint.best_step), {})
    newest = {name: value for name, value in writer.latest.items() if name.startswith("train/")}
    return TrainResult(
        model=module.model.eval(),
        steps=trainer.global_step,
        best_step=checkpoint.best_step,
        seconds=writer.seconds,
        metrics={**newest, **{name: value for name, value in best.items() if name != "step"}},
        history=writer.history,
        precision=str(trainer.precision),
    )
