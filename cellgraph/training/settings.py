"""The settings that all training has, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cellgraph.numbers import settle_numbers
from cellgraph.training.schedule import DECAYS


@dataclass(frozen=True)
class RunSettings:
    """How to update a model and how to look after the run; see :class:`UpdateModule` and :func:`build_trainer`.

    Attributes:
        max_steps: Updates.
        batch_size: Samples a batch.
        lr: Learning rate.
        weight_decay: Weight decay.
        warmup_steps: Updates until the learning rate is reached.
        min_lr: Share of the learning rate at the end.
        decay: How it falls: ``"cosine"``, ``"linear"`` or ``"none"``.
        betas: AdamW's averaging factors.
        lr_multipliers: Factors of the learning rate by the beginning of a parameter's name.
        normalise: Whether to normalise the gradient of every parameter.
        accumulate: Batches an update.
        clip: Largest norm of the gradients; 0 leaves them.
        ema: Decay of the averaged weights; 0 keeps none.
        precision: Lightning's name of the arithmetic, or ``"auto"``, see
            :func:`~cellgraph.training.precision.used_precision`.
        val_every: Updates from one validation to the next.
        checkpoint_every: Updates from one ``last.ckpt`` to the next.
        patience: Validations without improvement after which to stop.
        log_every: Updates from one row of training metrics to the next.
        seed: Seed of everything random.
        compile: Whether to make the model's step fast.
        accelerator: Lightning's name of the device.
    """

    max_steps: int = 1000
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 50
    min_lr: float = 0.0
    decay: str = "cosine"
    betas: tuple[float, float] = (0.9, 0.999)
    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    normalise: bool = False
    accumulate: int = 1
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "32-true"
    val_every: int = 100
    checkpoint_every: int = 100
    patience: int | None = None
    log_every: int = 10
    seed: int = 0
    compile: bool = False
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        # Settings come from command lines, where a number is easily mistyped into a word.
        settle_numbers(self, kind="training setting")
        if not (self.lr > 0 and self.weight_decay >= 0 and 0 <= self.min_lr <= 1):
            raise ValueError(
                "lr must be positive, weight_decay not negative, min_lr in [0, 1], "
                f"got {self.lr}, {self.weight_decay}, {self.min_lr}"
            )
        if self.warmup_steps < 0 or self.max_steps < 1 or self.batch_size < 1:
            raise ValueError(
                "warmup_steps must not be negative and max_steps and batch_size positive, "
                f"got {self.warmup_steps}, {self.max_steps} and {self.batch_size}"
            )
        if min(self.accumulate, self.val_every) < 1 or self.clip < 0:
            raise ValueError(
                "accumulate and val_every must be positive and clip not negative, "
                f"got {self.accumulate}, {self.val_every} and {self.clip}"
            )
        if self.decay not in DECAYS:
            raise ValueError(f"decay must be one of {DECAYS}, got {self.decay!r}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas}")
