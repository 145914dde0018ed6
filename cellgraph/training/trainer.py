"""The trainer: Lightning's, with this library's checkpoints, log and way to stop."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from cellgraph.training.accelerator import check_accelerator, device_type
from cellgraph.training.checkpoint import LAST, AtomicCheckpointIO, RunCheckpoint, read_checkpoint
from cellgraph.training.ema import EMA
from cellgraph.training.interruption import GracefulStop
from cellgraph.training.metrics_log import CSVLog, MetricsWriter
from cellgraph.training.precision import used_precision
from cellgraph.training.progress import SHOWN, TrainingProgress
from cellgraph.training.randomness import GlobalGenerators
from cellgraph.training.stopping import Stopping
from cellgraph.training.update import UpdateModule

CHECKPOINTS, METRICS, TENSORBOARD = "checkpoints", "metrics.csv", "tensorboard"


def build_trainer(
    run_folder: str | Path,
    *,
    max_steps: int,
    precision: str = "32-true",
    accumulate: int = 1,
    clip: float = 1.0,
    ema: float = 0.999,
    val_every: int = 100,
    checkpoint_every_steps: int = 100,
    patience: int | None = None,
    monitor: str | None = "val/mrr",
    shown: Sequence[str] = SHOWN,
    log_every: int = 10,
    accelerator: str = "auto",
    devices: int = 1,
    keep: bool = True,
    progress: bool = True,
    resume_hint: str = "",
    first_step: int = 0,
) -> lightning.Trainer:
    """A Lightning trainer that writes into a run folder.

    The folder gets ``metrics.csv``, ``tensorboard/`` and ``checkpoints/`` with ``last.ckpt`` and ``best.ckpt``.

    Args:
        run_folder: The folder; made where absent.
        max_steps: Updates in all.
        precision: ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"`` (bf16 on a CPU, with a warning), ``"64-true"`` or
            ``"auto"``, see :func:`~cellgraph.training.precision.used_precision`.
        accumulate: Batches an update.
        clip: Largest norm of the gradients; 0 leaves them as they are.
        ema: Decay of the averaged weights, see :class:`EMA`; 0 keeps none.
        val_every: Updates from one validation to the next.
        checkpoint_every_steps: Updates from one ``last.ckpt`` to the next.
        patience: Validations without a better ``monitor`` after which to stop; ``None`` never does.
        monitor: The validation metric that chooses ``best.ckpt``, the greater the better; ``None`` keeps the last only.
        shown: Names of the values that progress shows.
        log_every: Updates from one row of training metrics to the next.
        accelerator: Lightning's name of the device; ``"auto"`` takes the best there is.
        devices: Number of devices: 1.
        keep: Whether the folder is there to stay: with ``metrics.csv``, TensorBoard's log, and a checkpoint when the
            run is interrupted.
        progress: Whether to show progress.
        resume_hint: How to resume, for the message after an interruption.
        first_step: The update a resumed run goes on from: TensorBoard drops what it has from after it.

    Raises:
        ValueError: If a number or a name is out of range.
        OSError: If the folder cannot be written.
    """
    for name, number in (("max_steps", max_steps), ("accumulate", accumulate), ("val_every", val_every)):
        if number < 1:
            raise ValueError(f"{name} must be positive, got {number}")
    if clip < 0:
        raise ValueError(f"clip must not be negative, got {clip}")
    if devices != 1:
        raise ValueError(f"devices must be 1, the data stream is not divided among several; got {devices}")
    check_accelerator(accelerator)
    folder = Path(run_folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = RunCheckpoint(folder / CHECKPOINTS, every=checkpoint_every_steps, monitor=monitor)
    writer = MetricsWriter(log_every)
    # In this order: average, note, decide, show; then what may end the run. Checkpoints come last by Lightning's rule.
    callbacks: list[lightning.Callback] = [EMA(ema)] if ema else []
    callbacks += [writer, Stopping(patience, monitor=monitor)]
    callbacks += [TrainingProgress(writer, shown=shown)] if progress else []
    callbacks += [GlobalGenerators(), GracefulStop(checkpoint, keep=keep, resume_hint=resume_hint), checkpoint]
    outputs: list[Logger] = []
    if keep:
        board = TensorBoardLogger(
            folder,
            name="",
            version=TENSORBOARD,
            default_hp_metric=False,
            purge_step=first_step + 1 if first_step else None,
        )
        outputs = [CSVLog(folder / METRICS), board]
    with quiet():
        return lightning.Trainer(
            accelerator=accelerator,
            devices=devices,
            precision=_precision(precision, accelerator),  # type: ignore[arg-type]
            max_steps=max_steps,
            max_epochs=-1,
            accumulate_grad_batches=accumulate,
            gradient_clip_val=clip or None,
            val_check_interval=val_every * accumulate,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            # Rows are written by MetricsWriter; Lightning's own logging at every step costs more than a small update.
            log_every_n_steps=max_steps,
            callbacks=callbacks,
            logger=outputs or False,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=True,
            # Tensors that a model keeps from a validation must be of use in training.
            inference_mode=False,
            use_distributed_sampler=False,
            enable_autolog_hparams=False,
        )


def fit(
    module: UpdateModule,
    train_loader: Any,
    val_loader: Any,
    trainer: lightning.Trainer,
    *,
    resume_from: str | Path | None = None,
) -> None:
    """Train, or go on from a checkpoint: on a CPU to the same bits as without the break.

    Args:
        module: The module.
        train_loader: As many batches as all updates accumulate, with a ``state_dict`` that tells the place among them:
            a :class:`~cellgraph.retrieval.DialogueLoader` with ``num_batches``, for one.
        val_loader: The validation set's batches, in order; ``None`` does without validation.
        trainer: From :func:`build_trainer`.
        resume_from: A checkpoint.

    Raises:
        ValueError: If the checkpoint is missing, damaged, or of another model or data; or a loss is not finite.
        OSError: If a checkpoint cannot be written.
        TrainingInterrupted: After SIGINT or SIGTERM.
    """
    if resume_from is not None:
        resume_from = Path(resume_from)
        _check_fits(module, read_checkpoint(resume_from), resume_from)
    with quiet():
        trainer.fit(module, train_loader, val_loader, ckpt_path=resume_from)


def run_checkpoint(folder: str | Path) -> Path:
    """Path of a run's last checkpoint."""
    return Path(folder) / CHECKPOINTS / LAST


