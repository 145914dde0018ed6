"""The Lightning module of an automaton: a cell, its task and its pool, update by update."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cellgraph.automata.curriculum import Curriculum, Steps
from cellgraph.automata.penalties import drift, overflow
from cellgraph.automata.pool import SamplePool
from cellgraph.automata.resizing import on_lattice
from cellgraph.automata.task import Batch, Task
from cellgraph.nn import Cell
from cellgraph.numbers import plain_numbers, span
from cellgraph.training import UpdateModule


class Updates:
    """Counts the updates; what each one learns from is drawn by the module, whose generators are in the checkpoint.

    Args:
        total: Batches in all.
    """

    @plain_numbers
    def __init__(self, total: int) -> None:
        self.total, self._done = total, 0

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        if self._done >= self.total:
            self._done = 0
        while self._done < self.total:
            # The place moves on before the number is out, so a state saved while it is used is the next one's.
            self._done += 1
            yield self._done - 1

    def state_dict(self) -> dict[str, int]:
        """How many are done."""
        return {"done": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after them."""
        self._done = state["done"]


class AutomatonModule(UpdateModule):
    r"""Trains a cell, and what its task learns, on rollouts from the task's samples.

    .. math:: L = \frac{1}{S} \sum_{s=1}^S \ell(x_{s T / S}) + \lambda_o \, \mathrm{overflow}(x_T)
        + \lambda_d \, \mathrm{drift}(x_T, x_{T + D})

    The number of steps :math:`T` is drawn anew for every update. Nothing that an update leaves behind carries a
    gradient: states go into the pool detached.

    Args:
        cell: The cell.
        task: What it is trained for.
        pool: Keeps states from update to update; without one every sample is new.
        curriculum: What training starts from.
        batch_size: Samples a batch.
        num_steps: Steps of a rollout, or the least and the most.
        supervise: At how many states, evenly spaced to the last, the loss is taken.
        overflow: Weight of the :func:`~cellgraph.automata.penalties.overflow` penalty.
        bound: What states may reach without it.
        drift: Weight of the :func:`~cellgraph.automata.penalties.drift` penalty.
        drift_steps: Further steps that it looks at.
        noise: Standard deviation of the Gaussian noise on the states at the start (Bishop 1995, "Training with noise
            is equivalent to Tikhonov regularization").
        checkpoint_every: See :func:`~cellgraph.unroll`.
        options: The rest as for :class:`~cellgraph.training.UpdateModule`.

    Raises:
        ValueError: If a number is out of range.
    """

    @plain_numbers
    def __init__(
        self,
        cell: Cell,
        task: Task,
        *,
        pool: SamplePool | None = None,
        curriculum: Curriculum | None = None,
        batch_size: int = 8,
        num_steps: Steps = 32,
        supervise: int = 1,
        overflow: float = 0.0,
        bound: float = 1.0,
        drift: float = 0.0,
        drift_steps: int = 8,
        noise: float = 0.0,
        checkpoint_every: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(nn.ModuleDict({"cell": cell, "task": task}), **options)
        least, most = span("num_steps", num_steps)
        if batch_size < 1 or not 1 <= supervise <= least or drift_steps < 1:
            raise ValueError(
                f"batch_size and drift_steps must be positive and supervise in 1 to {least}, the least number of "
                f"steps, got {batch_size}, {drift_steps} and {supervise}"
            )
        if min(overflow, drift, noise) < 0 or bound <= 0:
            raise ValueError(
                f"overflow, drift and noise must not be negative and bound positive, got {overflow}, {drift}, {noise} "
                f"and {bound}"
            )
        self.pool, self.curriculum = pool, curriculum if curriculum is not None else Curriculum()
        self.settings |= {
            "batch_size": batch_size,
            "num_steps": [least, most],
            "supervise": supervise,
            "overflow": overflow,
            "bound": bound,
            "drift": drift,
            "drift_steps": drift_steps,
            "noise": noise,
            "checkpoint_every": checkpoint_every,
        }
        self.save_hyperparameters(self.settings, logger=False)
        self._small: Any = None
        self._small_shape: tuple[int, ...] | None = None
        # Samples are drawn on the CPU, so that they are the same on every device.
        self.samples = torch.Generator().manual_seed(self.settings["seed"])

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self.model["cell"]  # type: ignore[index]

    @property
    def task(self) -> Task:
        """The task."""
        return self.model["task"]  # type: ignore[index]

    def compile_step(self) -> None:
        """Make the cell's step fast."""
        self.cell.compile_step()

    def training_step(self, number: int, batch_idx: int) -> Tensor:
        """The loss of a batch.

        Raises:
            NonFiniteError: If it is not finite.
        """
        steps = self._draw_steps()
        cell, task = self._stage()
        index, batch = self._draw_batch(task)
        self._batch = batch
        if self.settings["noise"]:
            draws = torch.randn(batch.x.shape, generator=self.generator, device=batch.x.device, dtype=batch.x.dtype)
            batch = replace(batch, x=batch.x + self.settings["noise"] * draws)
        x, terms = self._rollout(cell, task, batch, steps)
        total = terms["task"] + sum(
            self.settings[name] * terms[name] for name in ("overflow", "drift") if name in terms
        )
        self._check_finite(total, terms)
        if index is not None and self.pool is not None:
            self.pool.put(index, x, steps=steps)
        self.train_meter.add(
            {"loss": total.detach(), **{name: t.detach() for name, t in terms.items()}}, rows=len(batch)
        )
        self.train_meter.add({"num_steps": torch.tensor(float(steps))})
        return total

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """The task's figures, by random numbers of their own: how often they are taken changes nothing else."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.settings["seed"])
            figures = self.task.validate(self.cell, num_steps=self.settings["num_steps"][1])
        self.validation = {f"val/{name}": value for name, value in figures.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the samples' generator and the pool."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["update_state"]["samples"] = self.samples.get_state()
        checkpoint["update_state"]["pool"] = None if self.pool is None else self.pool.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them back."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["update_state"]
        if (state["pool"] is None) != (self.pool is None):
            there, here = ("no pool", "one") if state["pool"] is None else ("a pool", "none")
            raise ValueError(f"cannot go on: the checkpoint has {there}, this run {here}")
        self.samples.set_state(state["samples"].cpu())
        if self.pool is not None:
            self.pool.load_state_dict(state["pool"])

    @property
    def _done(self) -> float:
        return float(self.trainer.global_step / self.settings["max_steps"])

    def _draw_steps(self) -> int:
        least, most = self.curriculum.steps(self._done, tuple(self.settings["num_steps"]))
        return int(torch.randint(least, most + 1, (), generator=self.samples))

    def _stage(self) -> tuple[Cell, Task]:
        """The cell and the task, on the curriculum's smaller lattice while it says so."""
        shape = self.curriculum.shape(self._done)
        if shape is None:
            return self.cell, self.task
        if shape != self._small_shape:
            task = self.task.resized(shape).to(self.device)
            # Kept in a tuple, unseen by PyTorch: the weights are those of the cell, and saved with it.
            self._small, self._small_shape = (on_lattice(self.cell, task.lattice), task), shape
        return self._small

    def _draw_batch(self, task: Task) -> tuple[Tensor | None, Batch]:
        size = self.settings["batch_size"]
        # Samples of one size do not fit among those of another: the pool begins with the whole lattice.
        if self.pool is None or task is not self.task:
            return None, task.sample(size, self.samples).to(self.device)
        return self.pool.draw(task, size, self.samples, device=self.device)

    def _rollout(self, cell: Cell, task: Task, batch: Batch, steps: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The final state, and the means of the loss and of the penalties that have a weight."""
        count, losses, x = self.settings["supervise"], [], batch.x
        for part in range(count):
            x = self._run(cell, task, batch, x, steps * (part + 1) // count - steps * part // count)
            losses.append(task.loss(x, batch).mean())
        terms = {"task": torch.stack(losses).mean()}
        if self.settings["overflow"]:
            terms["overflow"] = overflow(x, self.settings["bound"]).mean()
        if self.settings["drift"]:
            terms["drift"] = drift(x, self._run(cell, task, batch, x, self.settings["drift_steps"])).mean()
        return x, terms

    def _run(self, cell: Cell, task: Task, batch: Batch, x: Tensor, steps: int) -> Tensor:
        return task.run(
            cell,
            replace(batch, x=x),
            num_steps=steps,
            checkpoint_every=self.settings["checkpoint_every"],
            generator=self.generator,
        ).x
