"""The trainer: Lightning's, with this library's checkpoints, log and way to stop."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, ParallelStrategy

from cellgraph import processes
from cellgraph.folder import RunFolder
from cellgraph.reading import UNFIT, first_line
from cellgraph.training.accelerator import check_accelerator, device_type
from cellgraph.training.averages import Averages, ScheduleFree
from cellgraph.training.checkpoint import read_checkpoint
from cellgraph.training.ema import EMA
from cellgraph.training.interruption import GracefulStop
from cellgraph.training.metrics_log import CSVLog, MetricsWriter
from cellgraph.training.precision import used_precision
from cellgraph.training.progress import TrainingProgress
from cellgraph.training.randomness import GlobalGenerators, deterministic
from cellgraph.training.saving import AtomicCheckpointIO, RunCheckpoint
from cellgraph.training.settings import RunSettings
from cellgraph.training.stopping import Stopping
from cellgraph.training.update import UpdateModule


def build_trainer(
    folder: RunFolder,
    settings: RunSettings,
    *,
    monitor: str | None = None,
    shown: Sequence[str] = ("train/loss",),
    keep: bool = True,
    progress: bool = True,
    go_on: str = "",
    first_step: int = 0,
    sharded: bool = False,
) -> lightning.Trainer:
    """A Lightning trainer that writes into a run folder: checkpoints, the log, TensorBoard's.

    Args:
        folder: The folder; made where absent.
        settings: How to train.
        monitor: The validation metric that chooses the best checkpoint, the greater the better; ``None`` keeps the last
            only.
        shown: Names of the values that progress shows.
        keep: Whether the folder is there to stay: with logs, and a checkpoint when the run is interrupted.
        progress: Whether to show progress.
        go_on: The command that goes on, for the message after an interruption.
        first_step: The update a resumed run goes on from: TensorBoard drops what it has from after it,
            all of a run that was killed before its first checkpoint.
        sharded: Whether the processes that train together share the model's weights out among them.

    Raises:
        ValueError: If a number or a name is out of range.
        OSError: If the folder cannot be written.
    """
    check_accelerator(settings.accelerator)
    processes.check_device(device_type(settings.accelerator))
    together = processes.world() > 1
    first = processes.rank() == 0
    folder.path.mkdir(parents=True, exist_ok=True)
    every = settings.checkpoint_every if keep else settings.max_steps
    checkpoint = RunCheckpoint(folder, every=every, monitor=monitor)
    writer = MetricsWriter(settings.log_every)
    # In this order: average, note, decide, show; then what may end the run. Checkpoints come last by Lightning's rule.
    callbacks: list[lightning.Callback] = [*_averages(settings)]
    callbacks += [writer, Stopping(settings.patience, monitor=monitor)]
    callbacks += [TrainingProgress(writer, shown=shown)] if progress and first else []
    callbacks += [GlobalGenerators(), GracefulStop(checkpoint, keep=keep, go_on=go_on), checkpoint]
    outputs: list[Logger] = []
    if keep and first:
        board = TensorBoardLogger(
            folder.path,
            name="",
            version=folder.tensorboard.name,
            default_hp_metric=False,
            purge_step=first_step + 1,
        )
        outputs = [CSVLog(folder.metrics), board]
    with quiet():
        return lightning.Trainer(
            accelerator=settings.accelerator,
            devices=processes.on_this_machine() if together else 1,
            num_nodes=processes.world() // processes.on_this_machine() if together else 1,
            strategy=_strategy(sharded) if together else "auto",
            precision=_precision(settings.precision, settings.accelerator),  # type: ignore[arg-type]
            max_steps=settings.max_steps,
            max_epochs=-1,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip or None,
            val_check_interval=settings.val_every * settings.accumulate,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            # Rows are written by MetricsWriter; Lightning's own logging at every step costs more than a small update.
            log_every_n_steps=settings.max_steps,
            callbacks=callbacks,
            logger=outputs or False,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder.path,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=True,
            # Tensors that a model keeps from a validation must be of use in training.
            inference_mode=False,
            use_distributed_sampler=False,
            enable_autolog_hparams=False,
        )


def fit(module: UpdateModule, trainer: lightning.Trainer, *, resume_from: Path | None = None) -> None:
    """Train, or go on from a checkpoint: on a CPU to the same bits as without the break.

    Args:
        module: The module.
        trainer: From :func:`build_trainer`.
        resume_from: A checkpoint.

    Raises:
        ValueError: If the checkpoint is missing, damaged, or of another model or data; or a loss is not finite.
        OSError: If a checkpoint cannot be written.
        Interrupted: After SIGINT or SIGTERM.
    """
    if resume_from is not None:
        _check_fits(module, read_checkpoint(resume_from), resume_from)
    begun = _Begun()
    trainer.callbacks.append(begun)  # type: ignore[attr-defined]
    try:
        with quiet(), processes.noticed(lambda: _kept(trainer)), deterministic(enabled=module.settings.deterministic):
            # A validation is one call of the lesson's.
            checked = [0] if module.lesson.validates else None
            trainer.fit(module, module.lesson.batches(), checked, ckpt_path=resume_from)
    except UNFIT as error:
        # A device that is full, or a process that does not answer, says nothing of the checkpoint.
        if resume_from is None or begun.yes or isinstance(error, (torch.OutOfMemoryError, torch.distributed.DistError)):
            raise
        raise ValueError(f"the checkpoint {resume_from} is damaged: {first_line(error)}") from error


def callback(trainer: lightning.Trainer, kind: type[Any]) -> Any:
    """The trainer's callback of a class."""
    callbacks: list[lightning.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next(found for found in callbacks if isinstance(found, kind))


class _Begun(lightning.Callback):
    """Whether a batch has been begun: what goes wrong before that, where a run goes on, is its checkpoint's fault."""

    yes = False

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.yes = True


def _averages(settings: RunSettings) -> list[Averages]:
    if settings.optimizer == "schedule_free":
        return [ScheduleFree()]
    return [EMA(settings.ema)] if settings.ema else []


def _strategy(sharded: bool) -> ParallelStrategy:
    if sharded:
        # One file, which any number of processes reads.
        size = processes.world()
        return ModelParallelStrategy(size, tensor_parallel_size=1, save_distributed_checkpoint=False)
    # Not every batch uses every parameter: a term may have nothing to compare. Buffers follow from the configuration.
    return DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)


