"""A rollout neighbourhood by neighbourhood: states and gradients of the seeds are those on the whole graph."""

from __future__ import annotations

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
    # One hop less, and the rim is heard.
    short = next(iter(Neighbourhoods(graph, hops - 1, batch_size=13, seeds=order, sampler=sampler)))
    assert short.graph.num_nodes < sizes[0] <= NODES


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
    ],
)
def test_what_would_not_be_exact_is_refused(make: Any, hops: int, message: str) -> None:
    graph = ring()
    near = next(iter(Neighbourhoods(graph, hops, batch_size=4, sampler="search")))
    with pytest.raises(ValueError, match=message):
        rollout_near(make(graph), near, torch.zeros(1, NODES, 4), num_steps=2)


def test_options_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="sampler must be one of"):
        Neighbourhoods(ring(), 2, batch_size=4, sampler="clusters")
    with pytest.raises(ValueError, match="batch_size be positive"):
        Neighbourhoods(ring(), 2, batch_size=0)
    monkeypatch.setattr("cellgraph.automata.neighbourhoods.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs pyg-lib or torch-sparse, and neither is installed: use 'search'"):
        Neighbourhoods(ring(), 2, batch_size=4, sampler="loader")
