"""The lesson of an automaton: its task, its pool and its curriculum, update by update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cellgraph import processes
from cellgraph.automata.automaton import Automaton
from cellgraph.automata.batch import Batch
from cellgraph.automata.curriculum import Curriculum
from cellgraph.automata.penalties import drift, overflow
from cellgraph.automata.resizing import on_lattice, share_weights
from cellgraph.automata.settings import AutomatonSettings
from cellgraph.generators import own_generators
from cellgraph.nn import Cell
from cellgraph.numbers import plain_numbers
from cellgraph.training import Learned, Lesson

if TYPE_CHECKING:
    from cellgraph.automata.task import Task


class Updates:
    """Counts the updates; what each one learns from is drawn by the lesson, whose generators are in the checkpoint.

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


class AutomatonLesson(Lesson):
    r"""Trains a cell, and what its task learns, on rollouts from the task's samples.

    .. math:: L = \frac{1}{S} \sum_{s=1}^S \ell(x_{s T / S}) + \lambda_o \, \mathrm{overflow}(x_T)
        + \lambda_d \, \mathrm{drift}(x_T, x_{T + D})

    The number of steps :math:`T` is drawn anew for every update. Nothing that an update leaves behind carries a
    gradient: states go into the pool detached.

    What is trained is the task of the automaton at hand, which may be a copy of the one here.

    Args:
        task: What it is trained for; its pool, which begins empty, and its curriculum are those of the training.
        settings: How.

    Raises:
        ValueError: If the pool never lets a sample start anew or does not hold a batch, the curriculum starts with more
            steps than the settings have, or fewer than there are states that the loss is taken at, or the task cannot
            be had on one of its lattices.
    """

    def __init__(self, task: Task, settings: AutomatonSettings) -> None:
        self.settings = settings
        self.pool, self.curriculum = task.pool, task.curriculum or Curriculum()
        if self.pool is not None and self.pool.is_closed:
            raise ValueError(
                "a pool must let samples start anew (reseed, max_age) or keep no more than the cells' memory "
                f"(memory_channels, for a cell with some), got reseed {self.pool.reseed}, "
                f"max_age {self.pool.max_age} and memory_channels {self.pool.memory_channels}"
            )
        self.shardable = not self.curriculum.shapes
        with own_generators():
            for shape in self.curriculum.shapes.values():
                task.resized(shape)  # refused here, and not when training comes to it
        final, start = settings.steps, self.curriculum.steps(0.0, settings.steps)
        if settings.supervise > start[0]:
            raise ValueError(
                f"training setting supervise must be 1 to {start[0]}, the least number of steps that the curriculum "
                f"has, got {settings.supervise}"
            )
        if start[0] > final[0] or start[1] > final[1]:
            raise ValueError(f"the curriculum must not start with more steps than training's {final}, got {start}")
        if self.pool is not None:
            self.pool.check(settings.batch_size)
            self.pool.reset()
        self._small: tuple[Cell, Task] | None = None
        self._small_shape: tuple[int, ...] | None = None
        # Samples are drawn on the CPU, so that they are the same on every device.
        self.samples = torch.Generator().manual_seed(settings.seed)

    def batches(self) -> Updates:
        """Numbers: samples are drawn when they are learned from.

        Raises:
            ValueError: If a batch has fewer samples than there are processes to share it.
        """
        processes.check_shares(self.settings.batch_size)
        return Updates(self.settings.max_steps * self.settings.accumulate)

    def learn(self, model: nn.Module, batch: int, *, done: float, generator: torch.Generator) -> Learned:
        """The loss of a batch, which is drawn here."""
        assert isinstance(model, Automaton)
        steps = self._draw_steps(done)
        cell, task = self._stage(model, done)
        # Samples of one size do not fit among those of another: the pool begins with the whole lattice.
        index, samples = self._draw_batch(task, generator.device, pooled=task is model.task)
        rows = len(samples)
        if processes.world() > 1:
            # Every process draws them all, as its pool holds them all, and lets its share of them run.
            samples = samples.select(torch.arange(rows)[processes.share(rows)])
        with processes.sharing(rows):
            start = samples
            if self.settings.noise:
                draws = processes.drawn(torch.randn, samples.x.shape, like=samples.x, generator=generator)
                start = replace(samples, x=samples.x + self.settings.noise * _where_it_fades(cell, task, draws))
            x, terms = self.rollout(cell, task, start, steps, generator)
            weights = {"overflow": self.settings.overflow, "drift": self.settings.drift}
            total = terms["task"] + sum(weight * terms[name] for name, weight in weights.items() if name in terms)
            if index is not None and self.pool is not None:
                self.pool.put(index, processes.gathered(x.detach()), steps=steps)
        detached = {name: term.detach() for name, term in terms.items()}
        return Learned(total, detached, samples, rows, float(steps))

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The task's figures."""
        assert isinstance(model, Automaton)
        return model.task.validate(model.cell, num_steps=self.settings.steps[1])

    def state_dict(self) -> dict[str, Any]:
        """The samples' generator and the pool."""
        pool = None if self.pool is None else self.pool.state_dict()
        return {"samples": self.samples.get_state(), "pool": pool}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        if (state["pool"] is None) != (self.pool is None):
            there, here = ("no pool", "one") if state["pool"] is None else ("a pool", "none")
            raise ValueError(f"cannot go on: the checkpoint has {there}, this run {here}")
        self.samples.set_state(state["samples"].cpu())
        if self.pool is not None:
            self.pool.load_state_dict(state["pool"])

    def _draw_steps(self, done: float) -> int:
        least, most = self.curriculum.steps(done, self.settings.steps)
        return int(torch.randint(least, most + 1, (), generator=self.samples))

    def _stage(self, model: Automaton, done: float) -> tuple[Cell, Task]:
        """The automaton's cell and task, on the curriculum's smaller lattice while it says so."""
        shape = self.curriculum.shape(done)
        if shape is None:
            return model.cell, model.task
        if self._small is None or shape != self._small_shape:
            with own_generators():
                task = model.task.resized(shape).to(model.cell.device)
            # The weights are those of the cell and the task, and saved with them.
            share_weights(model.task, task)
            self._small, self._small_shape = (on_lattice(model.cell, task.lattice), task), shape
        return self._small

    def _draw_batch(self, task: Task, device: torch.device, *, pooled: bool) -> tuple[Tensor | None, Batch]:
        size = self.settings.batch_size
        if self.pool is None or not pooled:
            return None, task.sample(size, self.samples).to(device)
        return self.pool.draw(task, size, self.samples, device=device)

    def rollout(
        self, cell: Cell, task: Task, batch: Batch, steps: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The final state, and the means of the loss and of the penalties that have a weight."""

        def walked(x: Tensor, num_steps: int) -> Tensor:
            every = self.settings.remat_every
            options = {"num_steps": num_steps, "remat_every": every, "generator": generator}
            return task.run(cell, replace(batch, x=x), **options).x  # type: ignore[arg-type]

        count, losses, x = self.settings.supervise, [], batch.x
        for part in range(count):
            x = walked(x, steps * (part + 1) // count - steps * part // count)
            loss = task.loss(x, batch)
            losses.append(processes.gathered(loss).mean())
        task.notice(batch, loss.detach())
        terms = {"task": torch.stack(losses).mean()}
        if self.settings.overflow:
            terms["overflow"] = processes.gathered(overflow(x, self.settings.bound)).mean()
        if self.settings.drift:
            terms["drift"] = processes.gathered(drift(x, walked(x, self.settings.drift_steps))).mean()
        return x, terms


def _where_it_fades(cell: Cell, task: Task, draws: Tensor) -> Tensor:
    """Noise on what a rollout starts from and leaves again: not on clamped cells nor on memory, where all of a pool's
    updates would add up."""
    if task.clamped is not None:
        draws = task.clamped.clamp(draws, torch.zeros_like(draws))
    changing = draws.size(-1) - cell.memory_channels
    return draws * (torch.arange(draws.size(-1), device=draws.device) < changing)
