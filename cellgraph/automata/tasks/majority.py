"""Majority: every cell is to know which of two values most cells started with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cellgraph.automata.animation import save_picture
from cellgraph.automata.task import Batch, Task
from cellgraph.lattice import Lattice
from cellgraph.nn import Cell
from cellgraph.numbers import at_least, plain_numbers


class Majority(Task):
    r"""Density classification (Mitchell, Crutchfield and Hraber 1994, `"Evolving cellular automata to perform
    computations" <https://doi.org/10.1016/0167-2789(94)90293-3>`_): cells of a ring start with :math:`\pm 1` in their
    first channel and must all come to the sign of the sum in their second. No automaton of two states a cell can do it
    (`Land and Belew 1995 <https://doi.org/10.1103/PhysRevLett.74.5148>`_); one with more channels counts.

    .. math:: \ell(x) = \frac{1}{N} \sum_i (x_{i,1} - t)^2, \qquad t = \mathrm{sign} \sum_i x^0_{i,0}

    Args:
        width: Cells of the ring, an odd number, at least 3.
        channels: Channels of the state.
        size: Held-out samples, at least 1.

    Raises:
        ValueError: If the width is even, there are fewer than two channels or another number is out of range.

    Example:
        >>> task = Majority(5)
        >>> batch = task.sample(2, torch.Generator().manual_seed(0))
        >>> batch.x[..., 0].sum(1).sign() == batch.target
        tensor([True, True])
    """

    @plain_numbers
    def __init__(self, width: int = 31, *, channels: int = 16, size: int = 500) -> None:
        if width % 2 == 0 or channels < 2:
            raise ValueError(f"width must be odd and channels at least 2, got {width} and {channels}")
        at_least(3, width=width)
        at_least(1, size=size)
        super().__init__(Lattice((width,), boundary="periodic"))
        self.channels, self.size = channels, size

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """Samples with every share of positive cells alike likely: half of them are easy."""
        share = torch.rand(size, 1, generator=generator)
        return self._batch(torch.rand(size, self.lattice.num_nodes, generator=generator) < share)

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        """The mean squared error of the second channel."""
        assert batch.target is not None
        return (x[..., 1] - batch.target[:, None]).square().mean(1)

    def resized(self, shape: tuple[int, ...]) -> Majority:
        """The same on another ring.

        Raises:
            ValueError: If it is none, or its width is not odd.
        """
        if len(shape) != 1:
            raise ValueError(f"the lattice must be a ring, [width], got {list(shape)}")
        return Majority(shape[0], channels=self.channels, size=self.size)

    @torch.no_grad()
    def evaluate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """Shares of samples on which all cells are right, and of single cells; after as many steps again, too.

        Cells start positive with probability 1/2, the hard case and the customary one. The draw is another than
        training's: on a ring of 31 cells next to no start was seen before, on one of 15 about a tenth are.
        """
        generator = torch.Generator().manual_seed(2**31)
        batch = self._batch(torch.rand(self.size, self.lattice.num_nodes, generator=generator) < 0.5)
        batch = batch.to(cell.device)
        x = self.run(cell, batch, num_steps=num_steps, generator=generator).x
        later = self.run(cell, replace(batch, x=x), num_steps=num_steps, generator=generator).x
        return {
            "accuracy": float(self._right(x, batch).all(1).float().mean()),
            "cell_accuracy": float(self._right(x, batch).float().mean()),
            "accuracy_later": float(self._right(later, batch).all(1).float().mean()),
        }

    @torch.no_grad()
    def draw(self, cell: Cell, folder: Path, *, num_steps: int) -> list[Path]:
        """A picture ``majority.png``: time downwards, the second channel of four fresh samples side by side."""
        generator = torch.Generator().manual_seed(1)
        batch = self._batch(torch.rand(4, self.lattice.num_nodes, generator=generator) < 0.5).to(cell.device)
        states = self.run(cell, batch, num_steps=num_steps, trajectory=True, generator=generator).trajectory
        assert states is not None
        grey = torch.cat([states[:1, ..., 0], states[..., 1]]) / 2 + 0.5
        gap = grey.new_full((len(grey), 4, 1), 0.5)
        return [save_picture(torch.cat([grey, gap], dim=-1).flatten(1), folder / "majority.png")]

    def _batch(self, positive: Tensor) -> Batch:
        own = positive.float() * 2 - 1
        x = torch.zeros(*own.shape, self.channels)
        x[..., 0] = own
        return Batch(x, own.sum(1).sign())

    @staticmethod
    def _right(x: Tensor, batch: Batch) -> Tensor:
        assert batch.target is not None
        return x[..., 1].sign() == batch.target[:, None]
