"""Networks and automata on another device than the processor: what comes of them is on one device."""

from __future__ import annotations

import pytest
import torch
from elsewhere import DEVICE, Elsewhere
from torch import Tensor, nn

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.automata import Automaton, Batch, Task
from cellgraph.integrations.graph import edge_influence, from_data, lattice_from_data, to_data
from cellgraph.integrations.inference import Inference, Steps
from cellgraph.nn import NCACell, Surface


def network() -> CellGraph:
    torch.manual_seed(0)
    cell = GMLPCell(Lattice((3, 3, 4)), 6, hidden=8, heads=2, memory_channels=2, backend="scatter")
    return CellGraph(cell, in_features=5, surface_channels=1, num_steps=4).eval()


@torch.no_grad()
def test_a_graph_is_where_its_states_are() -> None:
    model = network()
    influence = edge_influence(model, torch.randn(2, 5))
    with Elsewhere():
        model = model.to(DEVICE)
        output = model(torch.randn(2, 5).to(DEVICE), trajectory=True)
        graphs = to_data(model, output, edge_influence=influence.to(DEVICE))
        for name, value in graphs[1].to_dict().items():
            assert not isinstance(value, Tensor) or value.device == DEVICE, name
        assert from_data(graphs).states.device == DEVICE
        assert lattice_from_data(graphs[0]) == model.lattice
        edge_sum = graphs[0].edge_attr[:, 0] * graphs[0].pos[graphs[0].edge_index[0], 0]
        assert edge_sum.shape == (model.lattice.num_edges,)


class Letters(Task):
    """Starts from learned states; the front layer is clamped."""

    context_channels = 2

    def __init__(self) -> None:
        super().__init__(Lattice((3, 3)))
        self.start = nn.Embedding(5, 4)
        self.clamped = Surface(self.lattice, "left")

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        kind = torch.randint(5, (size,), generator=generator).to(self.start.weight.device)
        return Batch(self.start(kind)[:, None].expand(-1, 9, -1), context=self.start(kind)[:, None, :2])

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        return x.square().mean((1, 2))


@torch.no_grad()
@pytest.mark.parametrize("always_random", [False, True])
def test_a_program_of_an_automaton_elsewhere_is_that_of_one_here(always_random: bool) -> None:
    torch.manual_seed(0)
    task = Letters()
    cell = NCACell(task.lattice, 4, context_channels=2, fire_rate=0.5, always_random=always_random)
    nn.init.normal_(cell.updating.outer.weight)
    here = Automaton(cell, task).eval()
    program = Steps(here, num_steps=3)
    inputs = program.example(2)
    expected = program(*inputs)
    with Elsewhere():
        there = here.to(DEVICE)
        moved = Steps(there, num_steps=3)
        given = moved.example(2)
        assert all(x.device.type == "cpu" for x in given)
        for x, y in zip(given, inputs, strict=True):
            assert torch.equal(x, y)
        assert torch.equal(moved(*given)[0], expected[0])
        assert there.task.clamped.index.device == DEVICE


@torch.no_grad()
def test_a_program_of_a_network_elsewhere_is_that_of_one_here() -> None:
    model = network()
    program = Inference(model)
    inputs = program.example(2)
    expected = program(*inputs)
    with Elsewhere():
        moved = Inference(model.to(DEVICE))
        for found, wanted in zip(moved(*moved.example(2)), expected, strict=True):
            assert torch.equal(found, wanted)
