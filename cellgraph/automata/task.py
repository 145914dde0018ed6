"""The task: what an automaton is trained for, from states to states on the cells of any lattice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cellgraph.graph import Graph
from cellgraph.nn import Cell, Surface
from cellgraph.unroll import Rollout, rollout


@dataclass(frozen=True)
class Batch:
    """Samples of a task.

    Attributes:
        x: States at the start, ``[size, num_nodes, channels]``.
        target: What the loss compares with, ``[size, ...]``, in any form the task likes.
        context: What every cell is told at every step, ``[size, 1 or num_nodes, context_channels]``: a task or goal
            vector (1), an input that is held or a substrate of the cells (``num_nodes``).
        kind: Number of each sample's kind, ``[size]``, where the task has several.
    """

    x: Tensor
    target: Tensor | None = None
    context: Tensor | None = None
    kind: Tensor | None = None

    def __len__(self) -> int:
        return self.x.size(0)

    def tensors(self) -> dict[str, Tensor]:
        """What there is, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def to(self, device: torch.device | str) -> Batch:
        """The samples on a device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def select(self, index: Tensor) -> Batch:
        """Some of the samples."""
        return replace(self, **{name: tensor[index.to(tensor.device)] for name, tensor in self.tensors().items()})


class Task(nn.Module, ABC):
    r"""What an automaton is trained for: start states, a loss of the states it comes to, and held-out figures.

    A task is a module, so that it may learn too (an embedding of symbols, a readout): its parameters are trained,
    averaged and saved with the cell's. Data belongs in buffers with ``persistent=False``.

    To write one, give :meth:`sample` and :meth:`loss`; the rest has defaults.

    Args:
        lattice: Where the cells are.

    Attributes:
        lattice: Where the cells are.
        held: A surface whose cells are set back to their start after each step, if any.
        monitor: Name of the figure of :meth:`validate` that chooses the weights to keep, the greater the better;
            ``None`` keeps those at the end. Figures on held-out data must not choose.

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

    monitor: str | None = None

    def __init__(self, lattice: Graph) -> None:
        super().__init__()
        self.lattice = lattice
        self.held: Surface | None = None

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

    def damage(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Samples as an accident leaves them, for a pool that trains regeneration: here a ball of cells is emptied.

        The ball has a random cell as its centre and a radius of 15 to 35 % of the lattice's longest extent.

        Raises:
            ValueError: If the cells have no places.
        """
        if not self.lattice.dim:
            raise ValueError(f"damage needs the places of the cells, {self.lattice} has none")
        positions = self.lattice.positions.float()
        centre = positions[torch.randint(len(positions), (len(batch),), generator=generator)]
        share = 0.15 + 0.2 * torch.rand(len(batch), 1, generator=generator)
        extent = float((positions.amax(0) - positions.amin(0)).max()) + 1
        kept = torch.cdist(centre, positions) > share * extent
        return replace(batch, x=batch.x * kept[..., None].to(batch.x))

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
        batch = self.sample(16, torch.Generator().manual_seed(0)).to(next(cell.parameters()).device)
        return {"loss": float(self.loss(self.run(cell, batch, num_steps=num_steps).x, batch).mean())}

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

    def run(
        self,
        cell: Cell,
        batch: Batch,
        *,
        num_steps: int,
        checkpoint_every: int = 0,
        trajectory: bool = False,
        generator: torch.Generator | None = None,
    ) -> Rollout:
        """Roll a cell out from a batch's states, with its context and what is held, in the dtype of the cell's weights.

        The memory channels of the states, if the cell has any, are the memory that the rollout starts from.

        Args:
            cell: The cell.
            batch: The samples.
            num_steps: Steps.
            checkpoint_every: See :func:`~cellgraph.unroll`.
            trajectory: Also return the states of all steps.
            generator: Source of the random update masks.
        """
        dtype = next((p.dtype for p in cell.parameters()), batch.x.dtype)
        x, context = batch.x.to(dtype), None if batch.context is None else batch.context.to(dtype)
        memory = x[..., x.size(-1) - cell.memory_channels :] if cell.memory_channels else None
        return rollout(
            cell,
            x,
            memory,
            num_steps=num_steps,
            context=context,
            held=self.held,
            checkpoint_every=checkpoint_every,
            trajectory=trajectory,
            generator=generator,
        )
