"""The settings of training on pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cellgraph.training import RunSettings


@dataclass(frozen=True)
class TrainSettings(RunSettings):
    """How to train on pairs: the settings of any run, with the defaults of the main job, and these.

    Attributes:
        lr_multipliers: Factors of the learning rate by the beginning of a parameter's name. The decoder of a wide
            surface has small weights: at the full rate a few steps would wipe them out.
        window: Turns of a dialogue a batch, see :class:`~cellgraph.retrieval.DialogueLoader`; a sample is a dialogue,
            or a single pair.
        noise: Norm of the noise on question embeddings in training.
        val_batch_size: Dialogues a batch in validation; ``batch_size`` when absent.
    """

    max_steps: int = 105
    batch_size: int = 32
    lr: float = 1e-4
    warmup_steps: int = 10
    betas: tuple[float, float] = (0.9, 0.98)
    lr_multipliers: Mapping[str, float] = field(default_factory=lambda: {"cell": 2.0, "answer_adapter.decoder": 0.02})
    ema: float = 0.0
    precision: str = "auto"
    val_every: int = 35
    checkpoint_every: int = 20
    log_every: int = 5
    compile: bool = True
    window: int | None = None
    noise: float = 1.0
    val_batch_size: int | None = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("be positive", "window", "val_batch_size")
        self.require("not be negative", "noise")
