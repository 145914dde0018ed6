"""The shipped asserts pass where they should and, above all, fail where they should."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cellgraph import CellGraph, GMLPCell, Lattice, testing


class Broken(GMLPCell):
    """A cell with a stencil that wraps around where it should not, and that looks two cells far."""

    def update(self, x: Tensor, perceived: tuple[Tensor, Tensor, Tensor], context: Tensor | None = None) -> Tensor:
        u, gate, moved = perceived
        if self.backend != "scatter":
            moved = moved + 0.1 * x.roll(2, dims=1)
        return super().update(x, (u, gate, moved), context)


def random_cell(kind: type[GMLPCell] = GMLPCell, **options: object) -> GMLPCell:
    cell = kind(Lattice((2, 3, 4)), 6, hidden=8, heads=2, **options)
    testing.randomise(cell)
    return cell


@pytest.mark.parametrize("sharing", ["shared", "layer", "cell"])
def test_a_sound_cell_passes(sharing: str) -> None:
    cell = random_cell(sharing=sharing)
    testing.assert_matches_reference(cell, backend="stencil")
    for num_steps in range(3):
        testing.assert_reaches(cell, num_steps=num_steps)
    testing.assert_compiles(random_cell(backend="stencil"))


def test_a_broken_cell_fails() -> None:
    cell = random_cell(Broken, backend="stencil")
    with pytest.raises(AssertionError, match="not close"):
        testing.assert_matches_reference(cell, backend="stencil")
    with pytest.raises(AssertionError, match="beyond it are"):
        testing.assert_reaches(cell, num_steps=1, targets=torch.tensor([5]))
    with pytest.raises(AssertionError, match="within reach are not felt"):
        testing.assert_reaches(GMLPCell(Lattice((2, 3)), 6, hidden=8), num_steps=1)


def test_a_new_network_passes_and_a_trained_one_does_not() -> None:
    cell = GMLPCell(Lattice((3, 3, 3)), 6, hidden=8)
    model = CellGraph(cell, in_features=9, surface_channels=1, path="none", num_steps=3)
    testing.assert_identity_at_init(model)
    testing.randomise(model.cell)
    with pytest.raises(AssertionError, match="differs from what a new network"):
        testing.assert_identity_at_init(model)