def callback(trainer: lightning.Trainer, kind: type[Any]) -> Any:
    """The trainer's callback of a class."""
    callbacks: list[lightning.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next(found for found in callbacks if isinstance(found, kind))


def _precision(precision: str, accelerator: str) -> str:
    precision = used_precision(precision, accelerator)
    if precision == "16-mixed" and device_type(accelerator) == "cpu":
        warnings.warn("a CPU has no float16 arithmetic: precision '16-mixed' runs as 'bf16-mixed'", stacklevel=3)
        return "bf16-mixed"
    return precision


def _check_fits(module: UpdateModule, checkpoint: dict[str, Any], path: Path) -> None:
    """Lightning would say so in a page; what is wrong fits a line."""
    there, here = checkpoint["state_dict"], module.state_dict()
    lacks = [f"it lacks {name}" for name in sorted(here.keys() - there.keys())]
    extra = [f"it has {name} beyond it" for name in sorted(there.keys() - here.keys())]
    both = [(name, [*there[name].shape], [*here[name].shape]) for name in sorted(here.keys() & there.keys())]
    shapes = [f"{name} is {old} there and {new} here" for name, old, new in both if old != new]
    differences = [*shapes, *lacks, *extra]
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise ValueError(f"the checkpoint {path} is of another model: {differences[0]}{more}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's notes about devices and loops; its warnings stay, but for those that do not apply."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Everything is in memory: there is nothing for workers to do. Parts of a model may be frozen on purpose.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*but have no `val_dataloader`.*")
            # What goes on finds its own checkpoints.
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
            warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
