"""The weighted sum over a cell's neighbourhood: one meaning, several backends."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import MessagePassing

from cellgraph.graph import Graph
from cellgraph.lattice import Lattice
from cellgraph.ops.segment import has_torch_scatter, segment_sum
from cellgraph.ops.stencil import pad, stencil
from cellgraph.ops.triton.stencil import neighbour_table, triton_obstacle, triton_sum

BACKENDS = ("auto", "scatter", "segment", "stencil", "conv", "fused", "triton")


class NeighbourSum(MessagePassing):
    r"""A weighted sum over every cell's neighbourhood, the centre included, as a message-passing layer.

    .. math::
        y_i = a_{K,i} \odot x_i + \sum_{k=0}^{K-1} a_{k,i} \odot x_{i + o_k}

    where the offsets :math:`o_k` are the lattice's directions. Neighbours that do not exist contribute zero. On a
    :class:`~cellgraph.Graph` that is no lattice the second sum runs over the edges that lead to the cell, each with the
    weight of its direction and its own fixed factor, by ``scatter`` or ``segment``. The backends differ in speed alone:

    ============ ====================================================================================
    ``scatter``  :class:`~torch_geometric.nn.MessagePassing` ``propagate``; any graph; the reference
    ``segment``  the same messages, summed by ``torch_scatter.segment_csr``, where that is installed
    ``stencil``  shifted slices of the full grid; made to be compiled
    ``conv``     a depthwise convolution over the full grid; weights shared by all cells only
    ``fused``    ``stencil``, but a :class:`~cellgraph.nn.GMLPCell` on a CPU takes whole steps by one C++ operator
    ``triton``   Triton kernels for GPUs, where triton is installed; checked in Triton's interpreter and
                 compiled for a GPU, but run and timed on none yet
    ``auto``     ``stencil``, on other graphs ``scatter``; ``fused`` once a cell's
                 :meth:`~cellgraph.nn.GMLPCell.use_fused` was called
    ============ ====================================================================================

    Args:
        lattice: The lattice, or other graph, to sum over.
        backend: One of the table's names.

    Raises:
        ValueError: If the backend is unknown, needs a lattice and there is another graph, is ``segment`` without
            torch_scatter, or ``triton`` without triton or a GPU (``TRITON_INTERPRET=1`` set before the start runs it
            anywhere, slowly) or on a lattice where an offset's opposite is none.
    """

    edge_index: Tensor
    edge_direction: Tensor
    edge_pointer: Tensor
    edge_weight: Tensor | None
    grid_index: Tensor
    neighbours: Tensor

    def __init__(self, lattice: Graph, *, backend: str = "auto") -> None:
        super().__init__(aggr="add", node_dim=-2)
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {BACKENDS}, got {backend!r}")
        if backend == "segment" and not has_torch_scatter():
            raise ValueError("backend 'segment' needs torch_scatter: pip install cellgraph[scatter]")
        if backend == "triton" and (obstacle := triton_obstacle()):
            raise ValueError(obstacle)
        if not isinstance(lattice, Lattice) and backend not in ("auto", "scatter", "segment"):
            raise ValueError(f"backend {backend!r} needs a Lattice, a {lattice} is summed by 'scatter' or 'segment'")
        if backend == "triton" and isinstance(lattice, Lattice) and not lattice.is_symmetric:
            raise ValueError(f"backend 'triton' needs the opposite of each offset, got {lattice.offsets}")
        self.lattice: Any = lattice
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

    def neighbour_sum(self, x: Tensor, weight: Tensor) -> Tensor:
        """Sum ``x`` over the neighbourhoods.

        Args:
            x: State of the cells.
            weight: Weights by direction, the centre last; one for all cells or one for each.

        Shapes:
            - **x:** ``[batch, num_nodes, channels]``
            - **weight:** ``[num_directions + 1, 1 or num_nodes, channels]``
            - **output:** ``[batch, num_nodes, channels]``, in the wider of the two dtypes: float32 weights make the
              sum accumulate in float32 under autocast.

        Raises:
            ValueError: If a shape does not fit the lattice, or ``conv`` is given a weight for each cell.
        """
        if not torch.compiler.is_compiling():
            self._check(x, weight)
        if self.backend == "scatter" or (self.backend == "auto" and not isinstance(self.lattice, Lattice)):
            # propagate_type: (x: Tensor, weight: Tensor)
            return weight[-1] * x + self.propagate(self.edge_index, x=x, weight=self._edge_weight(weight))
        if self.backend == "segment":
            messages = self._edge_weight(weight) * x.index_select(-2, self.edge_index[0])
            return weight[-1] * x + segment_sum(messages, self.edge_pointer)
        if self.backend == "triton":
            return triton_sum(x, weight, self.neighbours, False, torch.promote_types(x.dtype, weight.dtype))
        return self._conv(x, weight) if self.backend == "conv" else self._stencil(x, weight)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """What an edge carries: the neighbour's state times the weight of the direction."""
        return weight * x_j

    def _edge_weight(self, weight: Tensor) -> Tensor:
        by_edge = weight[self.edge_direction, 0 if weight.size(1) == 1 else self.edge_index[1]]
        return by_edge if self.edge_weight is None else by_edge * self.edge_weight[:, None].to(weight.dtype)

    def _stencil(self, x: Tensor, weight: Tensor) -> Tensor:
        shape = self.lattice.shape
        grid_weight = self._to_grid(weight) if weight.size(1) > 1 else weight
        grid_weight = grid_weight.reshape(len(weight), *(shape if weight.size(1) > 1 else [1] * len(shape)), -1)
        grid = self._to_grid(x).reshape(x.size(0), *shape, -1)
        return self._from_grid(stencil(grid, grid_weight, self.lattice.offsets, self.periodic).flatten(1, -2))

    def _conv(self, x: Tensor, weight: Tensor) -> Tensor:
        if weight.size(1) != 1:
            raise ValueError("backend 'conv' shares its weights between all cells, use 'stencil' for sharing by cell")
        dim, channels, radius = self.lattice.dim, x.size(-1), self.lattice.radius
        side = 2 * radius + 1
        moves = torch.tensor([*self.lattice.offsets, (0,) * dim], device=x.device)
        place = ((moves + radius) * side ** torch.arange(dim - 1, -1, -1, device=x.device)).sum(1)
        kernel = weight.new_zeros(side**dim, channels).index_copy(0, place, weight[:, 0])
        kernel = kernel.T.reshape(channels, 1, *(side,) * dim)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[dim - 1]
        grid = self._to_grid(x).reshape(x.size(0), *self.lattice.shape, channels).to(kernel.dtype)
        summed = convolve(pad(grid, self.periodic, radius).movedim(-1, 1), kernel, groups=channels)
        return self._from_grid(summed.flatten(2).transpose(1, 2))

    def _to_grid(self, x: Tensor) -> Tensor:
        """Rows of the nodes ``[:, num_nodes, channels]`` as rows of the full grid, zero where no cell is."""
        if self.lattice.is_full:
            return x
        return x.new_zeros(x.size(0), self.lattice.mask.numel(), x.size(-1)).index_copy(1, self.grid_index, x)

    def _from_grid(self, x: Tensor) -> Tensor:
        return x if self.lattice.is_full else x.index_select(1, self.grid_index)

    def _check(self, x: Tensor, weight: Tensor) -> None:
        nodes, directions = self.lattice.num_nodes, self.lattice.num_directions
        if x.dim() != 3 or x.size(1) != nodes:
            raise ValueError(f"x must be [batch, {nodes}, channels], got {list(x.shape)}")
        if weight.dim() != 3 or weight.size(0) != directions + 1 or weight.size(1) not in (1, nodes):
            raise ValueError(f"weight must be [{directions + 1}, 1 or {nodes}, {x.size(-1)}], got {list(weight.shape)}")
