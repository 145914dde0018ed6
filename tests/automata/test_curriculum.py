"""Curriculum, penalties and resizing, against closed forms and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cellgraph import GMLPCell, Lattice
from cellgraph.automata import Curriculum, drift, on_lattice, overflow
from cellgraph.nn import NCACell
from cellgraph.testing import randomise


def test_steps_grow_evenly_and_stay():
    curriculum = Curriculum((2, 4), until=0.4)
    for done in np.linspace(0, 1, 11):
        grown = min(done / 0.4, 1)
        assert curriculum.steps(done, (10, 20)) == (round(2 + grown * 8), round(4 + grown * 16))
    assert Curriculum().steps(0.0, (10, 20)) == (10, 20)


def test_shapes_follow_their_shares():
    curriculum = Curriculum(shapes={0.6: [8, 8], 0.2: [4, 4]})
    found = [curriculum.shape(done) for done in (0.0, 0.19, 0.2, 0.59, 0.6, 1.0)]
    assert found == [(4, 4), (4, 4), (8, 8), (8, 8), None, None]


@pytest.mark.parametrize(
    "options",
    [
        {"shapes": [16]},
        {"shapes": {"half": (5,), 0.5: (5,)}},
        {"until": 0.0},
        {"shapes": {1.5: (4,)}},
        {"num_steps": (4, 2)},
        {"num_steps": 0},
    ],
)
def test_a_curriculum_out_of_range_is_refused(options):
    with pytest.raises(ValueError, match="must"):
        Curriculum(**options)


def test_penalties_match_numpy():
    x, later = 3 * torch.randn(2, 5, 7, 3)
    a, b = x.double().numpy(), later.double().numpy()
    for bound in (1.0, 2.5):
        expected = np.maximum(np.abs(a) - bound, 0).mean((1, 2))
        np.testing.assert_allclose(overflow(x, bound).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(drift(x, later).numpy(), ((b - a) ** 2).mean((1, 2)), rtol=1e-6)


@pytest.mark.parametrize("perception", ["filters", "stencil", "pooled", "attention"])
def test_a_cell_moves_with_its_weights(perception):
    small = NCACell(Lattice((5, 5), boundary="periodic"), 4, perception=perception, update={"name": "mlp", "hidden": 8})
    randomise(small)
    large = on_lattice(small, Lattice((9, 9), boundary="periodic"))
    assert [id(p) for p in small.parameters()] == [id(p) for p in large.parameters()]
    # A state of one colour looks alike from every place of a ring, of any size.
    state = torch.randn(1, 1, 4)
    one, other = small(state.expand(1, 25, 4)), large(state.expand(1, 81, 4))
    torch.testing.assert_close(one[:, :1].expand_as(other), other)


def test_weights_of_two_names_move_together_and_draw_nothing():
    class Tied(NCACell):
        def __init__(self, lattice, channels):
            super().__init__(lattice, channels)
            self.first = self.second = torch.nn.Parameter(torch.rand(3))

    small, before = Tied(Lattice((4,)), 4), torch.get_rng_state()
    large = on_lattice(small, Lattice((9,)))
    assert large.first is large.second is small.first
    assert torch.equal(torch.get_rng_state(), before), "none of the weights that were drawn for it stay"


def test_a_cell_with_positions_of_its_own_does_not_move():
    with pytest.raises(ValueError, match=r"position is \[16, 4\]"):
        on_lattice(GMLPCell(Lattice((4, 4)), 4, hidden=8), Lattice((6, 6)))


def test_a_move_draws_for_what_is_new_there():
    """Positions are; everything else is a copy, for which nothing need be drawn."""
    before = torch.get_rng_state()
    copied = NCACell(Lattice((4,)), 4)
    drawn = torch.get_rng_state()
    copied.on(Lattice((9,)))
    assert torch.equal(torch.get_rng_state(), drawn)
    cell = GMLPCell(Lattice((4,)), 4, hidden=8)
    first, second = cell.on(Lattice((9,))), cell.on(Lattice((9,)))
    assert not torch.equal(first.position, second.position)
    assert not torch.equal(drawn, before)
