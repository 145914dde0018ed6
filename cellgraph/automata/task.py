"""The task: what an automaton is trained for, from states to states on the cells of any lattice."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table
from rich.text import Text
from safetensors.torch import save
from torch import Tensor, nn

from cellgraph.automata.automaton import Automaton
from cellgraph.automata.batch import Batch
from cellgraph.automata.lesson import AutomatonLesson
from cellgraph.automata.settings import AutomatonSettings
from cellgraph.files import write_atomically, write_json
from cellgraph.folder import RunFolder
from cellgraph.graph import Graph
from cellgraph.lattice import Lattice
from cellgraph.nn import Cell, Surface
from cellgraph.nn.memory import memory_of
from cellgraph.pretrained import apart
from cellgraph.reading import faults, read_tensors
from cellgraph.training import Job
from cellgraph.training import Task as BaseTask
from cellgraph.unroll import Rollout, rollout

if TYPE_CHECKING:
    from cellgraph.automata.curriculum import Curriculum
    from cellgraph.automata.pool import SamplePool

#: What progress shows beside the figure that chooses the weights.
SHOWN = ("train/loss", "train/overflow", "train/drift", "train/num_steps", "val/loss", "val/accuracy")


class Task(nn.Module, BaseTask):
    r"""What an automaton is trained for: start states, a loss of the states it comes to, and held-out figures.

    A task is a module, so that it may learn too (an embedding of symbols, a readout): its parameters are trained,
    averaged and saved with the cell's. Data belongs in buffers with ``persistent=False``.

    To write one, give :meth:`sample` and :meth:`loss`; the rest has defaults.

    Args:
        lattice: Where the cells are.

    Attributes:
        lattice: Where the cells are.
        clamped: A surface whose cells are set back to their start after each step, if any.
        context_channels: Width of the context that a cell must take.
        monitor: Name of the figure of :meth:`validate` that chooses the weights to keep, the greater the better;
            ``None`` keeps those at the end. Figures on held-out data must not choose.
        pool: Keeps states from update to update; without one every sample is new.
        curriculum: What training starts from.
        weights_from: A run folder whose trained weights training begins with, if any.

    Example:
        >>> from cellgraph import GMLPCell, Lattice
        >>> class Fade(Task):
        ...     def sample(self, size, generator):
        ...         return Batch(torch.randn(size, self.lattice.num_nodes, 4, generator=generator))
        ...     def loss(self, x, batch):
        ...         return x.square().mean((1, 2))
        >>> task = Fade(Lattice((5, 5)))
        >>> batch = task.sample(2, torch.Generator().manual_seed(0))
        >>> task.loss(task.run(GMLPCell(task.lattice, 4, hidden=8), batch, num_steps=3).x, batch).shape
        torch.Size([2])
    """

    context_channels: int = 0
    Settings = AutomatonSettings

    def __init__(self, lattice: Graph) -> None:
        super().__init__()
        self.lattice = lattice
        self.clamped: Surface | None = None
        self.pool: SamplePool | None = None
        self.curriculum: Curriculum | None = None
        self.weights_from: RunFolder | None = None

    @property
    def shown(self) -> Sequence[str]:  # type: ignore[override]
        """Names of the values that progress shows."""
        return SHOWN if self.monitor is None or f"val/{self.monitor}" in SHOWN else (*SHOWN, f"val/{self.monitor}")

    def check(self, make: Automaton, settings: AutomatonSettings) -> None:
        """Refuse a cell on another lattice than the task's, and a pool that would keep other channels than the cell's
        memory.

        Raises:
            ValueError: If the lattices differ, or the pool keeps some channels only, but not so many as are the cell's
                memory.
        """
        if not _alike(make.cell.lattice, self.lattice):
            raise ValueError(f"the cell must be on the task's lattice, {self.lattice}, got {make.cell.lattice}")
        kept = 0 if self.pool is None else self.pool.memory_channels
        if kept not in (0, make.cell.memory_channels):
            raise ValueError(
                f"the pool must keep the cell's memory, {make.cell.memory_channels} channels, "
                f"got pool.memory_channels {kept}"
            )

    @abstractmethod
    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """Draw training samples.

        Args:
            size: How many.
            generator: Source of everything random, on the CPU: the same samples come on every device. The batch may
                be on any device; the loop moves it.
        """

    @abstractmethod
    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        """The loss of each sample, ``[size]``, at states ``x`` ``[size, num_nodes, channels]``."""

    def notice(self, batch: Batch, loss: Tensor) -> None:
        """Hear how hard the samples of an update were, before the next are drawn; here nothing is made of it.

        Args:
            batch: The samples, where several processes train together this one's share of them.
            loss: Their losses at the last state, ``[size]``, without a gradient.
        """

    def damage(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Samples as an accident leaves them, for a pool that trains regeneration: here a ball of cells is emptied.

        The ball has a random cell as its centre and a radius of 15 to 35 % of the lattice's longest extent, and lies
        across the ends of a periodic axis where it reaches them. Clamped cells stay as they are.

        Raises:
            ValueError: If the cells have no places.
        """
        if not self.lattice.dim:
            raise ValueError(f"damage needs the places of the cells, {self.lattice} has none")
        positions = self.lattice.positions.float()
        centre = positions[torch.randint(len(positions), (len(batch),), generator=generator)]
        share = 0.15 + 0.2 * torch.rand(len(batch), 1, generator=generator)
        extent = float((positions.amax(0) - positions.amin(0)).max()) + 1
        away = (centre[:, None] - positions).abs()
        if isinstance(self.lattice, Lattice):
            ends = zip(self.lattice.shape, self.lattice.boundary, strict=True)
            turn = torch.tensor([size if boundary == "periodic" else torch.inf for size, boundary in ends])
            away = torch.minimum(away, turn - away)
        x = batch.x * (away.norm(dim=-1) > share * extent)[..., None].to(batch.x)
        return replace(batch, x=x if self.clamped is None else self.clamped.clamp(x, batch.x))

    def resized(self, shape: tuple[int, ...]) -> Task:
        """The same task on a lattice of another shape, for a curriculum on size.

        Raises:
            ValueError: Here: the task has one size.
        """
        raise ValueError(f"{type(self).__name__} has one size, a curriculum on lattice size needs its `resized`")

    @torch.no_grad()
    def validate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """Figures while training goes on, every ``val_every`` updates: here the loss of 16 fresh training samples.

        Args:
            cell: The cell, in evaluation mode.
            num_steps: Steps of the rollouts.
        """
        generator = torch.Generator().manual_seed(0)
        batch = self.sample(16, generator).to(cell.device)
        x = self.run(cell, batch, num_steps=num_steps, generator=generator).x
        return {"loss": float(self.loss(x, batch).mean())}

    def evaluate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """Figures on held-out data, once after training; here there are none.

        Args:
            cell: The trained cell, in evaluation mode.
            num_steps: Steps of the rollouts.
        """
        return {}

    def draw(self, cell: Cell, folder: Path, *, num_steps: int) -> list[Path]:
        """Draw what the cell does into a folder, as PNG or GIF; returns the files, here none."""
        return []

    def examine(self, cell: Cell, *, num_steps: int) -> tuple[dict[str, float], Callable[[Path], list[Path]]]:
        """The figures of :meth:`evaluate`, and what draws into a folder as :meth:`draw` does.

        Args:
            cell: The trained cell, in evaluation mode.
            num_steps: Steps of the rollouts.
        """
        return self.evaluate(cell, num_steps=num_steps), functools.partial(self.draw, cell, num_steps=num_steps)

    def run(
        self,
        cell: Cell,
        batch: Batch,
        *,
        num_steps: int,
        remat_every: int = 0,
        trajectory: bool = False,
        generator: torch.Generator | None = None,
    ) -> Rollout:
        """Roll a cell out from a batch's states, with its context and clamped cells, in the dtype of its weights.

        The memory channels of the states, if the cell has any, are the memory that the rollout starts from.

        Args:
            cell: The cell.
            batch: The samples.
            num_steps: Steps.
            remat_every: See :func:`~cellgraph.unroll`.
            trajectory: Also return the states of all steps.
            generator: Source of the random update masks.
        """
        dtype = next((p.dtype for p in cell.parameters()), batch.x.dtype)
        x, context = batch.x.to(dtype), None if batch.context is None else batch.context.to(dtype)
        return rollout(
            cell,
            x,
            memory_of(x, cell.memory_channels),
            num_steps=num_steps,
            context=context,
            clamped=self.clamped,
            remat_every=remat_every,
            trajectory=trajectory,
            generator=generator,
        )

    def lesson(self, settings: AutomatonSettings) -> AutomatonLesson:
        """A new training by these settings, with the pool and the curriculum."""
        return AutomatonLesson(self, settings)

    def build(self, make: Automaton, job: Job) -> Automaton:
        """The automaton itself, with the weights of another run where these are asked for."""
        # A checkpoint that training goes on from has all of them.
        if self.weights_from is not None and not job.folder.last.exists():
            make = self.load(make, self.weights_from).train()
        said = ", ".join(f"{name} {count:,}" for name, count in make.parameter_counts().items() if count)
        job.say(f"{self.lattice}; parameters: {said}")
        return make

    def save(self, model: nn.Module, folder: RunFolder) -> None:
        """Write the weights of a trained automaton."""
        write_atomically(folder.automaton, save(apart(model.state_dict())))

    def load(self, make: Automaton, folder: RunFolder) -> Automaton:
        """The trained automaton of a run folder."""
        try:
            weights = read_tensors(folder.automaton)
        except FileNotFoundError as error:
            raise ValueError(f"{folder} holds no trained automaton: {folder.automaton.name} is missing") from error
        with faults(f"the automaton saved in {folder.automaton}"):
            make.load_state_dict(weights)
        return make.eval()

    def judge(self, model: nn.Module, job: Job, training: Mapping[str, Any]) -> dict[str, float]:
        """Take the held-out figures and draw: both go into the run folder."""
        assert isinstance(model, Automaton)
        most = max(job.settings.steps)
        figures, draw = self.examine(model.cell, num_steps=most)
        counted = {**training, "parameters": sum(model.parameter_counts().values())}
        updates, seconds = training["updates"], training["seconds"]
        table = Table("figure", title=f"Held-out figures after {updates:,} updates, {seconds:.0f} s")
        table.add_column("value", justify="right")
        for name, value in figures.items():
            table.add_row(Text(name), f"{value:.4g}")
        # First, so that they are not lost where they cannot be written.
        job.console.print(table)
        # JSON knows no number that is none.
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        write_json(job.folder.evaluation, {"held_out": finite, "training": counted})
        for path in draw(job.folder.path):
            job.say(f"drawn: {path}")
        return figures


def _alike(one: Graph, other: Graph) -> bool:
    """Whether two graphs have the same edges, in the same directions and with the same weights."""
    if one is other or one == other:
        return True
    edges = [(graph.edge_index, graph.edge_direction, graph.edge_weight) for graph in (one, other)]
    return one.num_nodes == other.num_nodes and all(
        a is b or (a is not None and b is not None and torch.equal(a.cpu(), b.cpu()))
        for a, b in zip(*edges, strict=True)
    )