def _kept(trainer: lightning.Trainer) -> str:
    """What there is to go on from when a process is lost."""
    stop: GracefulStop = callback(trainer, GracefulStop)
    if not stop.keep:
        return "nothing is kept"
    hint = f"; go on with: {stop.go_on}" if stop.go_on else ""
    last = stop.checkpoint.folder.last
    return f"{last} is the last checkpoint{hint}" if last.exists() else f"there is no checkpoint yet{hint}"


def _precision(precision: str, accelerator: str) -> str:
    precision = used_precision(precision, accelerator)
    if precision == "16-mixed" and device_type(accelerator) == "cpu":
        warnings.warn("a CPU has no float16 arithmetic: precision '16-mixed' runs as 'bf16-mixed'", stacklevel=3)
        return "bf16-mixed"
    return precision


def _check_fits(module: UpdateModule, checkpoint: dict[str, Any], path: Path) -> None:
    """Lightning would say so in a page; what is wrong fits a line."""
    there, here = checkpoint["state_dict"], module.state_dict()
    module.lesson.upgrade(there, [*here])
    lacks = [f"it lacks {name}" for name in sorted(here.keys() - there.keys())]
    extra = [f"it has {name} beyond it" for name in sorted(there.keys() - here.keys())]
    both = [(name, [*there[name].shape], [*here[name].shape]) for name in sorted(here.keys() & there.keys())]
    shapes = [f"{name} is {old} there and {new} here" for name, old, new in both if old != new]
    differences = [*shapes, *lacks, *extra]
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise ValueError(f"the checkpoint {path} is of another model: {differences[0]}{more}")
    before = checkpoint.get("update_state", {})
    for name, now in module.kept_settings().items():
        # Older ones do not say all of them.
        if name in before and before[name] != now:
            raise ValueError(
                f"the checkpoint {path} has the state of {name}={before[name]!r}, got {name}={now!r}: a run goes on "
                f"with the {name} that it began with"
            )


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
            # Which parameters a batch uses depends on the batch.
            warnings.filterwarnings("ignore", message=".*find_unused_parameters=True was specified.*")
            # What is to take its place is not there in every version of PyTorch.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.* is deprecated")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
