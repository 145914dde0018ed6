"""Growing: the shapes by areas that do not hang on the resolution, the figures by cells whose end is known."""

from __future__ import annotations

import math

import pytest
import torch

from cellgraph import Cell, Lattice
from cellgraph.automata import Batch
from cellgraph.automata.tasks import Growing
from cellgraph.automata.tasks.shapes import flower, tree


class Painter(Cell):
    """Becomes what it is told at once, wherever it is not that already."""

    def __init__(self, task: Growing, *, share: float = 1.0) -> None:
        super().__init__(task.lattice, task.channels)
        self.goal = torch.nn.Parameter(torch.zeros(task.lattice.num_nodes, task.channels))
        self.goal.data[:, :4] = share * task.target

    def perceive(self, x, context=None):
        return x

    def update(self, x, perceived, context=None):
        return self.goal - x


@pytest.mark.parametrize(("draw", "size"), [(flower, 24), (tree, 12)])
def test_a_shape_is_paint_on_nothing_and_as_large_at_every_resolution(draw, size):
    shape = draw(size)
    assert shape.shape == (*(size,) * (2 if draw is flower else 3), 4)
    assert float(shape.min()) == 0.0
    assert float(shape[..., 3].max()) == 1.0
    assert (shape[..., :3] <= shape[..., 3:] + 1e-6).all()
    assert float(shape[(0,) * (shape.dim() - 1)].sum()) == 0.0
    covered = [float(image[..., 3].mean()) for image in (shape, draw(2 * size))]
    assert covered[0] == pytest.approx(covered[1], rel=0.05)
    assert 0.1 < covered[0] < 0.6


def test_intactness_is_one_less_the_squared_error_by_the_shape_s_square():
    task = Growing("flower", size=12, channels=6)
    x = torch.zeros(3, 144, 6)
    x[1, :, :4] = task.target
    x[2, :, :4] = task.target / 2
    torch.testing.assert_close(task.intactness(x), torch.tensor([0.0, 1.0, 0.75]))
    torch.testing.assert_close(task.loss(x, Batch(x)), torch.tensor([1.0, 0.0, 0.25]))


def test_the_seed_is_one_living_cell_in_the_middle():
    x = Growing("tree", size=6, channels=7, neighbourhood=26).sample(2, torch.Generator()).x
    assert x.shape == (2, 216, 7)
    middle = 3 * 36 + 3 * 6 + 3
    assert x[0].nonzero()[:, 0].unique().tolist() == [middle]
    assert x[1, middle].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_damage_empties_a_ball_around_a_cell_of_the_shape_and_nothing_else():
    task = Growing("flower", size=20, channels=5)
    x = torch.ones(200, 400, 5)
    hurt = task.damage(Batch(x), torch.Generator().manual_seed(1)).x
    assert set(hurt.unique().tolist()) == {0.0, 1.0}
    for sample in hurt:
        gone = (sample == 0).all(-1).nonzero().squeeze(1)
        places = task.lattice.positions[gone].float()
        # All within the largest ball; the shape's own cells that lie inside the smallest one are among them.
        assert float(torch.pdist(places).max()) <= 2 * 0.35 * 20
        centres = task.lattice.positions[task.body].float()
        assert bool(
            (
                torch.cdist(centres, task.lattice.positions.float()).le(0.15 * 20).float() @ (sample[:, 0] == 1).float()
                == 0
            ).any()
        )


def test_what_is_repainted_at_once_has_regrown_entirely_and_what_half_comes_back_half():
    task = Growing("flower", size=12, channels=5, damages=8, long_run=3)
    figures = task.evaluate(Painter(task), num_steps=2)
    assert figures["before"] == pytest.approx(1, abs=1e-5)
    assert figures["damaged"] < 0.95
    assert figures["regrowth"] == pytest.approx(1, abs=1e-4)
    assert figures["regrowth_worst"] == pytest.approx(1, abs=1e-4)
    paler = task.evaluate(Painter(task, share=0.5), num_steps=2)
    assert paler["before"] == pytest.approx(0.75, abs=1e-5)
    assert paler["intactness_3"] == pytest.approx(0.75, abs=1e-4)
    assert paler["greatest_3"] == pytest.approx(float(task.target.max()) / 2, abs=1e-5)


def test_what_lost_nothing_by_a_damage_has_not_regrown():
    """Three times the shape is farther from it than nothing is: to empty a part of that is a gain."""
    task = Growing("flower", size=12, channels=5, damages=8, long_run=0)
    figures = task.evaluate(Painter(task, share=3.0), num_steps=2)
    assert figures["before"] == pytest.approx(-3, abs=1e-5)
    assert figures["damaged"] > figures["before"]
    assert figures["final"] == pytest.approx(-3, abs=1e-5)
    assert math.isnan(figures["regrowth"])
    assert math.isnan(figures["regrowth_worst"])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"shape must be one of .*got 'cat'"):
        Growing("cat")
    with pytest.raises(ValueError, match="more than the 4 visible ones, got 4"):
        Growing(channels=4)
    assert Growing(size=10).lattice == Lattice((10, 10), 8)
