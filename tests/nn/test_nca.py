"""The automaton put together from parts."""

from __future__ import annotations

import itertools

import pytest
import torch

from cellgraph import Graph, Lattice, NCACell
from cellgraph.nn.nca import PERCEPTIONS, UPDATES
from cellgraph.testing import assert_matches_reference, randomise


@pytest.mark.parametrize(("perception", "update"), list(itertools.product(PERCEPTIONS, UPDATES)))
@pytest.mark.parametrize("shape", [(6,), (4, 3), (3, 3, 3)])
def test_every_perception_goes_with_every_update_in_every_dimension(perception, update, shape):
    cell = NCACell(Lattice(shape), 5, perception=perception, update=update)
    randomise(cell)
    x = torch.randn(2, cell.lattice.num_nodes, 5)
    y = cell(x)
    assert y.shape == x.shape
    assert not torch.equal(y, x)
    y.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in cell.parameters())


@pytest.mark.parametrize("perception", ["filters", "stencil"])
def test_backends_agree(perception):
    cell = NCACell(Lattice((4, 5), 8, boundary=("open", "periodic")), 3, perception=perception)
    randomise(cell)
    for backend in ("stencil", "conv"):
        assert_matches_reference(cell, backend=backend)


def test_with_the_norm_the_size_of_the_state_does_not_matter():
    cell = NCACell(Lattice((6,)), 4, perception="stencil", norm="rms").double()
    randomise(cell)
    x = 1 + torch.rand(1, 6, 4, dtype=torch.float64)
    torch.testing.assert_close(cell(100 * x) - 100 * x, cell(x) - x, atol=1e-9, rtol=1e-6)


def test_on_a_graph_without_a_grid_it_is_equivariant():
    """Numbering the cells in another way changes nothing but their order."""
    edges = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0, 1, 3], [1, 0, 2, 1, 3, 2, 0, 3, 3, 1]])
    order = torch.tensor([2, 0, 3, 1])
    one = NCACell(Graph(edges, edge_weight="mean"), 3, perception="stencil").double()
    other = NCACell(Graph(order[edges], edge_weight="mean"), 3, perception="stencil").double()
    randomise(one)
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    y = torch.empty_like(x)
    y[:, order] = x
    torch.testing.assert_close(other(y)[:, order], one(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"perception": "smell"}, "perception must be one of .*got 'smell'"),
        ({"update": {"hidden": 3}}, "update must be one of .*got None"),
        ({"perception": {"name": "stencil", "heads": 4}}, "the perception stencil takes num_filters, .*; got heads"),
        ({"update": {"name": ["mlp"]}}, r"update must be one of .*got \['mlp'\]"),
        ({"update": {"name": "mlp", "context_channels": 3}}, "the update mlp takes hidden, .*; got context_channels"),
        ({"norm": "batch"}, "norm must be one of .*got 'batch'"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        NCACell(Lattice((5,)), 2, **options)
