"""The cell: what every small shared network on a node has in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cellgraph.graph import Graph
from cellgraph.nn.dynamics import Dynamics
from cellgraph.nn.rebuilding import Rebuildable, hands_on
from cellgraph.numbers import plain_numbers
from cellgraph.ops import AUTO

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from cellgraph.nn.dynamics import DynamicsOptions

    class CellOptions(DynamicsOptions, total=False):
        """The keyword arguments of every cell."""

        memory_channels: int
        context_channels: int
        backend: str


class _Dynamic:
    """A field of a cell's dynamics as an attribute of the cell, to be read and set."""

    def __set_name__(self, owner: type[Cell], name: str) -> None:
        self.name = name

    def __get__(self, cell: Cell | None, owner: type[Cell]) -> Any:
        return self if cell is None else getattr(cell.dynamics, self.name)

    def __set__(self, cell: Cell, value: Any) -> None:
        cell.dynamics = replace(cell.dynamics, **{self.name: value})


class Cell(Rebuildable):
    r"""A small network that sits on every node: it perceives the neighbourhood and says how its state changes.

    .. math::
        z_i &= \mathrm{perceive}(x)_i \\
        x_i &\leftarrow x_i + m_i \, \epsilon \, \mathrm{update}(x, z)_i

    A cell of your own is a subclass with the two halves of an update, :meth:`perceive` and :meth:`update`; it has a
    ``neighbour_sum``, a :class:`~cellgraph.nn.NeighbourSum`, for the first. Rollouts, checkpointing, compilation,
    random updates, pools and pictures come with it.

    Args:
        lattice: The lattice, or other graph, that the cells sit on.
        channels: Channels of the state, the memory included.
        memory_channels: How many channels, the last ones, outlive a rollout.
        context_channels: Width of what cells are given beside their state, see :meth:`forward`.
        backend: Backend of the neighbour sums, see :class:`~cellgraph.nn.NeighbourSum`.
        step_size, fire_rate, always_random, order, alive_channel, alive_threshold: When cells update and which of them
            live, see :class:`~cellgraph.nn.dynamics.Dynamics`.

    Shapes:
        - **x:** ``[batch, num_nodes, channels]``
        - **output:** ``[batch, num_nodes, channels]``, in the dtype of ``x``

    Raises:
        ValueError: If a width, rate, channel or name is out of range.

    Example:
        >>> class Heat(Cell):
        ...     def perceive(self, x, context=None):
        ...         weight = x.new_ones(self.lattice.num_directions + 1, 1, self.channels)
        ...         return self.neighbour_sum(x, weight) / len(weight)
        ...
        ...     def update(self, x, perceived, context=None):
        ...         return perceived - x
        >>> from cellgraph import Lattice
        >>> Heat(Lattice((3,), boundary="periodic"), 1)(torch.tensor([[[3.0], [0.0], [0.0]]])).flatten()
        tensor([1., 1., 1.])
    """

    step_size, fire_rate, always_random = _Dynamic(), _Dynamic(), _Dynamic()
    order, alive_channel, alive_threshold = _Dynamic(), _Dynamic(), _Dynamic()

    colour_masks: Tensor

    @plain_numbers
    @hands_on(Dynamics)
    def __init__(
        self,
        lattice: Graph,
        channels: int,
        *,
        memory_channels: int = 0,
        context_channels: int = 0,
        backend: str = AUTO,
        **dynamics: Unpack[DynamicsOptions],
    ) -> None:
        if not isinstance(lattice, Graph):
            raise ValueError(f"lattice must be a Lattice or another Graph, got {lattice!r:.80}")
        super().__init__(lattice, backend=backend)
        if channels < 1:
            raise ValueError(f"channels must be positive, got {channels}")
        if not 0 <= memory_channels < channels:
            raise ValueError(f"memory_channels must leave a channel of the {channels} free, got {memory_channels}")
        if context_channels < 0:
            raise ValueError(f"context_channels must not be negative, got {context_channels}")
        self.channels, self.memory_channels, self.context_channels = channels, memory_channels, context_channels
        self.dynamics = Dynamics(**dynamics)

    @property
    def dynamics(self) -> Dynamics:
        """When cells update and which of them live; what is set must fit the cell."""
        return self._dynamics

    @dynamics.setter
    def dynamics(self, dynamics: Dynamics) -> None:
        channel = dynamics.alive_channel
        if channel is not None and not 0 <= channel < self.channels:
            raise ValueError(f"alive_channel must be one of the {self.channels} channels, got {channel}")
        if dynamics.order == "sequential" and not hasattr(self, "colour_masks"):
            colours = self.lattice.colours()
            masks = colours == torch.arange(int(colours.max()) + 1)[:, None]
            self.register_buffer("colour_masks", masks[:, :, None].to(self.device), persistent=False)
        self._dynamics = dynamics

    @property
    def hears_all(self) -> bool:
        """Whether a cell hears all others in one step, and not its neighbours alone: never here."""
        return False

    def perceive(self, x: Tensor, context: Tensor | None = None) -> Any:
        """What the cells take in of their neighbours.

        Args:
            x: State, ``[batch, num_nodes, channels]``.
            context: See :meth:`forward`.

        Returns:
            Whatever :meth:`update` wants.
        """
        raise NotImplementedError

    def update(self, x: Tensor, perceived: Any, context: Tensor | None = None) -> Tensor:
        """The change of the state, ``[batch, num_nodes, channels]``.

        Args:
            x: State, ``[batch, num_nodes, channels]``.
            perceived: What :meth:`perceive` returned.
            context: See :meth:`forward`.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, update_mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """One step of all the cells.

        Args:
            x: State of the cells, ``[batch, num_nodes, channels]``.
            update_mask: Which cells update, ``[batch, num_nodes, 1]``; all of them, at the expected
                ``fire_rate``, when absent.
            context: What cells are given beside their state and do not change: a goal or task for all of them,
                ``[batch, 1, context_channels]``, or a substrate or a clamped input, one for each,
                ``[batch or 1, num_nodes, context_channels]``.

        Raises:
            ValueError: If the state has other cells or channels, or the context does not fit.
        """
        if not torch.compiler.is_compiling():
            self.check_state(x)
            self.check_context(x, context)
            self.settle(x, context=context is not None)
        for share in self._shares(x, update_mask):
            change = self.update(x, self.perceive(x, context), context)
            after = x + (change * share).to(x.dtype)
            x = after if self.alive_channel is None else after * (self.alive(x) & self.alive(after))
        return x

    def alive(self, x: Tensor) -> Tensor:
        """Whether each cell, or a neighbour, is above the threshold, ``[batch, num_nodes, 1]``."""
        return self.dynamics.alive(x, self.edge_index)

    def check_state(self, x: Tensor) -> None:
        """Refuse a state of other cells or channels.

        Raises:
            ValueError: If it is not ``[batch, num_nodes, channels]``.
        """
        wanted = [self.lattice.num_nodes, self.channels]
        if x.dim() != 3 or list(x.shape[1:]) != wanted:
            raise ValueError(f"the state must be [batch, {wanted[0]}, {wanted[1]}], got {list(x.shape)}")

    def check_context(self, x: Tensor, context: Tensor | None) -> None:
        """Refuse a context that does not fit.

        Args:
            x: State of all the cells or of some, ``[batch, ..., channels]``.
            context: See :meth:`forward`, for all the cells.

        Raises:
            ValueError: If it is missing, is not wanted, or has another shape.
        """
        num_nodes = self.lattice.num_nodes
        if context is None:
            if self.context_channels:
                raise ValueError(f"context must be [batch, 1 or {num_nodes}, {self.context_channels}], got none")
            return
        fits = context.dim() == 3 and context.size(0) in (1, x.size(0)) and context.size(1) in (1, num_nodes)
        if not fits or context.size(2) != self.context_channels:
            wanted = [x.size(0), f"1 or {num_nodes}", self.context_channels]
            raise ValueError(f"context must be {wanted}, got {list(context.shape)}")

    @property
    def free_channels(self) -> int:
        """How many channels, the first ones, do not outlive a rollout."""
        return self.channels - self.memory_channels

    @property
    def updates_at_random(self) -> bool:
        """Whether each cell of each sample draws for itself whether it updates."""
        return self.fire_rate < 1.0 and (self.training or self.always_random)

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters, by part of the cell."""
        return {"cell": sum(parameter.numel() for parameter in self.parameters())}

    def extra_repr(self) -> str:
        return f"{self.lattice}, " + ", ".join(f"{name}={value}" for name, value in self.config().items())

    def _shares(self, x: Tensor, update_mask: Tensor | None) -> Iterator[Tensor | float]:
        """What share of the update the cells take, for each part of a step."""
        share = self.dynamics.share(update_mask)
        if self.order == "synchronous":
            yield share
        else:
            for mask in self.colour_masks:
                yield mask.to(x.dtype) * share
