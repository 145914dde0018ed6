"""What a task does by default, on any graph."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from elsewhere import DEVICE, Elsewhere
from torch import Tensor

from cellgraph import Graph, Lattice, NCACell
from cellgraph.automata import Automaton, Batch, Task
from cellgraph.folder import RunFolder
from cellgraph.nn import Surface

RING = torch.tensor([[1, 2, 3, 0], [0, 1, 2, 3]])


class Full(Task):
    """All channels of all cells are one."""

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        return Batch(torch.ones(size, self.lattice.num_nodes, 2))

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        return x.mean((1, 2))


def test_tied_weights_are_saved_and_loaded(tmp_path: Path) -> None:
    class Tied(NCACell):
        def __init__(self, *given: object, **options: object) -> None:
            super().__init__(*given, **options)
            self.first = self.second = torch.nn.Parameter(torch.rand(3))

    task, folder = Full(Lattice((4,))), RunFolder(tmp_path)
    saved, loaded = (Automaton(Tied(task.lattice, 4), task) for _ in range(2))
    task.save(saved, folder)
    assert torch.equal(task.load(loaded, folder).cell.second, saved.cell.first)


def test_damage_needs_places() -> None:
    task, generator = Full(Graph(RING)), torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=r"damage needs the places of the cells, Graph\(num_nodes=4, .* has none"):
        task.damage(task.sample(3, generator), generator)


def test_damage_goes_on_across_the_ends_of_a_ring() -> None:
    task, generator = Full(Lattice((31, 4), boundary=("periodic", "open"))), torch.Generator().manual_seed(0)
    task.clamped = Surface(task.lattice, task.lattice.positions[:, 1] == 3)
    x = task.damage(task.sample(300, generator), generator).x.view(300, 31, 4, 2)
    assert x[:, :, 3, 0].all(), "clamped cells and channels stay as they are"
    gone = x[:, :, 0, 0] == 0
    # On a ring what is gone is one piece, also where it lies on both ends of the row.
    pieces = (gone & ~gone.roll(1, dims=1)).sum(1)
    assert pieces.max() == 1
    assert (gone[:, 0] & gone[:, -1]).any()
    # As many are gone about each place: none is at an end.
    assert gone.float().mean(0).std() < 0.05


def test_a_pool_on_the_cpu_is_damaged_where_the_task_is_elsewhere() -> None:
    task, generator = Full(Lattice((5, 4))), torch.Generator()
    task.clamped = Surface(task.lattice, task.lattice.positions[:, 1] == 3)
    batch = task.sample(3, generator)
    expected = task.damage(batch, generator.manual_seed(0)).x
    with Elsewhere():
        task.to(DEVICE)
        assert torch.equal(task.damage(batch, generator.manual_seed(0)).x, expected)


@pytest.mark.parametrize(
    "lattice", [Lattice((9, 9)), Graph(RING, positions=torch.tensor([[0.0], [1.0], [4.0], [9.0]]))]
)
def test_damage_empties_the_cells_about_one(lattice: Graph) -> None:
    task, generator = Full(lattice), torch.Generator().manual_seed(0)
    batch = task.sample(200, generator)
    x = task.damage(batch, generator).x
    positions = lattice.positions.double()
    longest = float((positions.amax(0) - positions.amin(0)).max()) + 1
    for state in x:
        gone = (state == 0).all(1)
        assert torch.equal(state, (~gone).float()[:, None].expand(-1, 2))
        # Some cell is the centre of a ball that holds all that is gone and nothing else.
        distance = torch.cdist(positions, positions)[gone]
        reach = torch.where(gone, distance, 0).amax(1)
        nearest_kept = torch.where(gone, torch.inf, distance).amin(1)
        assert ((reach < nearest_kept) & (reach <= 0.35 * longest) & (nearest_kept > 0.15 * longest)).any()
