"""The run: from embedded pairs to a trained model in one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from cellgraph.retrieval.embedded import EmbeddedPairs
from cellgraph.retrieval.loader import DialogueLoader
from cellgraph.retrieval.module import LatticeModule
from cellgraph.retrieval.objectives import Objective
from cellgraph.training import RunSettings, TrainResult, run_updates


@dataclass(frozen=True)
class TrainSettings(RunSettings):
    """How to train on pairs: the settings of any run, and these; see :class:`LatticeModule`, :class:`DialogueLoader`.

    Attributes:
        window: Turns of a dialogue a batch; a sample is a dialogue, or a single pair.
        noise: Norm of the noise on question embeddings in training.
        val_batch_size: Dialogues a batch in validation; ``batch_size`` when absent.
    """

    precision: str = "auto"
    window: int | None = None
    noise: float = 0.0
    val_batch_size: int | None = None


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

    def parts() -> tuple[LatticeModule, DialogueLoader, DialogueLoader | None]:
        objective.fit(train.answer, train.group)
        module = LatticeModule(model, objective, noise=settings.noise, **settings.update_options())
        stream = DialogueLoader(
            train,
            settings.batch_size,
            seed=settings.seed,
            drop_last=True,
            window=settings.window,
            num_batches=settings.max_steps * settings.accumulate,
        )
        if validation is None:
            return module, stream, None
        return module, stream, DialogueLoader(validation, settings.val_batch_size or settings.batch_size)

    return run_updates(parts, settings, folder=folder, resume=resume, progress=progress, resume_hint=resume_hint)
