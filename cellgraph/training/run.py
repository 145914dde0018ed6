"""The run: a model trained for a task, in a folder that it can go on from."""

from __future__ import annotations

import copy
import os
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import replace

import lightning
from lightning.pytorch.utilities.seed import isolate_rng

from cellgraph import processes
from cellgraph.folder import RunFolder
from cellgraph.training.checkpoint import model_weights, read_checkpoint
from cellgraph.training.metrics_log import MetricsWriter
from cellgraph.training.precision import used_precision
from cellgraph.training.result import Model, TrainResult
from cellgraph.training.saving import RunCheckpoint
from cellgraph.training.settings import RunSettings
from cellgraph.training.task import Task
from cellgraph.training.trainer import build_trainer, callback, fit
from cellgraph.training.update import UpdateModule


def train(
    model: Model,
    task: Task,
    settings: RunSettings | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    go_on: str = "",
    sharded: bool = False,
) -> TrainResult[Model]:
    """Train a model for a task, in place.

    The random state of the process is as before afterwards. Where torchrun started several processes, and all of them
    call this with the same arguments, they train together: each has its share of every batch.

    Args:
        model: The model.
        task: What for.
        settings: How; the defaults of the task's kind of settings when absent.
        folder: Run folder for checkpoints and logs; none are left behind without one.
        resume: Whether to go on from the folder's last checkpoint: to the same bits with as many processes as before,
            to rounding, and with other random numbers from dropout, with more or fewer. The optimiser, its rates and
            decays are those that the run began with.
        progress: Whether to show progress.
        go_on: The command that goes on, for the message after an interruption.
        sharded: Whether the processes that train together share gradients and the optimiser's state out among them
            (FSDP, as one group: the weights come together for each update); without averages, resuming, float64 and
            smaller lattices first.

    Raises:
        ValueError: If a setting or a sample does not fit, the folder holds a run already and ``resume`` was not asked
            for, there is none to resume, another process trains in it, or a loss is not finite.
        OSError: If the folder cannot be written.
        Interrupted: After SIGINT or SIGTERM, with a checkpoint in the folder.
        LostProcessError: If one of the processes that train together has gone.

    Example:
        >>> import torch
        >>> from cellgraph import CellGraph, GMLPCell, Lattice
        >>> from cellgraph.retrieval import EmbeddedPairs, Retrieval, TrainSettings, standard_objective
        >>> model = CellGraph(GMLPCell(Lattice((2, 3, 3)), 8, hidden=8), in_features=6, num_steps=2)
        >>> pairs = EmbeddedPairs(torch.randn(20, 6), torch.randn(20, 6))
        >>> settings = TrainSettings(max_steps=2, batch_size=5, warmup_steps=0, accelerator="cpu")
        >>> result = train(model, Retrieval(standard_objective(), pairs, pairs), settings, progress=False)
        >>> result.steps, "val/mrr" in result.metrics
        (2, True)
    """
    settings = settings if settings is not None else task.Settings()
    if resume and folder is None:
        raise ValueError("resume=True needs the folder of the run, got none")
    temporary = tempfile.TemporaryDirectory() if folder is None else nullcontext(folder)
    processes.join()
    if folder is None and processes.world() > 1:
        raise ValueError(f"the {processes.world()} processes that train together need one folder for it, got none")
    if sharded:
        _check_sharded(settings, resume=resume)
    with temporary as path, RunFolder(path).locked() as place, isolate_rng():
        if not resume and place.last.exists():
            raise ValueError(f"{place} holds a run already ({place.last.name}): resume it or choose another folder")
        first_step = _begun(place) if resume else 0
        # What "auto" stands for is told with the result, and as it was where a run goes on.
        precision = used_precision(settings.precision, settings.accelerator, last=place.last)
        settings = replace(settings, precision=precision)
        lightning.seed_everything(settings.seed, verbose=False)
        # What is shared out stays so: the model itself takes the weights from the checkpoint in the end.
        trained = (copy.deepcopy(model) if sharded else model).train()
        lesson = task.lesson(settings)
        if sharded and not lesson.shardable:
            raise ValueError("sharded=True takes models of one size, not a curriculum of smaller lattices")
        module = UpdateModule(trained, lesson, settings, sharded=sharded)
        if precision == "64-true":
            # Lightning would do so after it has read a checkpoint, whose weights would have lost half their digits.
            module.double()
        trainer = build_trainer(
            place,
            settings,
            monitor=f"val/{task.monitor}" if task.monitor and lesson.validates else None,
            shown=task.shown,
            keep=folder is not None,
            progress=progress,
            go_on=go_on,
            first_step=first_step,
            sharded=sharded,
        )
        fit(module, trainer, resume_from=place.last if resume else None)
        checkpoint: RunCheckpoint = callback(trainer, RunCheckpoint)
        writer: MetricsWriter = callback(trainer, MetricsWriter)
        chosen = place.best if checkpoint.best_score is not None else place.last
        if not sharded:
            module.cpu()
        model.load_state_dict(model_weights(read_checkpoint(chosen)))
        task.finish(model.eval(), settings)
    best = next((row for row in writer.history if row["step"] == checkpoint.best_step), {})
    newest = {name: value for name, value in writer.latest.items() if name.startswith("train/")}
    return TrainResult(
        model=model,
        steps=trainer.global_step,
        best_step=checkpoint.best_step,
        seconds=writer.seconds,
        metrics={**newest, **{name: value for name, value in best.items() if name != "step"}},
        history=writer.history,
        precision=str(trainer.precision),
    )


def _check_sharded(settings: RunSettings, *, resume: bool) -> None:
    other = settings.precision == "64-true" or settings.optimizer != "adamw"
    if resume or settings.ema or other or processes.world() == 1:
        told = f"{processes.world()}, resume={resume}, ema={settings.ema}, {settings.precision}, {settings.optimizer}"
        raise ValueError(f"sharded=True takes several processes, AdamW, no resuming, averages or float64; got {told}")


def _begun(place: RunFolder) -> int:
    """The update that a run goes on from."""
    checkpoint = read_checkpoint(place.last)
    before, now = checkpoint.get("update_state", {}).get("processes", 1), processes.world()
    if before != now and processes.rank() == 0:
        # Sums over a batch are rounded in another order, and each process draws its own dropout.
        print(
            f"the run had {before} processes and goes on with {now}: equal to rounding, not to the bit", file=sys.stderr
        )
    return int(checkpoint["global_step"])
