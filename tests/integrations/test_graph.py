"""States on PyG graphs: there and back, through loaders, transforms and networkx; influence by finite differences."""

from __future__ import annotations

import pytest
import torch
import torch_geometric.transforms as T
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.utils import to_networkx

from cellgraph import CellGraph, CellGraphOutput, GMLPCell, Lattice, NCACell
from cellgraph.integrations.graph import edge_influence, from_data, lattice_from_data, to_data
from cellgraph.ops.edges import EdgeSum
from cellgraph.testing import randomise


@pytest.fixture
def model() -> CellGraph:
    lattice = Lattice((3, 3, 4), boundary=("open", "periodic", "open"))
    cell = GMLPCell(lattice, 6, hidden=8, heads=2, memory_channels=2)
    model = CellGraph(cell, in_features=5, surface_channels=1, path="none", num_steps=4).eval()
    randomise(model, std=0.3)
    return model


@pytest.fixture
def output(model: CellGraph) -> CellGraphOutput:
    with torch.no_grad():
        return model(torch.randn(4, 5), trajectory=True)


def test_a_loader_hands_back_what_went_in(model: CellGraph, output: CellGraphOutput) -> None:
    influence = torch.randn(4, model.lattice.num_edges)
    graphs = to_data(model, output, edge_influence=influence)
    assert len(graphs) == 4
    loaded = [from_data(batch) for batch in DataLoader(graphs, batch_size=2)]
    for name, dim in (("embedding", 0), ("surface", 0), ("query", 0), ("states", 0), ("memory", 0), ("trajectory", 1)):
        wanted = getattr(output, name)
        assert torch.equal(torch.cat([getattr(part, name) for part in loaded], dim), wanted), name
    assert loaded[0].num_steps == 4
    batch = next(iter(DataLoader(graphs, batch_size=4)))
    assert torch.equal(batch.edge_attr[:, 0], influence.flatten())
    shown = batch.x[batch.output_mask, 0].reshape(4, -1) / model.conveyor.gain(4)
    torch.testing.assert_close(shown, output.surface)


def test_a_graph_goes_through_transforms_and_networkx(model: CellGraph, output: CellGraphOutput) -> None:
    data = to_data(model, output)[1]
    assert data.validate()
    changed = T.Compose([T.AddSelfLoops(), T.Cartesian(norm=False), T.RemoveSelfLoops()])(data)
    assert torch.equal(from_data(changed).states, output.states[1:2])
    offsets = torch.tensor(model.lattice.offsets)[data.edge_direction]
    moved = data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]
    plain = moved.abs().amax(1) <= 1
    assert torch.equal(moved[plain], offsets[plain].float())
    graph = to_networkx(data, node_attrs=["pos"])
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (36, model.lattice.num_edges)


@pytest.mark.parametrize(
    "lattice",
    [
        Lattice((7,)),
        Lattice((4, 3), 8, boundary=("periodic", "open")),
        Lattice((2, 3, 4), 26),
        Lattice((3, 3, 1), 18, boundary=("periodic", "open", "open")),
        Lattice((3, 3, 3), mask=[[[0] * 3] * 3, [[1] * 3] * 3, [[1, 1, 0]] * 3]),
    ],
    ids=str,
)
def test_a_lattice_comes_back_from_its_graph(lattice: Lattice) -> None:
    data = lattice.to_data()
    data.grid_shape = torch.tensor([lattice.shape])
    # Edges in any order.
    data.edge_index = data.edge_index[:, torch.randperm(lattice.num_edges)]
    found = lattice_from_data(data)
    # In a layer of one cell, several neighbourhoods have the same edges.
    assert found.shape == lattice.shape
    assert torch.equal(found.mask, lattice.mask)
    assert torch.equal(found.edge_index, lattice.edge_index)


def test_graphs_that_are_no_lattice_are_refused(model: CellGraph, output: CellGraphOutput) -> None:
    square = Lattice((2, 2)).to_data()
    for change, message in (
        ({"pos": square.pos + 0.5}, "whole numbers"),
        ({"pos": square.pos - 1}, "not be negative"),
        ({"pos": square.pos.flip(0)}, "C order"),
        ({"pos": square.pos * 0}, "C order"),
        ({"edge_index": square.edge_index[:, 1:]}, "7 edges are of no neighbourhood"),
        ({"pos": None}, "pos and edge_index"),
        ({"grid_shape": torch.tensor([[1, 2]])}, "lie in the grid"),
    ):
        data = square.clone()
        for name, value in change.items():
            data[name] = value
        with pytest.raises(ValueError, match=message):
            lattice_from_data(data)
    with pytest.raises(ValueError, match="has none"):
        to_data(model, CellGraphOutput(output.embedding, output.surface))
    with pytest.raises(ValueError, match="edge_influence must be"):
        to_data(model, output, edge_influence=torch.zeros(4, 1))
    with pytest.raises(ValueError, match="without"):
        from_data(Data(x=torch.zeros(2, 2)))


def automaton() -> CellGraph:
    lattice = Lattice((3, 3, 4), boundary=("open", "periodic", "open"))
    cell = NCACell(lattice, 6, perception="stencil", backend="scatter")
    model = CellGraph(cell, in_features=5, surface_channels=1, path="none", num_steps=4).eval()
    randomise(model, std=0.3)
    return model


@pytest.mark.parametrize("kind", ["gated", "automaton"])
def test_edge_influence_is_the_derivative_by_a_factor_on_an_edge(
    model: CellGraph, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = (model if kind == "gated" else automaton()).double()
    question = torch.randn(2, 5, dtype=torch.float64)
    goal = torch.randn(5, dtype=torch.float64)

    def score(embedding: Tensor) -> Tensor:
        return (embedding * goal).sum()

    found = edge_influence(model, question, score=score)
    plain = edge_influence(model, question)
    factor = torch.ones(model.lattice.num_edges, 1, dtype=torch.float64)
    model.cell.backend = "scatter"
    message = EdgeSum.message
    # Of every sum along edges, whoever has it.
    monkeypatch.setattr(EdgeSum, "message", lambda self, x_j, weight: factor * message(self, x_j, weight))

    def scores() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            embedding = model(question).embedding
        return embedding @ goal, embedding.square().sum(1) / 2

    for edge in torch.randperm(model.lattice.num_edges)[:12].tolist():
        ends = []
        for change in (1e-5, -1e-5):
            factor[edge] = 1 + change
            ends.append(scores())
        factor[edge] = 1
        slopes = [(up - down) / 2e-5 for up, down in zip(*ends, strict=True)]
        torch.testing.assert_close(found[:, edge], slopes[0], rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(plain[:, edge], slopes[1], rtol=1e-6, atol=1e-8)
    assert bool((found != 0).any())


def test_edge_influence_is_not_told_of_what_goes_by_no_edge() -> None:
    cell = NCACell(Lattice((3, 3, 4)), 6, perception="attention")
    model = CellGraph(cell, in_features=5, surface_channels=1, num_steps=4)
    with pytest.raises(ValueError, match="attention"):
        edge_influence(model, torch.randn(1, 5))
