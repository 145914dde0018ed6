"""The Lightning module: a model and its objective, update by update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from safetensors.torch import save
from torch import Tensor, nn

from cellgraph.files import write_atomically
from cellgraph.training.embedded import Batch
from cellgraph.training.meter import Meter
from cellgraph.training.objectives import Objective
from cellgraph.training.retrieval import reciprocal_ranks
from cellgraph.training.schedule import parameter_groups, warmup_cosine


class NonFiniteError(ValueError):
    """A loss or a gradient that is not a number or infinite; the message names the update, the term and the batch."""


class LatticeModule(lightning.LightningModule):
    """Trains a model from questions to answers: :class:`~cellgraph.CellGraph`, or any module called the same way.

    A batch is some turns of some dialogues. The turns are walked through in order, with the memory handed from one to
    the next; the gradient runs through the turns of a batch and, the memory being detached, no further: truncated
    back-propagation through time. A batch that continues the one before starts from its memory.

    Args:
        model: Called as ``model(question, memory, generator=...)``; what it returns has ``embedding``, ``surface``,
            ``states``, ``memory`` and ``num_steps``. ``target_surface(answer)`` gives the surface term its target.
        objective: What to train for.
        lr: Learning rate.
        weight_decay: Weight decay, of matrices only, see :func:`~cellgraph.training.schedule.parameter_groups`.
        warmup_steps: Updates until the learning rate is reached.
        max_steps: Updates in all, where the cosine ends.
        min_lr: Share of the learning rate that is left at the end.
        betas: AdamW's averaging factors (`Loshchilov and Hutter 2019 <https://arxiv.org/abs/1711.05101>`_).
        lr_multipliers: Factors of the learning rate by the beginning of a parameter's name in the model.
        noise: Expected norm of the Gaussian noise added to a question embedding in training (Bishop 1995, "Training
            with noise is equivalent to Tikhonov regularization").
        seed: Seed of the random numbers of steps, update masks and noise.
        compile: Whether to call the model's ``compile_step``.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
        max_steps: int = 1000,
        min_lr: float = 0.0,
        betas: Sequence[float] = (0.9, 0.999),
        lr_multipliers: Mapping[str, float] | None = None,
        noise: float = 0.0,
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
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas}")
        if noise < 0:
            raise ValueError(f"noise must not be negative, got {noise}")
        self.model, self.objective = model, objective
        self.settings: dict[str, Any] = {
            "lr": lr,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "max_steps": max_steps,
            "min_lr": min_lr,
            "betas": list(betas),
            "lr_multipliers": dict(lr_multipliers or {}),
            "noise": noise,
            "seed": seed,
            "compile": compile,
        }
        self.save_hyperparameters(self.settings, logger=False)
        self.train_meter, self.val_meter = Meter(), Meter()
        self.validation: dict[str, float] = {}
        self._generator: torch.Generator | None = None
        self._memory: Tensor | None = None
        self._batch: Batch | None = None
        self._compiled = False
        self._retrieved: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def generator(self) -> torch.Generator:
        """The generator of everything random in an update, on the module's device."""
        if self._generator is None or self._generator.device.type != self.device.type:
            self._generator = torch.Generator(self.device).manual_seed(self.settings["seed"])
        return self._generator

    def learning_rate(self, step: int) -> float:
        """The learning rate of an update, counted from 0, before multipliers."""
        return float(self.settings["lr"]) * self._factor(step)

    def configure_model(self) -> None:
        """Compile the model's step where asked; Lightning calls this once or more before training."""
        if self.settings["compile"] and not self._compiled:
            self._compiled = True
            # The module itself cannot be compiled as long as it logs; a model without cells has nothing to compile.
            getattr(self.model, "compile_step", lambda: None)()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW and the schedule, one step of it an update."""
        lr, betas = self.settings["lr"], tuple(self.settings["betas"])
        named = [*self.model.named_parameters(), *self.objective.named_parameters()]
        groups = parameter_groups(
            named, lr=lr, weight_decay=self.settings["weight_decay"], multipliers=self.settings["lr_multipliers"]
        )
        # A fused optimiser unscales fp16 gradients itself, which rules out clipping.
        optimizer = torch.optim.AdamW(groups, lr=lr, betas=betas, fused=not self._scaled)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch.

        Raises:
            NonFiniteError: If it is not finite.
        """
        total, terms, memory, num_steps = self._evaluate(batch, None if batch.starts else self._memory)
        self._memory, self._batch = memory, batch
        if not bool(torch.isfinite(total)):
            # Finite terms can still add up to infinity.
            bad = next((name for name, term in terms.items() if not bool(torch.isfinite(term))), "total")
            self._stop_at(bad, float(terms.get(bad, total)))
        self.train_meter.add({"loss": total.detach(), **terms}, rows=len(batch))
        self.train_meter.add({"num_steps": torch.tensor(float(num_steps))})
        return total

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients' norm, and note it."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # With scaled gradients an overflow is expected now and then; the scaler skips the update.
        if not self._scaled and not bool(torch.isfinite(norm)):
            self._stop_at("gradient", float(norm))
        self.train_meter.add({"grad_norm": norm})
        if gradient_clip_val:
            torch._foreach_mul_(gradients, (gradient_clip_val / (norm + 1e-6)).clamp(max=1.0))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One update; the temperature is brought back into its range after it."""
        super().optimizer_step(*args, **kwargs)
        self.objective.constrain()

    def on_validation_epoch_start(self) -> None:
        """Forget the validation before."""
        self.val_meter, self._retrieved = Meter(), []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Note the terms and the predictions of a batch."""
        total, terms, *_ = self._evaluate(batch, None, keep=True)
        self.val_meter.add({"loss": total, **terms}, rows=len(batch))

    def on_validation_epoch_end(self) -> None:
        """Sum up: the terms, the cosine, and the retrieval among all the answers of the validation set."""
        prediction, answer, group = (torch.cat(part) for part in zip(*self._retrieved, strict=True))
        self._retrieved = []
        ranks = reciprocal_ranks(prediction, answer, group)
        metrics = self.val_meter.means()
        metrics["cosine"] = float(F.cosine_similarity(prediction, answer).mean())
        metrics["recall_at_1"] = float((ranks == 1).float().mean())
        metrics["mrr"] = float(ranks.mean())
        self.validation = {f"val/{name}": value for name, value in metrics.items()}
        self.log_dict(self.validation, logger=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what lives between updates: the generator, the memory, the running means."""
        checkpoint["update_state"] = {
            "generator": self.generator.get_state(),
            "generator_device": self.generator.device.type,
            "memory": self._memory,
            "meter": self.train_meter.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        state = checkpoint["update_state"]
        self._memory = None if state["memory"] is None else state["memory"].to(self.device)
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
        return warmup_cosine(step, warmup_steps=warmup, max_steps=last, floor=floor)

    def _with_noise(self, batch: Batch) -> Batch:
        question = batch.question
        draws = torch.randn(question.shape, generator=self.generator, device=question.device, dtype=question.dtype)
        return batch.asking(question + self.settings["noise"] * question.size(-1) ** -0.5 * draws)

    def _evaluate(
        self, batch: Batch, memory: Tensor | None, *, keep: bool = False
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None, float]:
        if self.training and self.settings["noise"]:
            batch = self._with_noise(batch)
        outputs = []
        for turn in range(batch.question.size(1)):
            output = self.model(batch.question[:, turn], memory, generator=self.generator if self.training else None)
            memory = output.memory
            outputs.append(output)
        embedding = _rows([output.embedding for output in outputs], batch.mask)
        surface = _rows([output.surface for output in outputs], batch.mask)
        with_states = self.objective.needs_states and outputs[0].states is not None
        states = _rows([output.states for output in outputs], batch.mask) if with_states else None
        answer = _rows(list(batch.answer.unbind(1)), batch.mask)
        group = _rows(list(batch.group.unbind(1)), batch.mask)
        dialogue = None
        if batch.mask is not None:
            numbers = torch.arange(batch.mask.size(0), device=batch.mask.device)
            dialogue = numbers[:, None].expand_as(batch.mask)[batch.mask]
        target = self.model.target_surface(answer) if self.objective.weights["surface"] else None  # type: ignore[operator]
        total, terms = self.objective(
            embedding, surface, states, answer=answer, target_surface=target, group=group, dialogue=dialogue
        )
        if keep:
            self._retrieved.append((embedding.detach().float(), answer.float(), group))
        num_steps = sum(output.num_steps for output in outputs) / len(outputs)
        detached = {name: term.detach() for name, term in terms.items()}
        return total, detached, None if memory is None else memory.detach(), num_steps

    def _stop_at(self, term: str, value: float) -> None:
        step = self.trainer.global_step + 1
        path = Path(self.trainer.default_root_dir) / f"nonfinite_update_{step}.safetensors"
        saved = f"the batch is saved in {path}"
        try:
            tensors = self._batch.tensors() if self._batch is not None else {}
            write_atomically(path, save(tensors, metadata={"update": str(step), "term": term}))
        except OSError as error:
            saved = f"the batch could not be saved ({error})"
        raise NonFiniteError(f"update {step}: the term {term!r} is {value}; {saved}")


def _rows(turns: list[Tensor], mask: Tensor | None) -> Tensor:
    """``[dialogues, ...]`` a turn to ``[rows, ...]``, without the padding."""
    return turns[0] if mask is None else torch.stack(turns, dim=1)[mask]
