"""The run: from embedded pairs to a trained model in one call."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path

import lightning
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from cellgraph.training.checkpoint import RunCheckpoint, model_weights, read_checkpoint
from cellgraph.training.embedded import EmbeddedPairs
from cellgraph.training.loader import DialogueLoader
from cellgraph.training.metrics_log import MetricsWriter
from cellgraph.training.module import LatticeModule
from cellgraph.training.objectives import Objective
from cellgraph.training.trainer import build_trainer, callback, fit, run_checkpoint


@dataclass(frozen=True)
class TrainSettings:
    """How to train, as plain values; see :class:`LatticeModule`, :func:`build_trainer` and :class:`DialogueLoader`.

    Attributes:
        max_steps: Updates.
        batch_size: Dialogues (or single pairs) a batch.
        window: Turns of a dialogue a batch.
        lr: Learning rate.
        weight_decay: Weight decay.
        warmup_steps: Updates until the learning rate is reached.
        min_lr: Share of the learning rate at the end.
        betas: AdamW's averaging factors.
        lr_multipliers: Factors of the learning rate by the beginning of a parameter's name.
        noise: Norm of the noise on question embeddings in training.
        accumulate: Batches an update.
        clip: Largest norm of the gradients; 0 leaves them.
        ema: Decay of the averaged weights; 0 keeps none.
        precision: Lightning's name of the arithmetic.
        val_every: Updates from one validation to the next.
        val_batch_size: Dialogues a batch in validation; ``batch_size`` when absent.
        checkpoint_every: Updates from one ``last.ckpt`` to the next.
        patience: Validations without improvement after which to stop.
        log_every: Updates from one row of training metrics to the next.
        seed: Seed of everything random.
        compile: Whether to compile the model's step.
        accelerator: Lightning's name of the device.
    """

    max_steps: int = 1000
    batch_size: int = 64
    window: int | None = None
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 50
    min_lr: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    noise: float = 0.0
    accumulate: int = 1
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "32-true"
    val_every: int = 100
    val_batch_size: int | None = None
    checkpoint_every: int = 100
    patience: int | None = None
    log_every: int = 10
    seed: int = 0
    compile: bool = False
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        # Settings come from command lines, where a number is easily mistyped into a word.
        for setting in fields(self):
            value, default = getattr(self, setting.name), setting.default
            if isinstance(default, (int, float)) and not isinstance(value, (int, float)):
                raise ValueError(f"training setting {setting.name} must be a number, got {value!r}")


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
    """

    model: nn.Module
    steps: int
    best_step: int
    seconds: float
    metrics: dict[str, float]
    history: list[dict[str, float]]


def train(
    model: nn.Module,
    objective: Objective,
    train: EmbeddedPairs,
    validation: EmbeddedPairs | None = None,
    *,
    settings: TrainSettings | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    resume_hint: str = "",
) -> TrainResult:
    """Train a model on embedded pairs.

    The random state of the process is as before afterwards.

    Args:
        model: See :class:`LatticeModule`; it is trained in place.
        objective: What to train for; fitted to the training answers here.
        train: Training pairs.
        validation: Pairs that choose the best weights.
        settings: How to train.
        folder: Run folder for checkpoints and logs; none are left behind without one.
        resume: Whether to go on from the folder's last checkpoint.
        progress: Whether to show progress.
        resume_hint: How to resume, for the message after an interruption.

    Raises:
        ValueError: If a setting or a pair does not fit, the folder holds a run already and ``resume`` was not asked
            for, there is none to resume, or a loss is not finite.
        OSError: If the folder cannot be written.
        TrainingInterrupted: After SIGINT or SIGTERM, with a checkpoint in the folder.

    Example:
        >>> import torch
        >>> from cellgraph import CellGraph, GMLPCell, Lattice
        >>> model = CellGraph(GMLPCell(Lattice((2, 3, 3)), 8, hidden=8), teacher_width=6, num_steps=2)
        >>> pairs = EmbeddedPairs(torch.randn(20, 6), torch.randn(20, 6))
        >>> settings = TrainSettings(max_steps=2, batch_size=5, warmup_steps=0, accelerator="cpu")
        >>> result = train(model, Objective(), pairs, pairs, settings=settings, progress=False)
        >>> result.steps, "val/mrr" in result.metrics
        (2, True)
    """
    settings = settings if settings is not None else TrainSettings()
    if resume and folder is None:
        raise ValueError("resume=True needs the folder of the run, got none")
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as place, isolate_rng():
        last = run_checkpoint(place)
        if not resume and last.exists():
            raise ValueError(f"{place} holds a run already ({last.name}): resume it or choose another folder")
        first_step = int(read_checkpoint(last)["global_step"]) if resume else 0
        lightning.seed_everything(settings.seed, verbose=False)
        objective.fit(train.answer, train.group)
        module = _module(model, objective, settings)
        trainer = build_trainer(
            place,
            max_steps=settings.max_steps,
            precision=settings.precision,
            accumulate=settings.accumulate,
            clip=settings.clip,
            ema=settings.ema,
            val_every=settings.val_every,
            checkpoint_every_steps=settings.checkpoint_every if folder is not None else settings.max_steps,
            patience=settings.patience,
            log_every=settings.log_every,
            accelerator=settings.accelerator,
            keep=folder is not None,
            progress=progress,
            resume_hint=resume_hint,
            first_step=first_step,
        )
        stream = DialogueLoader(
            train,
            settings.batch_size,
            seed=settings.seed,
            drop_last=True,
            window=settings.window,
            num_batches=settings.max_steps * settings.accumulate,
        )
        checked = None
        if validation is not None:
            checked = DialogueLoader(validation, settings.val_batch_size or settings.batch_size)
        fit(module, stream, checked, trainer, resume_from=last if resume else None)
        return _result(module, trainer)


def _module(model: nn.Module, objective: Objective, settings: TrainSettings) -> LatticeModule:
    return LatticeModule(
        model,
        objective,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_steps,
        max_steps=settings.max_steps,
        min_lr=settings.min_lr,
        betas=settings.betas,
        lr_multipliers=settings.lr_multipliers,
        noise=settings.noise,
        seed=settings.seed,
        compile=settings.compile,
    )


def _result(module: LatticeModule, trainer: lightning.Trainer) -> TrainResult:
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
    )
