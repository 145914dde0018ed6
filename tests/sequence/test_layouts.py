"""Layouts: each is an order of all the cells, and along a Hilbert curve the next is a neighbour."""

from __future__ import annotations

import itertools

import pytest

from cellgraph.sequence import ORDERS, layout


@pytest.mark.parametrize("size", [(1, 1), (4, 8), (3, 5), (15, 15)])
@pytest.mark.parametrize("order", ORDERS)
def test_every_cell_has_one_place(order: str, size: tuple[int, int]) -> None:
    assert sorted(layout(order, *size).tolist()) == list(range(size[0] * size[1]))


def steps(order: str, height: int, width: int) -> list[int]:
    """Rows and columns between each cell and the next."""
    places = [divmod(cell, width) for cell in layout(order, height, width).tolist()]
    return [abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in itertools.pairwise(places)]


@pytest.mark.parametrize("side", [2, 4, 8, 16])
def test_the_hilbert_curve_goes_from_neighbour_to_neighbour(side: int) -> None:
    assert set(steps("hilbert", side, side)) == {1}


def test_near_places_are_nearer_along_the_curve_than_in_rows() -> None:
    def mean_distance(order: str) -> float:
        places = [divmod(cell, 16) for cell in layout(order, 16, 16).tolist()]
        apart = [abs(places[i][0] - places[i + 32][0]) + abs(places[i][1] - places[i + 32][1]) for i in range(256 - 32)]
        return max(apart)

    # Thirty-two places on: two rows in the one; in the other never further than the two squares of 16 around them.
    assert set(steps("snake", 5, 7)) == {1}
    assert mean_distance("hilbert") <= 15


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match=r"order must be one of .*hilbert.*, got 'spiral'"):
        layout("spiral", 2, 2)
