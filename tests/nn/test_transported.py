"""Any cell in the cube: a transport beside it makes a new network the identity, and everything after it works."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgraph import Cell, CellGraph, Lattice, NCACell
from cellgraph.nn.transported import Transported
from cellgraph.testing import randomise


class Mine(Cell):
    """A cell of one's own, without a configuration, that does something from the start."""

    def __init__(self, lattice: Lattice, channels: int = 8, *, hidden: int = 8, **options: object) -> None:
        super().__init__(lattice, channels, **options)
        self.network = nn.Sequential(nn.Linear(2 * channels, hidden), nn.GELU(), nn.Linear(hidden, channels))

    def perceive(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.neighbour_sum(x, x.new_ones(self.lattice.num_directions + 1, 1, self.channels))

    def update(self, x: Tensor, perceived: Tensor, context: Tensor | None = None) -> Tensor:
        return self.network(torch.cat([x, perceived], dim=-1))


def cells() -> list[Cell]:
    lattice = Lattice((3, 4, 4))
    return [Mine(lattice, hidden=4, step_size=0.5), NCACell(lattice, 8, update={"name": "mlp", "hidden": 16})]


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: type(cell).__name__)
def test_a_new_network_is_the_identity_and_all_of_it_learns(cell: Cell) -> None:
    question = torch.randn(5, 16)
    alone = CellGraph(cell, in_features=16, surface_channels=1, num_steps=4, path="none")
    torch.testing.assert_close(alone(question).embedding, question, atol=1e-5, rtol=1e-5)
    model = CellGraph(cell, in_features=16, surface_channels=1, num_steps=4)
    torch.testing.assert_close(model(question).embedding, question, atol=1e-5, rtol=1e-5)
    target, optimizer = torch.randn(5, 16), torch.optim.Adam(model.parameters(), lr=1e-2)
    before = {name: value.clone() for name, value in model.cell.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        (model(question).embedding - target).square().sum().backward()
        optimizer.step()
    assert all(not torch.equal(value, before[name]) for name, value in model.cell.named_parameters())


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: type(cell).__name__)
def test_it_is_saved_and_loaded(cell: Cell, tmp_path: Path) -> None:
    model = CellGraph(cell, in_features=16, surface_channels=1, num_steps=4)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path)
    again = CellGraph.from_pretrained(tmp_path)
    assert type(again.cell.inner) is type(cell)
    question = torch.randn(2, 16)
    assert torch.equal(again(question).embedding, model(question).embedding)


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: type(cell).__name__)
@pytest.mark.parametrize("inner", [False, True])
def test_what_is_set_on_it_or_on_its_cell_is_of_both_and_is_saved(cell: Cell, inner: bool, tmp_path: Path) -> None:
    model = CellGraph(copy.deepcopy(cell), in_features=16, surface_channels=1, num_steps=4)
    randomise(model, std=0.1)
    question = torch.randn(2, 16)
    before = model(question).embedding
    (model.cell.inner if inner else model.cell).step_size = 0.125
    assert model.cell.dynamics == model.cell.inner.dynamics
    assert not torch.allclose(model(question).embedding, before)
    model.save_pretrained(tmp_path)
    assert torch.equal(CellGraph.from_pretrained(tmp_path)(question).embedding, model(question).embedding)


def test_its_cell_may_be_set_to_update_one_class_after_another() -> None:
    lattice = Lattice((3, 4, 4))
    late, early = Transported(NCACell(lattice, 8)), Transported(NCACell(lattice, 8, order="sequential"))
    randomise(late, std=0.1)
    early.load_state_dict(late.state_dict())
    x = torch.randn(2, 48, 8)
    together = late(x)
    late.inner.order = "sequential"
    assert torch.equal(late(x), early(x))
    assert not torch.allclose(late(x), together)


def test_the_transport_is_a_sum_of_shifts() -> None:
    lattice = Lattice((3, 4, 4), 26)
    cell = Transported(NCACell(lattice, 5))
    nn.init.normal_(cell.transport)
    x = torch.randn(2, lattice.num_nodes, 5)
    weights, state = cell.transport.detach().numpy()[:, 0], x.numpy()
    wanted = state + weights[-1] * state
    for source, target, direction in zip(*lattice.edge_index.tolist(), lattice.edge_direction.tolist(), strict=True):
        wanted[:, target] += weights[direction] * state[:, source]
    np.testing.assert_allclose(cell(x).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_it_takes_over_the_dtype_of_the_cell() -> None:
    lattice = Lattice((3, 4))
    made = Transported(NCACell(lattice, 8, context_channels=3).double())
    assert {part.dtype for part in made.parameters()} == {torch.float64}
    assert made.rate.eq(1).all()  # an NCA's change starts at zero, whatever it is given
    x, context = torch.randn(2, 12, 8, dtype=torch.float64), torch.randn(2, 1, 3, dtype=torch.float64)
    assert torch.equal(made(x, context=context), x)


def test_its_backend_is_the_cell_s_too() -> None:
    model = CellGraph(Mine(Lattice((3, 4, 4)), hidden=4), in_features=16, surface_channels=1, num_steps=4)
    randomise(model, std=0.1)
    cell, x = model.cell, torch.randn(2, 48, 8)
    expected = cell(x)
    cell.backend = "scatter"
    torch.testing.assert_close(cell(x), expected)
    assert cell.inner.backend == "scatter"
    # Both sums go along the edges: without what edges carry, neither hears anybody.
    alone = copy.deepcopy(cell)
    alone.neighbour_sum.edges.register_message_forward_hook(lambda _, inputs, message: 0 * message)
    weight = alone.transport[-1] * x + alone.rate * alone.inner.network(torch.cat([x, x], dim=-1))
    torch.testing.assert_close(alone(x), x + weight)


def test_a_cell_nobody_has_imported_is_refused_by_name() -> None:
    config = CellGraph(cells()[0], in_features=16, surface_channels=1, num_steps=4).config()
    assert config["cell"]["kind"].endswith("test_transported.Mine")
    assert (config["cell"]["hidden"], config["cell"]["step_size"]) == (4, 0.5)
    with pytest.raises(ValueError, match=r"the network's cell is a theirs\.Cell, which is not known: import theirs"):
        CellGraph.from_config({**config, "cell": {**config["cell"], "kind": "theirs.Cell"}})


def test_a_cell_is_built_again_on_another_lattice() -> None:
    other = Lattice((2, 5, 5))
    for cell in cells():
        moved = cell.on(other)
        assert type(moved) is type(cell)
        assert moved.lattice is other
        assert moved.config() == cell.config()


def test_a_cell_with_a_forward_of_its_own_is_refused() -> None:
    class Other(Mine):
        def forward(self, x: Tensor, update_mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
            return x

    with pytest.raises(ValueError, match="Other has its own forward"):
        CellGraph(Other(Lattice((3, 4, 4))), in_features=16, surface_channels=1, num_steps=4)
