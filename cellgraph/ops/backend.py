"""The backend: one way to compute the neighbour sum, which says what it needs and what it fits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from cellgraph.graph import Graph

if TYPE_CHECKING:
    from cellgraph.ops.neighbour_sum import NeighbourSum


@dataclass(frozen=True)
class Case:
    """What is to be summed, as far as it is known.

    Attributes:
        graph: The lattice or other graph.
        shared: Whether all cells share their weights.
        dtype: Dtype of the state; ``None`` where it is not known yet.
        device: Where the state lies; ``None`` where that is not known yet.
    """

    graph: Graph
    shared: bool = True
    dtype: torch.dtype | None = None
    device: torch.device | None = None


class Backend(ABC):
    """One way to compute the neighbour sum; all of them mean what :class:`~cellgraph.ops.scatter.Scatter` computes."""

    #: What it is called.
    name: ClassVar[str]
    #: Whether it sums by a message-passing layer, which is then made ready.
    walks_edges: ClassVar[bool] = False
    #: Whether its operators know nothing of functional transforms, so that the reference stands in for it there.
    is_opaque: ClassVar[bool] = False
    #: Whether it brings an operator that takes whole steps of a cell, of which torch.compile would make nothing.
    takes_steps: ClassVar[bool] = False
    #: Whether a step that sums with it is to be compiled.
    compiles: ClassVar[bool] = True

    def needs(self) -> str | None:
        """What is missing here, a package or a device or a compiler: a line that starts with "needs", or ``None``."""
        return None

    def fits(self, case: Case) -> str | None:
        """Why it does not fit a case: the rest of a sentence that starts with its name, or ``None``."""
        return None

    def load(self) -> bool:
        """Make ready what it brings, such as a library that is built at its first use; whether that went well. If not,
        a warning says why."""
        return True

    @property
    def is_simulated(self) -> bool:
        """Whether it only shows here what it would compute elsewhere, far too slowly to be anyone's choice."""
        return False

    @abstractmethod
    def run(self, layer: NeighbourSum, x: Tensor, weight: Tensor) -> Tensor:
        """Sum ``x`` over the neighbourhoods, see :class:`NeighbourSum`."""

    def gated_step(self, channels: int, hidden: int) -> Callable[..., Tensor] | None:
        """What a :class:`~cellgraph.nn.GMLPCell` of such widths does after its first layer as one operator, with the
        arguments of :func:`cellgraph.ops.triton.gate.gated_step`; ``None`` where there is none."""
        return None
