"""Graphs that are no grid, against networkx and sums written out."""

from __future__ import annotations

import networkx
import pytest
import torch

from cellgraph import Graph, Lattice
from cellgraph.nn import NeighbourSum
from cellgraph.ops import find_backend

EDGES = torch.tensor(list(networkx.gnp_random_graph(12, 0.3, seed=3, directed=True).edges)).T


def test_edges_are_sorted_by_target_and_direction_and_stay_the_same_edges():
    direction = torch.randint(3, (EDGES.size(1),))
    graph = Graph(EDGES, edge_direction=direction)
    before = {(*edge, k) for edge, k in zip(EDGES.T.tolist(), direction.tolist(), strict=True)}
    after = [(*edge, k) for edge, k in zip(graph.edge_index.T.tolist(), graph.edge_direction.tolist(), strict=True)]
    assert set(after) == before
    assert after == sorted(after, key=lambda edge: (edge[1], edge[2], after.index(edge)))


@pytest.mark.parametrize("weight", [None, "mean", "random"])
@pytest.mark.parametrize("backend", ["auto", "scatter", "segment"])
def test_a_neighbour_sum_is_the_sum_over_the_edges(backend, weight):
    if backend == "segment" and find_backend("segment").needs():
        pytest.skip("torch_scatter is not installed")
    direction = torch.arange(EDGES.size(1)) % 2
    factor = torch.rand(EDGES.size(1)) if weight == "random" else weight
    graph = Graph(EDGES, 13, edge_direction=direction, edge_weight=factor)
    x, taps = torch.randn(2, 13, 3, dtype=torch.float64), torch.randn(3, 1, 3, dtype=torch.float64)
    expected = taps[2] * x
    for number, ((source, target), k) in enumerate(zip(EDGES.T.tolist(), direction.tolist(), strict=True)):
        share = 1.0
        if weight == "random":
            share = float(factor[number])
        elif weight == "mean":
            share = 1 / int(((EDGES[1] == target) & (direction == k)).sum())
        expected[:, target] += share * taps[k] * x[:, source]
    found = NeighbourSum(graph, backend=backend)(x, taps)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)  # factors are kept in float32


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_numbers_of_any_width_are_the_same_graph(dtype: torch.dtype) -> None:
    # 100 times 4 directions is more than a byte holds, and a tensor of bytes is a mask to torch.
    edges, direction = torch.tensor([[0, 100, 0, 1], [100, 0, 100, 0]]), torch.tensor([0, 3, 0, 2])
    wide, narrow = (
        Graph(edges.to(kind), edge_direction=direction.to(kind), edge_weight="mean") for kind in (torch.long, dtype)
    )
    x, weight = torch.randn(2, 101, 3), torch.randn(5, 1, 3)
    assert torch.equal(narrow.edge_weight, wide.edge_weight)
    assert torch.equal(NeighbourSum(narrow)(x, weight), NeighbourSum(wide)(x, weight))


def test_hops_are_networkx_s_shortest_paths():
    graph = Graph(EDGES)
    sources = torch.zeros(graph.num_nodes, dtype=torch.bool)
    sources[4] = True
    away = networkx.single_source_shortest_path_length(networkx.DiGraph(EDGES.T.tolist()), 4)
    assert graph.hops(sources).tolist() == [away.get(node, -1) for node in range(graph.num_nodes)]


@pytest.mark.parametrize("graph", [Graph(EDGES), Lattice((4, 5), 8), Lattice((3, 3, 4), 6, boundary="periodic")])
def test_no_colour_hears_itself(graph):
    source, target = graph.edge_index
    colour = graph.colours()
    assert (colour[source] != colour[target]).all()
    assert sorted(set(colour.tolist())) == list(range(int(colour.max()) + 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edge_index": torch.zeros(3, 2, dtype=torch.long)}, r"integers \[2, num_edges\], got torch.int64 \[3, 2\]"),
        ({"edge_index": EDGES, "num_nodes": 5}, "cells 0 to 4"),
        ({"edge_index": EDGES, "edge_direction": torch.zeros(3, dtype=torch.long)}, "edge_direction must be one"),
        ({"edge_index": EDGES, "edge_weight": torch.zeros(3)}, "edge_weight must be one"),
        ({"edge_index": EDGES, "edge_weight": "median"}, "numbers or 'mean', got 'median'"),
        ({"edge_index": EDGES, "positions": torch.zeros(3, 2)}, r"positions must be \[12, dim\]"),
        (
            {"edge_index": EDGES, "edge_direction": torch.full((EDGES.size(1),), 3), "num_directions": 2},
            "edge_direction must be 0 to 1, got up to 3",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Graph(**arguments)


@pytest.mark.parametrize("backend", ["stencil", "conv", "fused", "triton"])
def test_backends_of_grids_refuse_other_graphs(backend):
    with pytest.raises(ValueError, match=r"needs (a Lattice|triton|a GPU)"):
        NeighbourSum(Graph(EDGES), backend=backend)
