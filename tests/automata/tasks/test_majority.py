"""Density classification: its samples, loss and figures against NumPy, and a cell that is known to be right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cellgraph.automata.tasks import Majority
from cellgraph.nn import Cell


class Count(Cell):
    """Passes counts along the ring, one way, until every cell has heard all: then the sign of the sum is the answer."""

    def perceive(self, x, context=None):
        weight = x.new_zeros(3, 1, x.size(-1))
        weight[0, :, 2] = 1
        return self.neighbour_sum(x, weight)

    def update(self, x, perceived, context=None):
        change = torch.zeros_like(x)
        heard = perceived[..., 2] * (x[..., 3] > 0) + x[..., 0] * (x[..., 3] == 0)
        change[..., 2] = heard - x[..., 2]
        change[..., 4] = heard
        change[..., 1] = (x[..., 4] + heard).sign() - x[..., 1]
        change[..., 3] = 1
        return change


def test_targets_are_the_signs_of_the_sums():
    batch = Majority(7, channels=3).sample(200, torch.Generator().manual_seed(0))
    own = batch.x.numpy()[..., 0]
    assert set(np.unique(own)) == {-1.0, 1.0}
    assert not batch.x[..., 1:].any()
    np.testing.assert_array_equal(batch.target.numpy(), np.where((own > 0).sum(1) * 2 > 7, 1, -1))
    # Every share of positive cells is alike likely, so the middle one is no likelier than the others.
    shares = np.bincount((own > 0).sum(1), minlength=8)
    assert shares.min() > 10


def test_the_loss_is_the_mean_square():
    task = Majority(5, channels=3)
    batch = task.sample(4, torch.Generator().manual_seed(0))
    x = torch.randn(4, 5, 3)
    expected = ((x.numpy()[..., 1] - batch.target.numpy()[:, None]) ** 2).mean(1)
    np.testing.assert_allclose(task.loss(x, batch).numpy(), expected, rtol=1e-6)


def test_figures_of_a_cell_that_counts_and_of_one_that_does_nothing(tmp_path):
    task = Majority(9, channels=5, size=64)

    class Parameters(Count):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.none = torch.nn.Parameter(torch.zeros(1))

    cell = Parameters(task.lattice, 5).eval()
    figures = task.evaluate(cell, num_steps=9)
    assert figures["accuracy"] == figures["cell_accuracy"] == 1.0
    # A step short of the whole ring some cells have heard too few where it is a close thing.
    assert task.evaluate(cell, num_steps=6)["accuracy"] < 1.0
    assert task.evaluate(cell, num_steps=0)["cell_accuracy"] == 0.0
    (picture,) = task.draw(cell, tmp_path, num_steps=9)
    assert picture.stat().st_size > 0


def test_it_is_had_on_another_ring_alone():
    assert Majority(31).resized((15,)).lattice.shape == (15,)
    for shape in ((15, 15), ()):
        with pytest.raises(ValueError, match=r"must be a ring, \[width\], got \["):
            Majority(31).resized(shape)


def test_an_even_ring_is_refused():
    with pytest.raises(ValueError, match="width must be odd"):
        Majority(8)
