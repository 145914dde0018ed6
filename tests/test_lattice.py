"""The lattice against closed forms, networkx and brute force."""

from __future__ import annotations

import itertools

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgraph import Lattice
from cellgraph.lattice import BOUNDARIES, NEIGHBOURHOODS

REACH = {2: 1, 4: 1, 8: 2, 6: 1, 18: 2, 26: 3}


@st.composite
def lattices(draw: st.DrawFn) -> Lattice:
    dim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 5)) for _ in range(dim))
    boundary = tuple(draw(st.sampled_from(BOUNDARIES if size >= 3 else ("open",))) for size in shape)
    cells = int(np.prod(shape))
    kept = draw(st.none() | st.lists(st.booleans(), min_size=cells, max_size=cells).filter(any))
    mask = None if kept is None else np.array(kept).reshape(shape)
    return Lattice(shape, draw(st.sampled_from(sorted(NEIGHBOURHOODS[dim]))), boundary=boundary, mask=mask)


def brute_force_edges(lattice: Lattice) -> set[tuple[int, int, tuple[int, ...]]]:
    """(source, target, offset) of every edge, cell by cell and offset by offset."""
    number = {tuple(p): i for i, p in enumerate(lattice.positions.tolist())}
    edges = set()
    for place, target in number.items():
        for offset in itertools.product((-1, 0, 1), repeat=lattice.dim):
            if not 0 < sum(map(abs, offset)) <= REACH[lattice.neighbourhood]:
                continue
            there = [p + o for p, o in zip(place, offset, strict=True)]
            there = [
                p % n if kind == "periodic" else p
                for p, n, kind in zip(there, lattice.shape, lattice.boundary, strict=True)
            ]
            if tuple(there) in number:
                edges.add((number[tuple(there)], target, offset))
    return edges


@given(lattices())
@settings(max_examples=60, deadline=None)
def test_edges_are_those_of_brute_force(lattice: Lattice) -> None:
    source, target = lattice.edge_index.tolist()
    found = [
        (s, t, lattice.offsets[k]) for s, t, k in zip(source, target, lattice.edge_direction.tolist(), strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == brute_force_edges(lattice)


@given(lattices())
@settings(max_examples=60, deadline=None)
def test_edges_are_symmetric_and_sorted_by_target_then_direction(lattice: Lattice) -> None:
    source, target = lattice.edge_index
    opposite = [lattice.offsets.index(tuple(-m for m in o)) for o in lattice.offsets]
    there = set(zip(source.tolist(), target.tolist(), lattice.edge_direction.tolist(), strict=True))
    assert there == {(t, s, opposite[k]) for s, t, k in there}
    key = target * lattice.num_directions + lattice.edge_direction
    assert (key.diff() > 0).all()


@pytest.mark.parametrize(("neighbourhood", "edges"), [(6, 13_740), (18, 39_164), (26, 54_844)])
def test_edge_counts_of_the_cube_are_the_closed_forms(neighbourhood: int, edges: int) -> None:
    shape = np.array((11, 15, 15))
    moves = [m for m in itertools.product((-1, 0, 1), repeat=3) if 0 < np.abs(m).sum() <= REACH[neighbourhood]]
    assert sum(int(np.prod(shape - np.abs(m))) for m in moves) == edges
    assert Lattice((11, 15, 15), neighbourhood).num_edges == edges


@pytest.mark.parametrize("neighbourhood", [6, 18, 26])
def test_every_cell_of_a_torus_has_the_whole_neighbourhood(neighbourhood: int) -> None:
    lattice = Lattice((3, 4, 5), neighbourhood, boundary="periodic")
    assert (torch.bincount(lattice.edge_index[1]) == neighbourhood).all()


@given(lattices(), st.data())
@settings(max_examples=40, deadline=None)
def test_hops_are_shortest_paths(lattice: Lattice, data: st.DataObject) -> None:
    source = data.draw(st.integers(0, lattice.num_nodes - 1))
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(lattice.num_nodes))
    graph.add_edges_from(lattice.edge_index.T.tolist())
    expected = networkx.single_source_shortest_path_length(graph, source)
    found = lattice.hops(torch.arange(lattice.num_nodes) == source).tolist()
    assert found == [expected.get(node, -1) for node in range(lattice.num_nodes)]


def test_faces_are_where_their_names_say() -> None:
    lattice = Lattice((2, 3, 4))
    grid = torch.arange(24).reshape(2, 3, 4)
    faces = {
        "front": grid[0],
        "back": grid[-1],
        "top": grid[:, 0],
        "bottom": grid[:, -1],
        "left": grid[:, :, 0],
        "right": grid[:, :, -1],
    }
    for name, cells in faces.items():
        assert lattice.face(name).nonzero().flatten().tolist() == cells.flatten().tolist()
    assert Lattice((3, 4)).face("top").sum() == 4
    assert Lattice((5,)).face("right").tolist() == [False] * 4 + [True]


def test_to_data_is_a_valid_graph() -> None:
    data = Lattice((3, 4), mask=np.eye(3, 4) == 0).to_data()
    assert data.validate()
    assert data.num_nodes == 9
    assert data.pos.shape == (9, 2)
    assert data.edge_direction.shape == (data.num_edges,)


def test_config_builds_an_equal_lattice() -> None:
    lattice = Lattice((3, 4), 8, boundary=("open", "periodic"), mask=np.eye(3, 4))
    assert Lattice(**lattice.config()) == lattice
    assert lattice != Lattice((3, 4), 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (2, 3, 4, 5)}, "1 to 3 positive integers"),
        ({"shape": (0, 3)}, "1 to 3 positive integers"),
        ({"shape": "cube"}, "1 to 3 positive integers"),
        ({"shape": (3, 3), "neighbourhood": 6}, r"one of \[4, 8\] or a list of offsets, got 6"),
        ({"shape": (3, 3), "boundary": "reflect"}, "got 'reflect'"),
        ({"shape": (3, 3), "boundary": ("open",)}, "each of the 2 axes"),
        ({"shape": (2, 3), "boundary": "periodic"}, "at least 3 cells, axis 0 of"),
        ({"shape": (2, 3), "mask": np.zeros((2, 3))}, "keeps none of the 6 cells"),
        ({"shape": (2, 3), "mask": np.ones((3, 2))}, r"shape \(2, 3\), got \(3, 2\)"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lattice(**arguments)


def test_unknown_and_empty_faces_are_named() -> None:
    with pytest.raises(ValueError, match=r"has the faces .*top.*, got 'front'"):
        Lattice((3, 3)).face("front")
    with pytest.raises(ValueError, match="no cell on the face 'top'"):
        Lattice((2, 2), mask=[[0, 0], [1, 1]]).face("top")
