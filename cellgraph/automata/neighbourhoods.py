"""Neighbourhoods: a graph whose rollout does not fit the memory, a few cells and all that they can hear at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from cellgraph.generators import own_generators
from cellgraph.graph import Graph
from cellgraph.nn import Cell
from cellgraph.numbers import plain_numbers

#: Parameters with a row for each cell.
BY_NODE = ("position",)
SAMPLERS = ("search", "loader")


@dataclass(frozen=True)
class Neighbourhood:
    """Some cells, the seeds, and all those within some hops of them.

    Attributes:
        graph: The graph of these cells.
        nodes: Their numbers in the whole graph, ``[num_nodes]``.
        seeds: Which of them are the seeds, ``[num_seeds]``.
        hops: How many hops they reach.
    """

    graph: Graph
    nodes: Tensor
    seeds: Tensor
    hops: int


class Neighbourhoods:
    """All cells of a graph, batch by batch, each batch with all that it can hear in some steps.

    After as many steps on its neighbourhood as that has hops, the seeds have the states that they have on the whole
    graph, and so have the gradients: no neighbour is left out, unlike in the sampling of `Hamilton et al. 2017
    <https://arxiv.org/abs/1706.02216>`_. What is wrong at the rim does not come as far as the seeds.

    Args:
        graph: The graph, whose edges are in memory.
        hops: How far a neighbourhood reaches.
        batch_size: Seeds in each.
        seeds: The cells that are seeds, their numbers in their order, ``[num_seeds]``, or a mask, ``[num_nodes]``; all
            by default. Seeds that are near one another share what they hear: the parts of a partition, one after the
            other, cost least.
        sampler: ``"search"``: PyTorch Geometric's ``k_hop_subgraph``, which looks at all edges for each hop;
            ``"loader"``: its ``NeighborLoader``, which needs pyg-lib or torch-sparse.

    Raises:
        ValueError: If a number or a seed is out of range, there is no seed, or a name is unknown or not installed.

    Example:
        >>> from cellgraph import Lattice
        >>> near = next(iter(Neighbourhoods(Lattice((100,)), 2, batch_size=10)))
        >>> near.nodes.tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    """

    @plain_numbers
    def __init__(
        self, graph: Graph, hops: int, *, batch_size: int, seeds: Tensor | None = None, sampler: str = "search"
    ) -> None:
        if hops < 0 or batch_size < 1:
            raise ValueError(f"hops must not be negative and batch_size be positive, got {hops} and {batch_size}")
        if sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {SAMPLERS}, got {sampler!r}")
        if sampler == "loader" and not (find_spec("pyg_lib") or find_spec("torch_sparse")):
            raise ValueError("sampler='loader' needs pyg-lib or torch-sparse, and neither is installed: use 'search'")
        self.graph, self.hops, self.batch_size = graph, hops, batch_size
        self.seeds = torch.arange(graph.num_nodes) if seeds is None else _numbers(seeds, graph.num_nodes)
        self.sampler = sampler

    def __len__(self) -> int:
        return -(-len(self.seeds) // self.batch_size)

    def __iter__(self) -> Iterator[Neighbourhood]:
        return self._loaded() if self.sampler == "loader" and self.hops else self._searched()

    def _loaded(self) -> Iterator[Neighbourhood]:
        from torch_geometric.loader import NeighborLoader

        data = self.graph.to_data()
        # It would be taken along, and is not wanted.
        del data.pos
        everyone = [-1] * self.hops
        for batch in NeighborLoader(data, everyone, input_nodes=self.seeds, batch_size=self.batch_size):
            yield self._neighbourhood(batch.n_id, torch.arange(batch.batch_size), batch.edge_index, batch.e_id)

    def _searched(self) -> Iterator[Neighbourhood]:
        from torch_geometric.utils import k_hop_subgraph

        for seeds in self.seeds.split(self.batch_size):
            nodes, edge_index, places, kept = k_hop_subgraph(
                seeds, self.hops, self.graph.edge_index, relabel_nodes=True, num_nodes=self.graph.num_nodes
            )
            yield self._neighbourhood(nodes, places, edge_index, kept.nonzero().squeeze(1))

    def _neighbourhood(self, nodes: Tensor, seeds: Tensor, edge_index: Tensor, edges: Tensor) -> Neighbourhood:
        whole = self.graph
        graph = Graph(
            edge_index,
            len(nodes),
            edge_direction=whole.edge_direction[edges],
            num_directions=whole.num_directions,
            edge_weight=None if whole.edge_weight is None else whole.edge_weight[edges],
            positions=whole.positions[nodes],
        )
        return Neighbourhood(graph, nodes, seeds, self.hops)


def rollout_near(
    cell: Cell,
    near: Neighbourhood,
    x: Tensor,
    *,
    num_steps: int,
    context: Tensor | None = None,
    masks: Tensor | None = None,
) -> Tensor:
    """The states of the seeds of a neighbourhood after some steps, exactly those that they have on the whole graph.

    Args:
        cell: The cell, on the whole graph.
        near: The neighbourhood.
        x: States of the whole graph at the start, ``[batch, num_nodes, channels]``; they may lie in a file, see
            :func:`torch.from_file`.
        num_steps: Steps.
        context: See :meth:`Cell.forward <cellgraph.nn.Cell.forward>`, for the whole graph.
        masks: Which cells of the whole graph update at each step, ``[num_steps, batch, num_nodes, 1]``: a cell that is
            in several neighbourhoods must do the same in each.

    Shapes:
        - **output:** ``[batch, num_seeds, channels]``

    Raises:
        ValueError: If cells update at random and there are no masks, or in sequence, or hear all others, a weight
            belongs to a cell or a layer, something about the cell needs a lattice, as filters do, the neighbourhood
            does not reach as far as the seeds hear, or something is of another size than the whole graph.
    """
    nodes = cell.lattice.num_nodes
    if num_steps < 0:
        raise ValueError(f"num_steps must not be negative, got {num_steps}")
    for name, given, fits in (
        ("x", x, x.shape[1:] == (nodes, cell.channels)),
        ("context", context, context is None or (context.dim() == 3 and context.size(1) in (1, nodes))),
        ("masks", masks, masks is None or masks.shape == (num_steps, len(x), nodes, 1)),
    ):
        if given is not None and not fits:
            raise ValueError(f"{name} must be of all {nodes} cells of the whole graph, got {list(given.shape)}")
    if cell.order != "synchronous" or cell.hears_all:
        raise ValueError(
            "cells that update in sequence, or perceive maxima of all, hear the whole graph in a step: "
            "order must be synchronous and perception local"
        )
    if cell.updates_at_random and masks is None:
        raise ValueError(
            "cells that update at random differ from one neighbourhood to the next: give the masks of the whole graph"
        )
    # A cell that lives by its neighbours' new states hears two hops in a step.
    heard = num_steps * (2 if cell.alive_channel is not None else 1)
    if heard > near.hops:
        raise ValueError(f"in {num_steps} steps a cell hears {heard} hops far, the neighbourhood has {near.hops}")
    try:
        with own_generators():
            there = cell.on(near.graph)
    except ValueError as error:
        raise ValueError(
            f"the cell must be one that a neighbourhood, a graph and no lattice, can have: {error}"
        ) from error
    there = there.to(cell.device, cell.dtype).train(cell.training)
    weights = _weights(cell, there, near.nodes)
    own = near.nodes.to(x.device)
    x = x.index_select(1, own).to(cell.device)
    if context is not None:
        context = context if context.size(1) == 1 else context.index_select(1, near.nodes.to(context.device))
        context = context.to(cell.device)
    for step in range(num_steps):
        mask = None if masks is None else masks[step].index_select(1, near.nodes.to(masks.device)).to(x.device)
        x = functional_call(there, weights, (x, mask, context))
    return x.index_select(1, near.seeds.to(x.device))


def _numbers(seeds: Any, num_nodes: int) -> Tensor:
    """The numbers of seeds, which may be given as a mask."""
    seeds = torch.as_tensor(seeds)
    if seeds.dtype == torch.bool and seeds.shape == (num_nodes,) and seeds.any():
        return seeds.nonzero().squeeze(1)
    whole = not (seeds.dtype == torch.bool or seeds.is_floating_point() or seeds.is_complex())
    if seeds.dim() != 1 or not len(seeds) or not whole or not bool(((seeds >= 0) & (seeds < num_nodes)).all()):
        raise ValueError(f"seeds must be numbers of {num_nodes} cells, or a mask of them, got {seeds}")
    return seeds


def _weights(cell: Cell, there: Cell, nodes: Tensor) -> dict[str, Tensor]:
    """The weights of a cell for some of the nodes."""
    weights: dict[str, Tensor] = {}
    wanted = dict(there.named_parameters())
    for name, parameter in cell.named_parameters():
        by_node = name.rpartition(".")[2] in BY_NODE
        weights[name] = parameter[nodes.to(parameter.device)] if by_node else parameter
        if weights[name].shape != wanted[name].shape or getattr(cell, "sharing", "shared") != "shared":
            raise ValueError(
                f"all cells must have the same weights, but {name} is {[*parameter.shape]} on {cell.lattice}"
            )
    return weights
