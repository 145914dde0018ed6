"""Surfaces: what goes in comes out, at the right cells."""

from __future__ import annotations

import pytest
import torch

from cellgraph import Lattice
from cellgraph.nn import Surface

LATTICE = Lattice((2, 3, 4))


@pytest.mark.parametrize("nodes", ["front", ["front", "left"], torch.arange(24) % 5 == 0])
@pytest.mark.parametrize("channels", [1, 3])
def test_extract_undoes_inject_and_the_rest_is_zero(nodes: object, channels: int) -> None:
    surface = Surface(LATTICE, nodes, channels=channels)  # type: ignore[arg-type]
    vector = torch.randn(2, surface.width, requires_grad=True)
    x = surface.inject(vector, num_channels=5)
    assert torch.equal(surface.extract(x), vector)
    assert int((x != 0).sum()) == vector.numel()
    assert not x[:, ~surface.mask].any()
    assert torch.autograd.grad(x.sum(), vector)[0].eq(1).all()


def test_layout_is_cell_by_cell_in_node_order() -> None:
    surface = Surface(LATTICE, "left", channels=2)
    x = surface.inject(torch.arange(12.0)[None], num_channels=4)
    # The left face: index 0 of the last axis, nodes 0, 4, 8, ...
    assert x[0, 0, :2].tolist() == [0, 1]
    assert x[0, 4, :2].tolist() == [2, 3]
    assert x[0, 20, :2].tolist() == [10, 11]


def test_a_union_of_faces_counts_each_cell_once() -> None:
    assert Surface(LATTICE, ["front", "top", "left"]).width == 24 - 1 * 2 * 3


def test_hold_sets_back_the_surface_and_nothing_else() -> None:
    surface = Surface(LATTICE, "front", channels=2)
    x, injected = torch.randn(2, 24, 5), torch.randn(2, 24, 5)
    held = surface.clamp(x, injected)
    expected = x.clone()
    expected[:, :12, :2] = injected[:, :12, :2]
    assert torch.equal(held, expected)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="at least one cell, the mask over 24 cells has none"):
        Surface(LATTICE, torch.zeros(24, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask \[24\], got torch.bool \[5\]"):
        Surface(LATTICE, torch.ones(5, dtype=torch.bool))
    with pytest.raises(ValueError, match="got 'inside'"):
        Surface(LATTICE, "inside")
    with pytest.raises(ValueError, match="at least 1 channel"):
        Surface(LATTICE, "front", channels=0)
    with pytest.raises(ValueError, match=r"\[batch, 12\], got \[2, 13\]"):
        Surface(LATTICE, "front").inject(torch.zeros(2, 13), num_channels=4)
    with pytest.raises(ValueError, match="needs 3 channels of the state, it has 2"):
        Surface(LATTICE, "front", channels=3).inject(torch.zeros(2, 36), num_channels=2)


def test_a_state_of_too_few_channels_is_not_read() -> None:
    with pytest.raises(ValueError, match=r"at least 2 channels is read, got \[1, 12, 1\]"):
        Surface(LATTICE, "back", channels=2).extract(torch.zeros(1, 24, 1))
