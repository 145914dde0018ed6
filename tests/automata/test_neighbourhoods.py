"""A rollout neighbourhood by neighbourhood: states and gradients of the seeds are those on the whole graph."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from cellgraph import GMLPCell, Graph, Lattice
from cellgraph.automata import Neighbourhoods, rollout_near
from cellgraph.nn import Cell, NCACell
from cellgraph.unroll import rollout

NODES, STEPS = 60, 3
LOADER = pytest.mark.skipif(
    not (find_spec("pyg_lib") or find_spec("torch_sparse")), reason="neither pyg-lib nor torch-sparse is installed"
)
SAMPLERS = ["search", pytest.param("loader", marks=LOADER)]


def ring(seed: int = 0) -> Graph:
    """A ring with chords, in two directions, whose sums are means."""
    generator = torch.Generator().manual_seed(seed)
    node = torch.arange(NODES)
    chord = torch.randint(NODES, (2, 12), generator=generator)
    edge_index = torch.cat([torch.stack([node, (node + 1) % NODES]), chord], dim=1)
    direction = torch.cat([torch.zeros(NODES), torch.ones(12)]).long()
    return Graph(edge_index, NODES, edge_direction=direction, edge_weight="mean")


CELLS: dict[str, Any] = {
    "gmlp": lambda graph: GMLPCell(graph, 4, hidden=4, heads=2, gate_std=0.5, out_std=0.5, context_channels=2),
    "living": lambda graph: NCACell(
        graph, 4, perception="stencil", alive_channel=3, alive_threshold=1.0, fire_rate=0.5
    ),
}


def made(kind: str, graph: Graph) -> Cell:
    cell = CELLS[kind](graph).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in cell.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return cell


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", CELLS)
def test_states_and_gradients_of_the_seeds_are_those_of_the_whole(kind: str, sampler: str) -> None:
    graph = ring()
    graph.edge_weight = None if graph.edge_weight is None else graph.edge_weight.double()
    generator = torch.Generator().manual_seed(2)
    x, weight = torch.randn(2, 2, NODES, 4, generator=generator, dtype=torch.float64)
    context = torch.randn(1, NODES, 2, generator=generator, dtype=torch.float64) if kind == "gmlp" else None
    masks = (torch.rand(STEPS, 2, NODES, 1, generator=generator) < 0.5).double() if kind == "living" else None

    cell = made(kind, graph)
    after = x
    for step in range(STEPS):
        after = cell(after, None if masks is None else masks[step], context)
    (after * weight).sum().backward()
    expected = {name: p.grad.clone() for name, p in cell.named_parameters() if p.grad is not None}
    assert expected
    cell.zero_grad()

    hops = STEPS * (2 if kind == "living" else 1)
    order = torch.randperm(NODES, generator=generator)
    batches = Neighbourhoods(graph, hops, batch_size=13, seeds=order, sampler=sampler)
    sizes, seen = [], []
    for near in batches:
        found = rollout_near(cell, near, x, num_steps=STEPS, context=context, masks=masks)
        nodes = near.nodes[near.seeds]
        torch.testing.assert_close(found, after.detach()[:, nodes], rtol=1e-12, atol=1e-12)
        (found * weight[:, nodes]).sum().backward()
        sizes.append(near.graph.num_nodes)
        seen.append(nodes)
    assert torch.equal(torch.cat(seen), order)
    assert len(batches) == len(sizes) == 5
    for name, gradient in expected.items():
        torch.testing.assert_close(cell.get_parameter(name).grad, gradient, rtol=1e-11, atol=1e-11, msg=name)
    assert max(sizes) <= NODES


def test_seeds_of_a_long_lattice_hear_a_part_of_it_and_states_may_lie_in_a_file(tmp_path: Path) -> None:
    lattice = Lattice((3000,))
    cell = made("gmlp", lattice)
    path = str(tmp_path / "states")
    x = torch.from_file(path, shared=True, size=3000 * 4, dtype=torch.float64).view(1, 3000, 4)
    x.copy_(torch.randn(1, 3000, 4, generator=torch.Generator().manual_seed(0)))
    near = next(iter(Neighbourhoods(lattice, STEPS, batch_size=10, seeds=torch.arange(1000, 1010), sampler="search")))
    assert near.nodes.tolist() == list(range(1000 - STEPS, 1010 + STEPS))
    context = torch.zeros(1, 1, 2, dtype=torch.float64)
    whole = rollout(cell, x, num_steps=STEPS, context=context).x[:, 1000:1010]
    found = rollout_near(cell, near, x, num_steps=STEPS, context=context)
    torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "hops", "message"),
    [
        (lambda g: NCACell(g, 4, perception="stencil", fire_rate=0.5), 2, "give the masks of the whole graph"),
        (lambda g: NCACell(g, 4, perception="stencil", order="sequential"), 2, "order must be synchronous"),
        (lambda g: NCACell(g, 4, perception={"name": "pooled", "pooled": 2}), 2, "perception local"),
        (
            lambda g: NCACell(g, 4, perception="stencil", alive_channel=3),
            3,
            "hears 4 hops far, the neighbourhood has 3",
        ),
        (lambda g: GMLPCell(g, 4, hidden=4, heads=2), 1, "hears 2 hops far, the neighbourhood has 1"),
        (lambda g: GMLPCell(g, 4, hidden=4, heads=2, sharing="cell"), 2, "all cells must have the same weights"),
        (lambda g: NCACell(Lattice((NODES,)), 4), 2, "a graph and no lattice, can have: the filters need a lattice"),
        (
            lambda g: NCACell(Lattice((NODES,)), 4, perception="stencil", backend="conv"),
            2,
            "a graph and no lattice, can have: backend 'conv' needs a Lattice",
        ),
    ],
)
def test_what_would_not_be_exact_is_refused(make: Any, hops: int, message: str) -> None:
    graph = ring()
    near = next(iter(Neighbourhoods(graph, hops, batch_size=4, sampler="search")))
    with pytest.raises(ValueError, match=message):
        rollout_near(make(graph), near, torch.zeros(1, NODES, 4), num_steps=2)


def test_seeds_may_be_a_mask() -> None:
    graph, mask = ring(), torch.arange(NODES) % 7 == 3
    found = [
        torch.cat([near.nodes[near.seeds] for near in Neighbourhoods(graph, 2, batch_size=4, seeds=seeds)])
        for seeds in (mask, mask.nonzero().squeeze(1))
    ]
    assert torch.equal(found[0], found[1])
    assert found[0].tolist() == list(range(3, NODES, 7))
    assert Neighbourhoods(graph, 2, batch_size=4, seeds=[3, 5]).seeds.tolist() == [3, 5]  # type: ignore[arg-type]
    wrong = [mask[:-1], torch.tensor([NODES]), torch.tensor([-1]), torch.zeros(1, 2, dtype=torch.long)]
    for seeds in (*wrong, mask & False, torch.empty(0, dtype=torch.long), torch.tensor([1.0])):
        with pytest.raises(ValueError, match=f"seeds must be numbers of {NODES} cells, or a mask of them"):
            Neighbourhoods(graph, 2, batch_size=4, seeds=seeds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": torch.zeros(1, NODES + 1, 4)}, "x must be of all 60 cells of the whole graph, got [1, 61, 4]"),
        ({"x": torch.zeros(1, NODES, 3)}, "x must be"),
        ({"context": torch.zeros(1, 7, 2)}, "context must be of all 60 cells of the whole graph, got [1, 7, 2]"),
        ({"masks": torch.ones(1, 1, NODES, 1)}, "masks must be of all 60 cells of the whole graph, got [1, 1, 60, 1]"),
        ({"num_steps": -1}, "num_steps must not be negative, got -1"),
    ],
)
def test_what_is_of_another_size_than_the_whole_is_refused(options: dict[str, Any], message: str) -> None:
    graph = ring()
    near = next(iter(Neighbourhoods(graph, 2, batch_size=4)))
    given = {"x": torch.zeros(1, NODES, 4), "num_steps": 2, "context": torch.zeros(1, 1, 2), **options}
    with pytest.raises(ValueError, match=re.escape(message)):
        rollout_near(made("gmlp", graph), near, given.pop("x"), **given)


def test_one_hop_less_and_the_rim_is_heard() -> None:
    """What a neighbourhood lacks at its rim comes one hop nearer at each step, and no nearer than that."""
    graph = ring()
    x, context = torch.randn(1, NODES, 4, dtype=torch.float64), torch.zeros(1, 1, 2, dtype=torch.float64)
    near = next(iter(Neighbourhoods(graph, STEPS, batch_size=2)))
    cell = made("gmlp", graph)
    whole = rollout(cell, x, num_steps=STEPS + 1, context=context).x[:, near.nodes[near.seeds]]
    found, inside = x.index_select(1, near.nodes), cell.on(near.graph)
    inside.position.data = cell.position.data[near.nodes]
    found = rollout(inside, found, num_steps=STEPS + 1, context=context).x[:, near.seeds]
    assert not torch.allclose(found, whole, atol=1e-6), "a step more is beyond it"


def test_options_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="sampler must be one of"):
        Neighbourhoods(ring(), 2, batch_size=4, sampler="clusters")
    with pytest.raises(ValueError, match="batch_size be positive"):
        Neighbourhoods(ring(), 2, batch_size=0)
    monkeypatch.setattr("cellgraph.automata.neighbourhoods.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs pyg-lib or torch-sparse, and neither is installed: use 'search'"):
        Neighbourhoods(ring(), 2, batch_size=4, sampler="loader")
