"""The graph: cells and who hears whom, without a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch_geometric.data import Data

from cellgraph.numbers import plain_numbers


class Graph:
    r"""A static directed graph of cells, any graph at all; a :class:`~cellgraph.Lattice` is one that is a grid.

    Every edge has a direction, a number from 0 to K - 1: a cell weighs its neighbours by direction. Where nothing
    tells neighbours apart, as in a triangulation, all edges are of direction 0 and a cell hears their sum, or mean.

    Args:
        edge_index: Sources and targets of the edges, ``[2, num_edges]``.
        num_nodes: Number of cells, by default one more than the greatest in ``edge_index``.
        edge_direction: Direction of each edge, ``[num_edges]``; 0 for all by default.
        num_directions: Number of directions K, by default one more than the greatest in ``edge_direction``.
        edge_weight: A fixed factor of what each edge carries, ``[num_edges]``; or ``"mean"``: one over the number of
            edges of its direction that lead to the same cell, so that a neighbour sum is a mean.
        positions: Places of the cells, for pictures, ``[num_nodes, dim]``.

    Raises:
        ValueError: If a shape or an index does not fit.

    Example:
        >>> ring = Graph(torch.tensor([[1, 2, 0], [0, 1, 2]]))
        >>> ring.num_nodes, ring.num_directions
        (3, 1)
        >>> ring.hops(torch.tensor([True, False, False]))
        tensor([0, 2, 1])
    """

    @plain_numbers
    def __init__(
        self,
        edge_index: Tensor,
        num_nodes: int | None = None,
        *,
        edge_direction: Tensor | None = None,
        num_directions: int | None = None,
        edge_weight: Tensor | str | None = None,
        positions: Tensor | None = None,
    ) -> None:
        if not _has_numbers(edge_index, 2) or edge_index.size(0) != 2:
            raise ValueError(f"edge_index must be integers [2, num_edges], got {_told(edge_index)}")
        for name, count in (("num_nodes", num_nodes), ("num_directions", num_directions)):
            if count is not None and count > _MOST:
                raise ValueError(f"{name} must be at most {_MOST}, got {count}")
        # Whatever width the numbers came in: narrow ones would overflow, or be taken for a mask.
        edge_index = edge_index.long()
        edges = edge_index.size(1)
        most = int(edge_index.max()) + 1 if edges else 0
        #: Number of cells.
        self.num_nodes = most if num_nodes is None else num_nodes
        if self.num_nodes < max(most, 1) or (edges and int(edge_index.min()) < 0):
            raise ValueError(f"edge_index must hold cells 0 to {self.num_nodes - 1}, got up to {most - 1}")
        direction = torch.zeros(edges, dtype=torch.long) if edge_direction is None else edge_direction
        weight: Any = None if isinstance(edge_weight, str) else edge_weight
        for name, value, whole in (("edge_direction", direction, True), ("edge_weight", weight, False)):
            if value is not None and not (_has_numbers(value, 1, whole=whole) and len(value) == edges):
                noun = "integer" if whole else "number"
                raise ValueError(f"{name} must be one {noun} for each of the {edges} edges, got {_told(value)}")
        if positions is not None and not (_has_numbers(positions, 2, whole=False) and len(positions) == self.num_nodes):
            raise ValueError(f"positions must be [{self.num_nodes}, dim], got {_told(positions)}")
        direction = direction.long()
        # By target, and by direction within a target: sums over an interval of the edges are sums over a cell's.
        order = np.lexsort((direction.numpy(), edge_index[1].numpy()))
        #: ``[2, num_edges]`` sources and targets, sorted by target and direction.
        self.edge_index: Tensor = edge_index[:, order]
        #: ``[num_edges]`` direction of each edge.
        self.edge_direction: Tensor = direction[order]
        least = int(direction.max()) + 1 if edges else 1
        #: Number of directions K.
        self.num_directions = least if num_directions is None else num_directions
        if self.num_directions < least or (edges and int(direction.min()) < 0):
            raise ValueError(f"edge_direction must be 0 to {self.num_directions - 1}, got up to {least - 1}")
        #: ``[num_edges]`` fixed factors of what the edges carry, or ``None``.
        self.edge_weight: Tensor | None = None if weight is None else weight[order]
        if isinstance(edge_weight, str):
            if edge_weight != "mean":
                raise ValueError(f"edge_weight must be numbers or 'mean', got {edge_weight!r}")
            # Directions by the number that is used, not by the number that there may be: the product must fit.
            kind = self.edge_index[1] * least + self.edge_direction
            self.edge_weight = 1.0 / kind.bincount()[kind].to(torch.get_default_dtype())
        #: ``[num_nodes, dim]`` places of the cells.
        self.positions: Tensor = torch.empty(self.num_nodes, 0) if positions is None else positions

    @property
    def num_edges(self) -> int:
        """Number of directed edges."""
        return self.edge_index.size(1)

    @property
    def layer(self) -> Tensor:
        """``[num_nodes]`` the layer of each cell: one for all."""
        return torch.zeros(self.num_nodes, dtype=torch.long)

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return 1

    @property
    def dim(self) -> int:
        """Number of dimensions of the places."""
        return self.positions.size(1)

    def node_mask(self, mask: Any, name: str = "nodes") -> Tensor:
        """A node mask as a tensor.

        Args:
            mask: A truth value for each cell, ``[num_nodes]``: a tensor, a NumPy array or a list.
            name: What it is called, for the error.

        Raises:
            ValueError: If it is none.
        """
        given = mask if isinstance(mask, Tensor) else np.asarray(mask)
        if given.dtype not in (torch.bool, np.bool_) or given.shape != (self.num_nodes,):
            raise ValueError(f"{name} must be a boolean mask [{self.num_nodes}], got {given.dtype} {list(given.shape)}")
        # A copy of an array: it may be read-only, or change.
        return given if isinstance(given, Tensor) else torch.from_numpy(given.copy())

    def hops(self, sources: Any) -> Tensor:
        """Graph distance of every cell from the nearest source cell.

        Args:
            sources: ``[num_nodes]`` node mask, see :meth:`node_mask`.

        Shapes:
            - **output:** ``[num_nodes]``, integer number of steps; ``-1`` where no path leads.

        Raises:
            ValueError: If the sources are no node mask.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import dijkstra

        starts = self.node_mask(sources, "sources").nonzero().flatten().numpy()
        if not len(starts):
            return torch.full((self.num_nodes,), -1)
        edges = coo_array((np.ones(self.num_edges), tuple(self.edge_index.numpy())), shape=(self.num_nodes,) * 2)
        distance = dijkstra(edges, unweighted=True, indices=starts, min_only=True)
        return torch.from_numpy(np.where(np.isfinite(distance), distance, -1)).long()

    def colours(self) -> Tensor:
        """Classes of cells that do not hear one another, by greedy colouring, the cells with most neighbours first.

        Shapes:
            - **output:** ``[num_nodes]``, the number of each cell's class.
        """
        import networkx

        graph: Any = networkx.Graph()
        graph.add_nodes_from(range(self.num_nodes))
        graph.add_edges_from(self.edge_index.T.tolist())
        colour = networkx.greedy_color(graph, strategy="largest_first")
        return torch.tensor([colour[node] for node in range(self.num_nodes)])

    def to_data(self) -> Data:
        """The graph as a :class:`torch_geometric.data.Data` with ``edge_index``, ``edge_direction`` and ``pos``."""
        # PyTorch Geometric brings its data sets along, several seconds of imports.
        from torch_geometric.data import Data

        return Data(
            edge_index=self.edge_index,
            edge_direction=self.edge_direction,
            edge_weight=self.edge_weight,
            pos=self.positions.to(torch.get_default_dtype()),
            num_nodes=self.num_nodes,
        )

    def __repr__(self) -> str:
        return f"Graph(num_nodes={self.num_nodes}, num_edges={self.num_edges}, num_directions={self.num_directions})"


#: As many cells or directions as there may be: their numbers are those of tensors' rows, with room for a product.
_MOST = 2**31 - 1


def _has_numbers(value: Any, dim: int, *, whole: bool = True) -> bool:
    """Whether it is a tensor of so many dimensions, and of integers where they must be whole."""
    return isinstance(value, Tensor) and value.dim() == dim and not (whole and _is_broken(value))


def _is_broken(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex() or value.dtype == torch.bool


def _told(value: Any) -> str:
    """What was given, for an error."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.80}"
