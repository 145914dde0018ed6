"""Any cell with a transport beside it, so that a network of it can start as the identity from surface to surface."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from cellgraph.nn.cell import Cell
from cellgraph.nn.dynamics import Dynamics


class Transported(Cell):
    r"""A cell and a learned linear transport of the state beside it, as a :class:`~cellgraph.nn.GMLPCell` has its own.

    .. math::
        x_i \leftarrow x_i + m_i \, \epsilon \, \Big(r \odot \mathrm{update}(x, z)_i + \sum_k a_k \odot x_{i + o_k}\Big)

    A new cell shall only transport. One whose change starts at zero, as a :class:`~cellgraph.nn.NCACell`'s does, starts
    with r = 1; the change of any other is weighed by r = 0 and let in by training ("ReZero is All You Need",
    `Bachlechner et al. 2020 <https://arxiv.org/abs/2003.04887>`_).

    Args:
        cell: The cell. It is taken by its :meth:`~Cell.perceive` and :meth:`~Cell.update`.

    Raises:
        ValueError: If the cell has a ``forward`` of its own, which would not be called.

    Example:
        >>> from cellgraph import Lattice, NCACell
        >>> cell = Transported(NCACell(Lattice((4, 4)), 8))
        >>> cell.set_conveyor(0, 1.0)
        >>> x = torch.randn(1, 16, 8)
        >>> torch.allclose(cell(x)[:, 4:], x[:, :12], atol=1e-6)  # what was in a row is in the next one
        True
    """

    sharing = "shared"

    def __init__(self, cell: Cell) -> None:
        if type(cell).forward is not Cell.forward:
            raise ValueError(
                f"a transport stands beside perceive and update, {type(cell).__name__} has its own forward"
            )
        super().__init__(
            cell.lattice,
            cell.channels,
            memory_channels=cell.memory_channels,
            context_channels=cell.context_channels,
            backend=cell.backend,
            **asdict(cell.dynamics),
        )
        self.inner = cell
        # One and the same: the backend that is set or measured is that of all sums over neighbours.
        self.neighbour_sum = cell.neighbour_sum
        like: Any = {"dtype": cell.dtype, "device": cell.device}
        self.transport = nn.Parameter(torch.zeros(cell.lattice.num_directions + 1, 1, cell.channels, **like))
        self.rate = nn.Parameter(torch.full((cell.channels,), 1.0 if self._starts_at_zero() else 0.0, **like))

    @property
    def hears_all(self) -> bool:
        """Whether the cell hears all others in one step, and not its neighbours alone."""
        return self.inner.hears_all

    @property
    def dynamics(self) -> Dynamics:
        """The cell's: one and the same, whichever of the two they are set on."""
        return self.inner.dynamics

    @dynamics.setter
    def dynamics(self, dynamics: Dynamics) -> None:
        # While this is made there is no cell in it yet, and they are that cell's.
        if "inner" in self._modules:
            self.inner.dynamics = dynamics

    @property
    def colour_masks(self) -> Tensor:  # type: ignore[override]
        """Which cells update at each part of a step, where they do one class after another."""
        return self.inner.colour_masks

    def set_conveyor(self, direction: int | None, rate: float) -> None:
        """Let the transport shift the state along one direction, see :meth:`GMLPCell.set_conveyor
        <cellgraph.nn.GMLPCell.set_conveyor>`."""
        set_shift(self.transport, direction, rate, num_channels=self.free_channels)

    def perceive(self, x: Tensor, context: Tensor | None = None) -> tuple[Any, Tensor]:
        """What the cell perceives, and what the transport brings, ``[batch, num_nodes, channels]``."""
        return self.inner.perceive(x, context), self.neighbour_sum(x, self.transport)

    def update(self, x: Tensor, perceived: tuple[Any, Tensor], context: Tensor | None = None) -> Tensor:
        """The cell's change, weighed, with the transport."""
        inner, moved = perceived
        return self.rate * self.inner.update(x, inner, context) + moved

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the cell and of the transport."""
        return {**self.inner.parameter_counts(), "transport": self.transport.numel() + self.rate.numel()}

    @torch.no_grad()
    def _starts_at_zero(self) -> bool:
        generator = torch.Generator().manual_seed(0)
        x, context = (
            torch.randn(1, self.lattice.num_nodes, width, generator=generator).to(self.inner.device, self.inner.dtype)
            for width in (self.channels, self.context_channels)
        )
        given = context if self.context_channels else None
        return not self.inner.update(x, self.inner.perceive(x, given), given).any()


@torch.no_grad()
def set_shift(transport: Tensor, direction: int | None, rate: float, *, num_channels: int) -> None:
    """Set the weights of a transport so that cells hand on a share of their state.

    Args:
        transport: Weights by direction, the centre last, ``[num_directions + 1, groups, channels]``.
        direction: Where a cell takes the state over from; ``None``: from all its neighbours alike.
        rate: The share of its state that a cell gives up and takes over in a step.
        num_channels: How many channels, the first ones, move.
    """
    neighbours = transport[:-1] if direction is None else transport[direction : direction + 1]
    transport.zero_()
    neighbours[:, :, :num_channels] = rate / len(neighbours)
    transport[-1, :, :num_channels] = -rate
