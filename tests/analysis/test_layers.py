"""Influence of layer on layer, against matrices that are known."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from cellgraph import GMLPCell, Lattice
from cellgraph.analysis import layer_influence

LATTICE = Lattice((4, 2, 3))


def linear_cell(backend: str = "auto") -> GMLPCell:
    """A cell that is its transport alone: a new one's output weights are zero."""
    cell = GMLPCell(LATTICE, 3, hidden=4, heads=1, backend=backend)
    torch.nn.init.normal_(cell.transport, std=0.5)
    return cell


def expected() -> torch.Tensor:
    """The blocks' norms from the transport's weights, edge by edge."""
    cell = linear_cell()
    edges = [*zip(*LATTICE.edge_index.tolist(), LATTICE.edge_direction.tolist(), strict=True)]
    squares = torch.zeros(4, 4)
    for source, target, direction in edges:
        weight = cell.transport[direction, 0].detach()
        squares[LATTICE.layer[source], LATTICE.layer[target]] += weight.square().sum()
    for node in range(LATTICE.num_nodes):
        layer = LATTICE.layer[node]
        squares[layer, layer] += (1 + cell.transport[-1, 0].detach()).square().sum()
    return (squares / (6 * 3)).sqrt()


@pytest.mark.parametrize("backend", ["scatter", "stencil"])
def test_the_exact_influence_of_a_linear_cell(backend: str) -> None:
    torch.manual_seed(3)
    wanted = expected()
    torch.manual_seed(3)
    found = layer_influence(linear_cell(backend), torch.randn(1, 24, 3), LATTICE.layer, num_steps=2)
    assert torch.allclose(found, wanted.expand(2, 4, 4), atol=1e-5)


def test_the_estimate_approaches_the_exact_one() -> None:
    cell = linear_cell()
    torch.nn.init.normal_(cell.out_weight, std=0.3)
    x = torch.randn(1, 24, 3)
    exact = layer_influence(cell, x, LATTICE.layer, num_steps=1)
    found = layer_influence(cell, x, LATTICE.layer, num_steps=1, probes=300)
    assert torch.allclose(found, exact, rtol=0.1, atol=1e-6)
    assert (found[0][exact[0] == 0] == 0).all()


def test_layers_may_be_any_grouping() -> None:
    cell = linear_cell()
    one = torch.zeros(24, dtype=torch.long)
    assert layer_influence(cell, torch.randn(1, 24, 3), one, num_steps=3).shape == (3, 1, 1)


def test_gradients_of_parameters_are_left_alone() -> None:
    cell = linear_cell()
    layer_influence(cell, torch.randn(1, 24, 3), LATTICE.layer, num_steps=1, probes=2)
    assert all(parameter.grad is None for parameter in cell.parameters())


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="one state"):
        layer_influence(linear_cell(), torch.randn(2, 24, 3), LATTICE.layer, num_steps=1)
    with pytest.raises(ValueError, match="24 cells"):
        layer_influence(linear_cell(), torch.randn(1, 24, 3), LATTICE.layer[:5], num_steps=1)


def test_analysis_loads_with_the_library_only_when_asked_for() -> None:
    code = "import sys, cellgraph; assert not any('cellgraph.analysis' in name for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
