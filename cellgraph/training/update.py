"""The update: what every module that trains does alike, from the learning rate to a gradient that is not finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from safetensors.torch import save
from torch import Tensor, nn

from cellgraph.files import write_atomically
from cellgraph.numbers import plain_numbers
from cellgraph.training.meter import Meter
from cellgraph.training.schedule import DECAYS, parameter_groups, warmup_decay


class NonFiniteError(ValueError):
    """A loss or a gradient that is not a number or infinite; the message names the update, the term and the batch."""


class UpdateModule(lightning.LightningModule):
    r"""Trains a model with AdamW (`Loshchilov and Hutter 2019 <https://arxiv.org/abs/1711.05101>`_), a schedule, and
    gradients that are noted, may be normalised and clipped, and must be finite.

    Normalised, every parameter's gradient has norm one before the clipping, so that none is drowned by the others over
    many steps (`Mordvintsev et al. 2020 <https://distill.pub/2020/growing-ca/>`_):

    .. math:: g_p \leftarrow g_p / (\lVert g_p \rVert + 10^{-8})

    Args:
        model: What is trained.
        lr: Learning rate.
        weight_decay: Weight decay, of matrices only, see :func:`~cellgraph.training.schedule.parameter_groups`.
        warmup_steps: Updates until the learning rate is reached.
        max_steps: Updates in all, where the schedule ends.
        min_lr: Share of the learning rate that is left at the end.
        decay: How the learning rate falls, see :func:`~cellgraph.training.schedule.warmup_decay`.
        betas: AdamW's averaging factors.
        lr_multipliers: Factors of the learning rate by the beginning of a parameter's name in the model.
        normalise: Whether to normalise the gradients by parameter.
        seed: Seed of everything random in an update.
        compile: Whether to make the model's step fast.

    Raises:
        ValueError: If a number is out of range.
    """

    @plain_numbers
    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
        max_steps: int = 1000,
        min_lr: float = 0.0,
        decay: str = "cosine",
        betas: Sequence[float] = (0.9, 0.999),
        lr_multipliers: Mapping[str, float] | None = None,
        normalise: bool = False,
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if not (lr > 0 and weight_decay >= 0 and 0 <= min_lr <= 1):
            raise ValueError(
                f"lr must be positive, weight_decay not negative, min_lr in [0, 1], got {lr}, {weight_decay}, {min_lr}"
            )
        if warmup_steps < 0 or max_steps < 1:
            raise ValueError(
                f"warmup_steps must not be negative and max_steps positive, got {warmup_steps} and {max_steps}"
            )
        if decay not in DECAYS:
            raise ValueError(f"decay must be one of {DECAYS}, got {decay!r}")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas}")
        self.model = model
        self.settings: dict[str, Any] = {
            "lr": lr,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "max_steps": max_steps,
            "min_lr": min_lr,
            "decay": decay,
            "betas": list(betas),
            "lr_multipliers": dict(lr_multipliers or {}),
            "normalise": normalise,
            "seed": seed,
            "compile": compile,
        }
        self.train_meter = Meter()
        self.validation: dict[str, float] = {}
        self._generator: torch.Generator | None = None
        self._compiled = False
        self._batch: Any = None

    @property
    def generator(self) -> torch.Generator:
        """The generator of everything random in an update, on the module's device."""
        if self._generator is None or self._generator.device.type != self.device.type:
            self._generator = torch.Generator(self.device).manual_seed(self.settings["seed"])
        return self._generator

    def learning_rate(self, step: int) -> float:
        """The learning rate of an update, counted from 0, before multipliers."""
        return float(self.settings["lr"]) * self._factor(step)

    def readings(self, step: int) -> dict[str, float]:
        """What a row of the training log has beside the means, after the update ``step``, counted from 0."""
        return {"lr": self.learning_rate(step)}

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters of all that is trained."""
        yield from self.model.named_parameters()

    def compile_step(self) -> None:
        """Make the model's step fast, in place."""

    def configure_model(self) -> None:
        """Compile the model's step where asked; Lightning calls this once or more before training."""
        if self.settings["compile"] and not self._compiled:
            self._compiled = True
            # The module itself cannot be compiled as long as it logs.
            self.compile_step()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW and the schedule, one step of it an update."""
        lr, betas = self.settings["lr"], tuple(self.settings["betas"])
        groups = parameter_groups(
            self.trained(),
            lr=lr,
            weight_decay=self.settings["weight_decay"],
            multipliers=self.settings["lr_multipliers"],
        )
        # A fused optimiser unscales fp16 gradients itself, which rules out clipping.
        optimizer = torch.optim.AdamW(groups, lr=lr, betas=betas, fused=not self._scaled)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Note the gradients' norm, normalise and clip them."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # With scaled gradients an overflow is expected now and then; the scaler skips the update.
        if not self._scaled and not bool(torch.isfinite(norm)):
            self._stop_at("gradient", float(norm))
        self.train_meter.add({"grad_norm": norm})
        if self.settings["normalise"]:
            torch._foreach_div_(gradients, [each + 1e-8 for each in torch._foreach_norm(gradients)])
            norm = torch.nn.utils.get_total_norm(gradients)
        if gradient_clip_val:
            torch._foreach_mul_(gradients, (gradient_clip_val / (norm + 1e-6)).clamp(max=1.0))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what lives between updates, the generator and the running means, and the precision in use."""
        checkpoint["update_state"] = {
            "generator": self.generator.get_state(),
            "generator_device": self.generator.device.type,
            "meter": self.train_meter.state_dict(),
            # A run that goes on elsewhere computes as it did here.
            "precision": str(self.trainer.precision),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        state = checkpoint["update_state"]
        self.train_meter.load_state_dict(state["meter"])
        # The state of one kind of device's generator means nothing to another's, which starts from the seed.
        if state["generator_device"] == self.device.type:
            self.generator.set_state(state["generator"].cpu())

    @property
    def _scaled(self) -> bool:
        plugin = self._trainer.precision_plugin if self._trainer is not None else None
        return isinstance(plugin, MixedPrecision) and plugin.scaler is not None

    def _factor(self, step: int) -> float:
        warmup, last, floor = (self.settings[name] for name in ("warmup_steps", "max_steps", "min_lr"))
        return warmup_decay(step, warmup_steps=warmup, max_steps=last, floor=floor, decay=self.settings["decay"])

    def _check_finite(self, total: Tensor, terms: Mapping[str, Tensor]) -> None:
        if not bool(torch.isfinite(total)):
            # Finite terms can still add up to infinity.
            bad = next((name for name, term in terms.items() if not bool(torch.isfinite(term))), "total")
            self._stop_at(bad, float(terms.get(bad, total)))

    def _stop_at(self, term: str, value: float) -> None:
        step = self.trainer.global_step + 1
        path = Path(self.trainer.default_root_dir) / f"nonfinite_update_{step}.safetensors"
        saved = f"the batch is saved in {path}"
        try:
            tensors = {name: x.contiguous() for name, x in self._batch.tensors().items()} if self._batch else {}
            write_atomically(path, save(tensors, metadata={"update": str(step), "term": term}))
        except OSError as error:
            saved = f"the batch could not be saved ({error})"
        raise NonFiniteError(f"update {step}: the term {term!r} is {value}; {saved}")
