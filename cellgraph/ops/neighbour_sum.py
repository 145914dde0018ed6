"""The weighted sum over a cell's neighbourhood: one meaning, several backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cellgraph.graph import Graph
from cellgraph.lattice import Lattice
from cellgraph.ops.backend import Backend, Case
from cellgraph.ops.registry import AUTO, check_backend, default_backend, find_backend, reference_backend
from cellgraph.ops.transforms import is_transformed
from cellgraph.ops.triton.stencil import neighbour_table

if TYPE_CHECKING:
    from cellgraph.ops.edges import EdgeSum


class NeighbourSum(nn.Module):
    r"""A weighted sum over every cell's neighbourhood, the centre included, as a message-passing layer computes it.

    .. math::
        y_i = a_{K,i} \odot x_i + \sum_{k=0}^{K-1} a_{k,i} \odot x_{i + o_k}

    where the offsets :math:`o_k` are the lattice's directions. Neighbours that do not exist contribute zero. On a
    :class:`~cellgraph.Graph` that is no lattice the second sum runs over the edges that lead to the cell, each with the
    weight of its direction and its own fixed factor, by ``scatter`` or ``segment``. The backends differ in speed alone:

    ============ ====================================================================================
    ``scatter``  a :class:`~torch_geometric.nn.MessagePassing` layer; any graph; the reference
    ``segment``  the same messages, summed by ``torch_scatter.segment_csr``, where that is installed
    ``stencil``  shifted slices of the full grid; made to be compiled
    ``conv``     a depthwise convolution over the full grid; weights shared by all cells only
    ``fused``    ``stencil``, but a :class:`~cellgraph.nn.GMLPCell` on a CPU takes whole steps by one C++ operator
    ``triton``   Triton kernels for GPUs, where triton is installed
    ``auto``     ``stencil``, on other graphs ``scatter``; once a cell's :meth:`~cellgraph.nn.Cell.compile_step`
                 was called, what a short trial of all that fit finds to be the fastest
    ============ ====================================================================================

    Args:
        lattice: The lattice, or other graph, to sum over.
        backend: One of the table's names.

    Shapes:
        - **x:** ``[batch, num_nodes, channels]``
        - **weight:** ``[num_directions + 1, 1 or num_nodes, channels]``
        - **output:** ``[batch, num_nodes, channels]``, in the wider of the two dtypes: float32 weights make the sum
          accumulate in float32 under autocast.

    Raises:
        ValueError: If the backend is unknown, needs a lattice and there is another graph, is ``segment`` without
            torch_scatter, or ``triton`` without triton or a GPU (``TRITON_INTERPRET=1`` set before the start runs it
            anywhere, slowly) or on a lattice where an offset's opposite is none.

    Example:
        >>> ring = NeighbourSum(Lattice((4,), boundary="periodic"))
        >>> ring(torch.tensor([[[1.0], [0.0], [0.0], [0.0]]]), torch.tensor([[[0.5]], [[0.5]], [[0.0]]])).flatten()
        tensor([0.0000, 0.5000, 0.0000, 0.5000])
    """

    edge_index: Tensor
    edge_direction: Tensor
    edge_pointer: Tensor
    edge_weight: Tensor | None
    grid_index: Tensor
    neighbours: Tensor

    def __init__(self, lattice: Graph, *, backend: str = AUTO) -> None:
        super().__init__()
        self.lattice: Any = lattice
        #: The message-passing layer, where it is needed.
        self.edges: EdgeSum | None = None
        self.backend = backend
        per_target = torch.bincount(lattice.edge_index[1], minlength=lattice.num_nodes)
        pointer = torch.cat([torch.zeros(1, dtype=torch.long), per_target.cumsum(0)])
        self.register_buffer("edge_index", lattice.edge_index, persistent=False)
        self.register_buffer("edge_direction", lattice.edge_direction, persistent=False)
        self.register_buffer("edge_pointer", pointer, persistent=False)
        self.register_buffer("edge_weight", lattice.edge_weight, persistent=False)
        if isinstance(lattice, Lattice):
            self.periodic = [kind == "periodic" for kind in lattice.boundary]
            self.register_buffer("grid_index", lattice.grid_index, persistent=False)
            self.register_buffer("neighbours", neighbour_table(lattice), persistent=False)

    @property
    def backend(self) -> str:
        """Name of the backend that was asked for, ``auto`` if none; setting it undoes any choice."""
        return self._backend

    @backend.setter
    def backend(self, name: str) -> None:
        check_backend(name, Case(self.lattice))
        self._backend = name
        self._take(default_backend(self.lattice) if name == AUTO else find_backend(name))

    @property
    def chosen(self) -> Backend:
        """The backend that sums: the one asked for, or what was put here where the choice was left open."""
        return find_backend(self._chosen)

    @chosen.setter
    def chosen(self, backend: Backend) -> None:
        check_backend(backend.name, Case(self.lattice))
        self._take(backend)

    @property
    def running(self) -> Backend:
        """The backend that would sum now: the chosen one, or under a functional transform that it knows nothing of the
        reference."""
        chosen = self.chosen
        return reference_backend() if chosen.is_opaque and is_transformed() else chosen

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Sum ``x`` over the neighbourhoods.

        Args:
            x: State of the cells.
            weight: Weights by direction, the centre last; one for all cells or one for each.

        Raises:
            ValueError: If a shape does not fit the lattice, or ``conv`` is given a weight for each cell.
        """
        if not torch.compiler.is_compiling():
            self._check(x, weight)
        return self.running.run(self, x, weight)

    def along_edges(self, x: Tensor, weight: Tensor) -> Tensor:
        """The sum edge by edge, by a message-passing layer of PyTorch Geometric."""
        return weight[-1] * x + self._edge_sum()(x, self.edge_index, self.weight_by_edge(weight))

    def weight_by_edge(self, weight: Tensor) -> Tensor:
        """The weight of what each edge carries, ``[num_edges, channels]``."""
        by_edge = weight[self.edge_direction, 0 if weight.size(1) == 1 else self.edge_index[1]]
        return by_edge if self.edge_weight is None else by_edge * self.edge_weight[:, None].to(weight.dtype)

    def __repr__(self) -> str:
        return f"NeighbourSum(backend={self.backend}, chosen={self.chosen.name})"

    def _take(self, backend: Backend) -> None:
        self._chosen = backend.name
        if backend.walks_edges:
            self._edge_sum()

    def _edge_sum(self) -> EdgeSum:
        if self.edges is None:
            from cellgraph.ops.edges import EdgeSum

            self.edges = EdgeSum()
        return self.edges

    def _check(self, x: Tensor, weight: Tensor) -> None:
        nodes, directions = self.lattice.num_nodes, self.lattice.num_directions
        if x.dim() != 3 or x.size(1) != nodes:
            raise ValueError(f"x must be [batch, {nodes}, channels], got {list(x.shape)}")
        fits = weight.dim() == 3 and weight.size(0) == directions + 1 and weight.size(1) in (1, nodes)
        if not fits or weight.size(2) != x.size(2):
            raise ValueError(f"weight must be [{directions + 1}, 1 or {nodes}, {x.size(-1)}], got {list(weight.shape)}")
