"""The dynamics: when cells take up an update, how much of it, and which of them live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cellgraph import processes
from cellgraph.numbers import settle_numbers

if TYPE_CHECKING:
    from typing_extensions import TypedDict

    class DynamicsOptions(TypedDict, total=False):
        """The fields of :class:`Dynamics`, as keyword arguments of a cell."""

        step_size: float
        fire_rate: float
        always_random: bool
        order: str
        alive_channel: int | None
        alive_threshold: float


ORDERS = ("synchronous", "sequential")


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    r"""What a step makes of the update of a cell, whatever the cell.

    .. math::
        x_i \leftarrow \mathrm{life}_i \, (x_i + m_i \, \epsilon \, \mathrm{update}(x, z)_i)

    Attributes:
        step_size: The factor :math:`\epsilon` of all updates.
        fire_rate: Probability :math:`m_i = 1` that a cell updates at a step in training (asynchronous updates,
            `Mordvintsev et al. 2020 <https://distill.pub/2020/growing-ca/>`_, "Stochastic cell update"); in evaluation
            every cell takes the expected update, :math:`m_i` = ``fire_rate``.
        always_random: Whether updates are random in evaluation too.
        order: ``"synchronous"``: all cells update at once; ``"sequential"``: within a step, classes of cells that do
            not hear one another update one after the other, so that each sees what those before it have become (fully
            asynchronous, in the fixed order of a `graph colouring <https://en.wikipedia.org/wiki/Graph_coloring>`_).
        alive_channel: The channel that says whether a cell lives: one is dead, and its state zero, unless it or a
            neighbour is above ``alive_threshold`` both before and after the update (the same source, "Living cell
            masking"); ``None`` keeps all alive.
        alive_threshold: That threshold.

    Raises:
        ValueError: If a rate, a channel or a name is out of range.

    Example:
        >>> Dynamics(step_size=0.5, fire_rate=0.5).share()
        0.25
    """

    step_size: float = 1.0
    fire_rate: float = 1.0
    always_random: bool = False
    order: str = "synchronous"
    alive_channel: int | None = None
    alive_threshold: float = 0.1

    def __post_init__(self) -> None:
        settle_numbers(self)
        if not 0.0 < self.fire_rate <= 1.0:
            raise ValueError(f"fire_rate must be in (0, 1], got {self.fire_rate}")
        if not self.step_size > 0.0:
            raise ValueError(f"step_size must be positive, got {self.step_size}")
        if self.order not in ORDERS:
            raise ValueError(f"order must be one of {ORDERS}, got {self.order!r}")

    @property
    def is_plain(self) -> bool:
        """Whether a step is no more than an update added at once: all update at once and nobody dies."""
        return self.order == "synchronous" and self.alive_channel is None

    def share(self, update_mask: Tensor | None = None) -> Any:
        """What share of an update cells take: a number for all of them, or where a mask says which update, theirs."""
        share = self.fire_rate if update_mask is None else update_mask
        return share if self.step_size == 1.0 else share * self.step_size

    def draw(self, x: Tensor, num_nodes: int, num_steps: int, generator: torch.Generator | None) -> Tensor:
        """Which cells update at each step, ``[num_steps, batch, num_nodes, 1]``, for states like ``x``."""
        source = generator.device if generator is not None else x.device
        shape = num_steps, x.size(0), num_nodes, 1
        draws = processes.drawn(torch.rand, shape, dim=1, generator=generator, device=source)
        return (draws < self.fire_rate).to(x.device, x.dtype)

    def alive(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Whether each cell, or a neighbour, is above the threshold, ``[batch, num_nodes, 1]``."""
        own = (x.detach()[..., self.alive_channel] > self.alive_threshold).to(x.dtype)
        source, target = edge_index
        return (own.index_add(1, target, own[:, source]) > 0)[..., None]
