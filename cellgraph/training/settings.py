"""The settings that all training has, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cellgraph.numbers import settle_numbers
from cellgraph.training.accelerator import ACCELERATORS
from cellgraph.training.optimizer import OPTIMIZERS
from cellgraph.training.precision import PRECISIONS
from cellgraph.training.schedule import DECAYS


@dataclass(frozen=True)
class RunSettings:
    """How to update a model and how to look after the run; see :class:`UpdateModule` and :func:`build_trainer`.

    Attributes:
        max_steps: Updates.
        batch_size: Samples a batch.
        lr: Learning rate.
        optimizer: ``"adamw"``; ``"adamw_8bit"``, whose states have eight bits (`Dettmers et al. 2021
            <https://arxiv.org/abs/2110.02861>`_, the package bitsandbytes; tensors of less than 4,096
            numbers keep 32); ``"muon"`` (`Jordan et al. 2024
            <https://kellerjordan.github.io/posts/muon/>`_) for matrices, each of a cell's stacks by itself, with AdamW
            for biases, norms, positions and all else that is none; or
            ``"schedule_free"`` (AdamW by `Defazio et al. 2024 <https://arxiv.org/abs/2405.15682>`_, the package
            schedulefree), whose own average is validated and kept: neither ``decay`` nor ``ema`` applies to it.
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
        deterministic: Whether two trainings on one kind of machine are to come to equal bits, on a GPU, too: kernels
            whose sums are in no fixed order are an error, and the step is taken as it is, not in the way that is
            measured to be the fastest, which may be another each time.
        accelerator: Lightning's name of the device.
    """

    max_steps: int = 1000
    batch_size: int = 64
    lr: float = 1e-3
    optimizer: str = "adamw"
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
    deterministic: bool = False
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        # Settings come from command lines, where a number is easily mistyped into a word.
        settle_numbers(self, kind="training setting")
        counts = "max_steps", "batch_size", "accumulate", "val_every", "checkpoint_every", "log_every", "patience"
        self.require("be positive", "lr", *counts)
        self.require("not be negative", "weight_decay", "warmup_steps", "clip")
        choices = {
            "optimizer": tuple(OPTIMIZERS),
            "decay": DECAYS,
            "precision": PRECISIONS,
            "accelerator": ACCELERATORS,
        }
        for name, names in choices.items():
            if getattr(self, name) not in names:
                raise ValueError(f"training setting {name} must be one of {names}, got {getattr(self, name)!r}")
        if not 0 <= self.min_lr <= 1:
            raise ValueError(f"training setting min_lr must be in [0, 1], got {self.min_lr}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"training setting ema must be in [0, 1), got {self.ema}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"training setting betas must be two numbers in [0, 1), got {self.betas}")
        if self.optimizer == "schedule_free" and self.betas[0] == 0:
            raise ValueError(f"optimizer='schedule_free' needs a first beta above 0, got {self.betas}")

    def require(self, what: str, *names: str) -> None:
        """Refuse numbers that are out of range.

        Args:
            what: ``"be positive"`` or ``"not be negative"``.
            names: The settings; one that is absent may be.

        Raises:
            ValueError: If one of them is not what is required.
        """
        for name in names:
            value = getattr(self, name)
            if value is not None and (value < 0 or (value == 0 and what == "be positive")):
                raise ValueError(f"training setting {name} must {what}, got {value}")
