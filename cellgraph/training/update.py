"""The update: what every module that trains does alike, from the learning rate to a gradient that is not finite."""

from __future__ import annotations

import functools
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from safetensors.torch import save
from torch import Tensor, nn

from cellgraph import processes
from cellgraph.files import write_atomically
from cellgraph.folder import RunFolder
from cellgraph.numbers import plain_numbers
from cellgraph.training.interruption import GracefulStop
from cellgraph.training.meter import Meter
from cellgraph.training.optimizer import make_optimizer
from cellgraph.training.schedule import parameter_groups, warmup_decay
from cellgraph.training.settings import RunSettings
from cellgraph.training.task import Learned, Lesson, Samples


class NonFiniteError(ValueError):
    """A loss or a gradient that is not a number or infinite; the message names the update, the term and the batch."""


class UpdateModule(lightning.LightningModule):
    r"""Trains a model with AdamW (`Loshchilov and Hutter 2019 <https://arxiv.org/abs/1711.05101>`_) or another
    optimiser, a schedule, and gradients that are noted, may be normalised and clipped, and must be finite.

    Normalised, every parameter's gradient has norm one before the clipping, so that none is drowned by the others over
    many steps (`Mordvintsev et al. 2020 <https://distill.pub/2020/growing-ca/>`_):

    .. math:: g_p \leftarrow g_p / (\lVert g_p \rVert + 10^{-8})

    What the model learns from a batch, and what it is validated by, is the lesson's.

    Args:
        model: What is trained, averaged and saved.
        lesson: What from.
        settings: How.
        sharded: Whether the processes that train together share the model's weights out among them.
    """

    @plain_numbers
    def __init__(self, model: nn.Module, lesson: Lesson, settings: RunSettings, *, sharded: bool = False) -> None:
        super().__init__()
        self.sharded = sharded
        self.model, self.lesson, self.settings = model, lesson, settings
        if lesson.objective is not None:
            self.objective = lesson.objective
        self.train_meter = Meter()
        self.validation: dict[str, float] = {}
        self._generator: torch.Generator | None = None
        #: What a checkpoint says of it: the kind of its device, and its state.
        self._saved_generator: tuple[str, Tensor] | None = None
        self._configured = False
        self._batch: Samples | None = None

    @property
    def generator(self) -> torch.Generator:
        """The generator of everything random in an update, on the module's device."""
        if self._generator is None or self._generator.device.type != self.device.type:
            self._generator = torch.Generator(self.device).manual_seed(self.settings.seed)
            # The state of one kind of device's generator means nothing to another's, which starts from the seed.
            if self._saved_generator is not None and self._saved_generator[0] == self.device.type:
                self._generator.set_state(self._saved_generator[1])
        return self._generator

    def learning_rate(self, step: int) -> float:
        """The learning rate of an update, counted from 0, before multipliers."""
        return self.settings.lr * self._factor(step)

    def readings(self, step: int) -> dict[str, float]:
        """What a row of the training log has beside the means, after the update ``step``, counted from 0."""
        return {"lr": self.learning_rate(step), **self.lesson.readings()}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch.

        Raises:
            NonFiniteError: If it is not finite.
        """
        done = 0.0 if self._trainer is None else self._trainer.global_step / self.settings.max_steps
        learn = self.model.get_learned if self.sharded else self._learned
        _, learned = learn(batch, done)  # type: ignore[operator]
        self._batch = learned.batch
        self._check_finite(learned)
        self.train_meter.add({"loss": learned.loss.detach(), **learned.terms}, rows=learned.rows)
        self.train_meter.add({"num_steps": torch.tensor(learned.num_steps)})
        return learned.loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One update; what has a range is brought back into it."""
        super().optimizer_step(*args, **kwargs)
        self.lesson.constrain()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """The lesson's figures, by random numbers of their own: how often they are taken changes nothing else."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.settings.seed)
            # One process's figures, so that all choose and stop alike. Of a model whose weights are everybody's, all
            # take them.
            if self.sharded:
                # Its parts may be used by themselves.
                self.model.unshard()  # type: ignore[operator]
            validate = functools.partial(self.lesson.validate, self.model)
            figures = processes.broadcast(validate()) if self.sharded else processes.by_first(validate)
        self.validation = {f"val/{name}": value for name, value in figures.items()}

    def configure_model(self) -> None:
        """Make the model's step fast where asked and where it has one; Lightning calls this once or more."""
        if self._configured:
            return
        self._configured = True
        if self.settings.compile and not self.settings.deterministic:
            # The module itself cannot be compiled as long as it logs.
            getattr(self.model, "compile_step", lambda: None)()
        if self.sharded and self.device_mesh is not None:
            from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

            # Together from the first use to the end of the backward pass. What the objective learns has the same
            # gradient in every process, which sees all rows.
            fully_shard(self.model, mesh=self.device_mesh["data_parallel"], reshard_after_forward=False)
            # Lessons use parts of a model by themselves, such as its keys or an automaton's cell and task, before the
            # model itself or without it: all that one makes of a batch counts as the model's forward pass.
            self.model.get_learned = self._learned  # type: ignore[assignment]
            register_fsdp_forward_method(self.model, "get_learned")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser and the schedule, one step of it an update."""
        lr, betas = self.settings.lr, self.settings.betas
        named = [*self.model.named_parameters()]
        named += [] if self.lesson.objective is None else self.lesson.objective.named_parameters()
        groups = parameter_groups(
            named, lr=lr, weight_decay=self.settings.weight_decay, multipliers=self.settings.lr_multipliers
        )
        # A fused optimiser unscales fp16 gradients itself, which rules out clipping.
        optimizer = make_optimizer(self.settings.optimizer, groups, lr=lr, betas=betas, fused=not self._scaled)
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
        if self.settings.normalise:
            torch._foreach_div_(gradients, [each + 1e-8 for each in torch._foreach_norm(gradients)])
            norm = torch.nn.utils.get_total_norm(gradients)
        if gradient_clip_val:
            torch._foreach_mul_(gradients, (gradient_clip_val / (norm + 1e-6)).clamp(max=1.0))

    def kept_settings(self) -> dict[str, Any]:
        """The settings that a run goes on with as it began: the optimiser's state holds what they say."""
        told = self.settings
        return {
            "optimizer": told.optimizer,
            "lr": told.lr,
            "betas": tuple(told.betas),
            "weight_decay": told.weight_decay,
            "lr_multipliers": dict(told.lr_multipliers),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what lives between updates, the lesson's own too, and the precision in use."""
        checkpoint["update_state"] = {
            **self.lesson.state_dict(),
            "generator": self.generator.get_state(),
            "generator_device": self.generator.device.type,
            "meter": self.train_meter.state_dict(),
            **self.kept_settings(),
            # A run that goes on elsewhere computes as it did here.
            "precision": str(self.trainer.precision),
            "processes": processes.world(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        state = checkpoint["update_state"]
        self.lesson.upgrade(checkpoint["state_dict"], [*self.state_dict()])
        self.lesson.load_state_dict(state)
        self.train_meter.load_state_dict(state["meter"])
        # Lightning moves the module to its device after this: the generator is made where it is first used.
        self._generator, self._saved_generator = None, (state["generator_device"], state["generator"].cpu())

    def _learned(self, batch: Any, done: float) -> tuple[Tensor, Learned]:
        """What the lesson makes of a batch; the loss beside it is what the sharded model's hooks look for."""
        learned = self.lesson.learn(self.model, batch, done=done, generator=self.generator)
        return learned.loss, learned

    @property
    def _scaled(self) -> bool:
        plugin = self._trainer.precision_plugin if self._trainer is not None else None
        return isinstance(plugin, MixedPrecision) and plugin.scaler is not None

    def _factor(self, step: int) -> float:
        told = self.settings
        # An average takes the place of a falling rate.
        decay = "none" if told.optimizer == "schedule_free" else told.decay
        return warmup_decay(
            step, warmup_steps=told.warmup_steps, max_steps=told.max_steps, floor=told.min_lr, decay=decay
        )

    def _check_finite(self, learned: Learned) -> None:
        if not bool(torch.isfinite(learned.loss)):
            # Finite terms can still add up to infinity.
            bad = next((name for name, term in learned.terms.items() if not bool(torch.isfinite(term))), "total")
            self._stop_at(bad, float(learned.terms.get(bad, learned.loss)))

    def _stop_at(self, term: str, value: float) -> None:
        step = self.trainer.global_step + 1
        told = f"update {step}: the term {term!r} is {value}"
        if not any(each.keep for each in self.trainer.callbacks if isinstance(each, GracefulStop)):  # type: ignore[attr-defined]
            # Without a folder of its own a run leaves nothing behind.
            raise NonFiniteError(f"{told}; train with a folder to have the batch saved there")
        # All processes see the same loss and gradient, but each has its share of the batch only, and saves it by
        # itself: one that waited for the others would wait for ever, if they saw something else.
        path = RunFolder(self.trainer.default_root_dir).nonfinite(step, processes.rank())
        saved = f"the batch is saved in {path}"
        if processes.world() > 1:
            beside = "" if processes.rank() else ", those of the other processes are beside it"
            saved = f"this process's share of the batch is saved in {path}{beside}"
        try:
            named = self._batch.tensors() if self._batch is not None else {}
            tensors = {name: x.detach().cpu().contiguous() for name, x in named.items()}
            write_atomically(path, save(tensors, metadata={"update": str(step), "term": term}))
        except OSError as error:
            saved = f"the batch could not be saved ({error})"
        raise NonFiniteError(f"{told}; {saved}")
