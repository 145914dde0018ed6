"""The dynamics: one place for what all cells take, and the arithmetic of who takes how much of an update."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
import torch

from cellgraph import GMLPCell, Lattice, NCACell
from cellgraph.nn.dynamics import Dynamics
from cellgraph.testing import randomise

DEFAULTS = {field.name: field.default for field in dataclasses.fields(Dynamics)}


@pytest.mark.parametrize("kind", [GMLPCell, NCACell])
def test_cells_take_the_fields_as_arguments_of_their_own_and_say_so(kind):
    signature = inspect.signature(kind)
    assert DEFAULTS.items() <= {name: p.default for name, p in signature.parameters.items()}.items()
    assert all(p.kind is not p.VAR_KEYWORD for p in signature.parameters.values())
    given = {"step_size": 0.5, "fire_rate": np.float32(0.25), "order": "sequential", "alive_channel": 1}
    cell = kind(Lattice((4, 4)), 8, **given)
    assert cell.dynamics == Dynamics(**given)
    assert type(cell.config()["fire_rate"]) is float
    with pytest.raises(TypeError, match="firerate"):
        kind(Lattice((4, 4)), 8, firerate=0.5)


def test_a_field_that_is_set_on_a_cell_is_checked_like_an_argument():
    cell = NCACell(Lattice((4, 4)), 4)
    cell.fire_rate = 0.5
    assert (cell.dynamics, cell.config()["fire_rate"]) == (Dynamics(fire_rate=0.5), 0.5)
    with pytest.raises(ValueError, match=r"fire_rate must be in \(0, 1\], got 2.0"):
        cell.fire_rate = 2.0
    assert cell.fire_rate == 0.5
    for channel in (4, -1):
        with pytest.raises(ValueError, match=f"alive_channel must be one of the 4 channels, got {channel}"):
            cell.alive_channel = channel
    assert cell.alive_channel is None


def test_cells_that_are_set_to_update_one_after_another_do():
    lattice = Lattice((4, 4))
    cell, other = NCACell(lattice, 4), NCACell(lattice, 4, order="sequential")
    randomise(cell)
    other.load_state_dict(cell.state_dict())
    x = torch.randn(1, 16, 4)
    together = cell(x)
    cell.order = "sequential"
    assert torch.equal(cell(x), other(x))
    assert not torch.allclose(cell(x), together)


@pytest.mark.parametrize("size", [0, -0.5])
def test_a_step_of_no_size_is_refused(size):
    with pytest.raises(ValueError, match=f"step_size must be positive, got {float(size)}"):
        NCACell(Lattice((4, 4)), 4, step_size=size)


def test_shares_are_the_products_of_what_cells_take():
    dynamics = Dynamics(step_size=0.25, fire_rate=0.5)
    mask = torch.tensor([0.0, 1.0, 1.0])
    assert dynamics.share() == 0.125
    assert dynamics.share(mask).tolist() == [0.0, 0.25, 0.25]


def test_draws_are_as_many_and_as_often_as_asked():
    x = torch.zeros(3, 5, 2, dtype=torch.float64)
    drawn = Dynamics(fire_rate=0.3).draw(x, 400, 7, torch.Generator().manual_seed(0))
    assert (drawn.shape, drawn.dtype) == ((7, 3, 400, 1), torch.float64)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert float(drawn.mean()) == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / drawn.numel()) ** 0.5)


@pytest.mark.parametrize(
    ("options", "plain"),
    [({}, True), ({"fire_rate": 0.5}, True), ({"order": "sequential"}, False), ({"alive_channel": 0}, False)],
)
def test_only_updates_added_at_once_are_plain(options, plain):
    assert Dynamics(**options).is_plain is plain
