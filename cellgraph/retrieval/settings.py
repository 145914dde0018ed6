"""The settings of training on pairs."""

from __future__ import annotations

from dataclasses import dataclass

from cellgraph.training import RunSettings


@dataclass(frozen=True)
class TrainSettings(RunSettings):
    """How to train on pairs: the settings of any run, with the defaults of the main job, and these.

    Attributes:
        window: Turns of a dialogue a batch, see :class:`~cellgraph.retrieval.DialogueLoader`; a sample is a dialogue,
            or a single pair.
        noise: Norm of the noise on question embeddings, or on each token, in training, as a share of their own.
        val_batch_size: Dialogues a batch in validation; ``batch_size`` when absent.
    """

    max_steps: int = 200
    batch_size: int = 128
    warmup_steps: int = 20
    betas: tuple[float, float] = (0.9, 0.98)
    ema: float = 0.0
    precision: str = "auto"
    val_every: int = 50
    checkpoint_every: int = 50
    compile: bool = True
    window: int | None = None
    noise: float = 0.3
    val_batch_size: int | None = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("be positive", "window", "val_batch_size")
        self.require("not be negative", "noise")
