"""The Voronoi flip rule, against exact fractions and a triangulation's own triangles."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import Delaunay
from torch import Tensor

from cellgraph.automata import AutomatonSettings, Batch, train_automaton
from cellgraph.automata.tasks import Voronoi
from cellgraph.nn import Cell, NCACell


class ByHand(Cell):
    """The rule as a cell: neighbour sums on the graph are means."""

    def perceive(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        weight = x.new_ones(2, 1, self.channels)
        weight[-1] = 0.0
        return self.neighbour_sum(x, weight)

    def update(self, x: Tensor, perceived: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.where(perceived > 0.42, 1 - 2 * x, 0.0)


def neighbours(task: Voronoi) -> list[set[int]]:
    near: list[set[int]] = [set() for _ in range(task.num_cells)]
    points = np.random.default_rng(task.seed).random((task.num_cells, 2))
    for triangle in Delaunay(points).simplices.tolist():
        for a, b in itertools.permutations(triangle, 2):
            near[a].add(b)
    return near


def test_neighbours_are_those_that_share_a_triangle() -> None:
    task = Voronoi(60)
    source, target = task.lattice.edge_index.tolist()
    found: list[set[int]] = [set() for _ in range(60)]
    for a, b in zip(source, target, strict=True):
        found[b].add(a)
    assert found == neighbours(task)


@pytest.mark.parametrize("threshold", [0.42, 0.5, 0.6])
def test_the_rule_is_that_of_exact_fractions(threshold: float) -> None:
    task = Voronoi(60, threshold=threshold)
    alive = task.draw_states(10, torch.Generator().manual_seed(0))
    for before, after in zip(alive.tolist(), task.rule(alive).tolist(), strict=True):
        for cell, near in enumerate(neighbours(task)):
            share = Fraction(sum(before[other] for other in near), len(near))
            assert after[cell] == (before[cell] ^ (share > Fraction(str(threshold))))


def test_a_cell_by_hand_is_perfect_and_a_new_one_is_not() -> None:
    task = Voronoi(100, size=10, horizon=20)
    cell = ByHand(task.lattice, 1, backend="scatter").eval()
    assert int(task.wrong_cells(cell, task.draw_states(5, torch.Generator()), num_steps=20).sum()) == 0
    new = task.evaluate(NCACell(task.lattice, 1, perception="stencil").eval(), num_steps=1)
    assert new["state_accuracy"] == new["state_accuracy_elsewhere"] == 0.0


def test_training_lowers_the_loss_and_draws(tmp_path: Path) -> None:
    task = Voronoi(50)
    cell = NCACell(task.lattice, 1, perception="stencil", update={"name": "mlp", "hidden": 32})
    settings = AutomatonSettings(max_steps=60, batch_size=16, num_steps=1, lr=1e-2, accelerator="cpu")
    before = task.validate(cell, num_steps=1)["loss"]
    train_automaton(cell, task, settings, progress=False)
    assert task.validate(cell, num_steps=1)["loss"] < 0.5 * before
    assert [path.name for path in task.draw(cell, tmp_path, num_steps=1)] == ["voronoi.gif"]


@pytest.mark.slow
def test_the_rule_is_learned_to_the_last_cell() -> None:
    task = Voronoi(horizon=1)
    cell = NCACell(task.lattice, 1, perception={"name": "stencil", "num_filters": 1}, backend="scatter")
    settings = AutomatonSettings(max_steps=300, batch_size=32, num_steps=1, lr=1e-2, accelerator="cpu")
    train_automaton(cell, task, settings, progress=False)
    assert task.evaluate(cell, num_steps=1)["state_accuracy"] == 1.0


def test_what_makes_no_tessellation_is_refused() -> None:
    with pytest.raises(ValueError, match="4 cells"):
        Voronoi(3)
    with pytest.raises(ValueError, match="threshold"):
        Voronoi(10, threshold=1.5)


def test_validation_counts_whole_states_and_its_states_are_not_those_judged():
    """A cell that always says "dead" is right where the rule says so, by counting."""

    class Dead(Cell):
        def __init__(self, lattice):
            super().__init__(lattice, 1)
            self.weight = torch.nn.Parameter(torch.ones(()))

        def perceive(self, x, context=None):
            return x

        def update(self, x, perceived, context=None):
            return -self.weight * x

    task = Voronoi(6, size=40)
    drawn = [task.draw_states(n, torch.Generator().manual_seed(2**31 + k)) for k, n in ((1, 200), (0, 40))]
    right = ~task.rule(drawn[0])
    figures = task.validate(Dead(task.lattice), num_steps=1)
    assert figures["cell_accuracy"] == pytest.approx(float(right.float().mean()))
    assert figures["state_accuracy"] == pytest.approx(float(right.all(1).float().mean()))
    assert figures["loss"] > 0
    assert figures["closeness"] == 0.0  # some cell that should live is dead
    assert not torch.equal(drawn[0][:40], drawn[1])


def test_closeness_is_one_less_the_distance_of_the_worst_cell():
    """A cell that is right but for a shift of all that it says."""

    class Shifted(ByHand):
        def update(self, x, perceived, context=None):
            return super().update(x, perceived, context) + 0.125

    task = Voronoi(40, size=4)
    figures = [task.validate(kind(task.lattice, 1, backend="scatter"), num_steps=1) for kind in (ByHand, Shifted)]
    assert [figure["state_accuracy"] for figure in figures] == [1.0, 1.0]
    assert [figure["closeness"] for figure in figures] == pytest.approx([1.0, 0.875], abs=1e-5)


def test_signed_cells_are_the_same_cells_on_another_scale():
    """What a cell by hand makes of 0 and 1, one that is moved to -1 and 1 makes of those."""

    class Moved(ByHand):
        def perceive(self, x, context=None):
            return super().perceive((x + 1) / 2)

        def update(self, x, perceived, context=None):
            return 2 * super().update((x + 1) / 2, perceived)

    plain, signed = Voronoi(40, size=8, horizon=9), Voronoi(40, size=8, horizon=9, signed=True)
    alive = plain.draw_states(3, torch.Generator().manual_seed(0))
    assert torch.equal(signed.states(alive), 2 * plain.states(alive) - 1)
    assert torch.equal(signed.read(signed.states(alive)), alive)
    half = Batch(torch.zeros(1, 40, 1), torch.ones(1, 40))  # half way between
    assert signed.loss(half.x, half).tolist() == [0.25]
    both = [
        task.evaluate(cell(task.lattice, 1, backend="scatter"), num_steps=1)
        for task, cell in ((plain, ByHand), (signed, Moved))
    ]
    assert both[0] == both[1]
    assert both[1]["exact_for_9_free_steps"] == 1.0


def test_the_loss_is_the_mean_error_and_the_worst_cells_by_its_weight():
    """Of three sorts of cells, each with an error that is known: a quarter, none and one."""
    task = Voronoi(6, worst=0.125)
    x = torch.tensor([0.5, 0.5, 0.5, 1.0, 1.0, 0.0])[None, :, None].repeat(2, 1, 1)
    x[1] = 1.0  # a state without error
    expected = (3 * 0.25 + 2 * 0.0 + 1.0) / 6 + 0.125 * 1.0
    assert task.loss(x, Batch(x, torch.ones(2, 6))).tolist() == pytest.approx([expected, 0.0])


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match=r"worst must be 0 or more and finite, got -0\.1"):
        Voronoi(10, worst=-0.1)
