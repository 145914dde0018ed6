"""The cube in the place of a perceptron: each vector by itself, through a lattice of its own."""

from __future__ import annotations

import pytest
import torch

from cellgraph import testing
from cellgraph.sequence import CubeFeedForward


def made() -> CubeFeedForward:
    module = CubeFeedForward(6, shape=(2, 2, 2), channels=8, hidden=8, heads=2, surface_channels=3).double()
    testing.randomise(module, std=0.3)
    return module


def test_what_is_added_is_what_each_cube_gives_by_itself() -> None:
    module = made()
    x = torch.randn(3, 5, 6, dtype=torch.float64)
    expected = torch.empty_like(x)
    for place in torch.cartesian_prod(torch.arange(3), torch.arange(5)).tolist():
        state = torch.zeros(1, 8, 8, dtype=torch.float64)
        # The front is the first layer: four cells of eight, three values each.
        state[0, :4, :3] = (module.encode.weight @ x[tuple(place)] + module.encode.bias).view(4, 3)
        for _ in range(module.num_steps):
            state = module.cell(state)
        expected[tuple(place)] = module.readout(state[:, 4:])[0]
    torch.testing.assert_close(module(x), expected)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(module(x[1, 2]), expected[1, 2])  # a vector alone, too


def test_a_new_one_adds_nothing_and_learns() -> None:
    module = CubeFeedForward(6, shape=(2, 2, 2), channels=8, hidden=8, heads=2)
    added = module(torch.randn(4, 6))
    assert not added.any()
    added.sum().backward()
    assert module.readout.weight.grad is not None
    assert module.readout.weight.grad.any()


def test_another_width_and_too_few_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="x must have 6 features, got 5"):
        made()(torch.ones(2, 5))
    with pytest.raises(ValueError, match="num_steps must cross the 4 layers, got 2"):
        CubeFeedForward(6, shape=(4, 2, 2), channels=8, hidden=8, heads=2)
