"""A memory that still carries a graph is reported with the step it came from."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from cellgraph import GMLPCell, Lattice, rollout
from cellgraph.analysis import StaleGraph, StaleGraphs

LATTICE = Lattice((3, 3))


def train(cell: GMLPCell, *, detach: bool, updates: int = 3, remat_every: int = 0) -> None:
    memory: Tensor | None = None
    for update in range(updates):
        run = rollout(cell, torch.ones(1, 9, 4), memory, num_steps=2 + update, remat_every=remat_every)
        assert run.memory is not None
        run.x.square().sum().backward()
        memory = run.memory.detach() if detach else run.memory


@pytest.fixture
def cell() -> GMLPCell:
    cell = GMLPCell(LATTICE, 4, hidden=4, heads=2, memory_channels=2)
    torch.nn.init.normal_(cell.out_weight)
    return cell


@pytest.mark.parametrize("remat_every", [0, 2])
def test_a_detached_memory_is_silent(cell: GMLPCell, remat_every: int) -> None:
    with StaleGraphs(cell) as carried, warnings.catch_warnings():
        warnings.simplefilter("error")
        train(cell, detach=True, remat_every=remat_every)
    assert carried.found == []


@pytest.mark.parametrize("remat_every", [0, 2])
def test_a_forgotten_detach_is_named_before_autograd_fails(cell: GMLPCell, remat_every: int) -> None:
    message = "step 0 of update 1 still carries the graph of step 1 of update 0"
    with StaleGraphs(cell) as carried, pytest.warns(UserWarning, match=message), pytest.raises(RuntimeError):
        train(cell, detach=False, remat_every=remat_every)
    assert carried.found == [StaleGraph(update=1, step=0, from_update=0, from_step=1)]


def test_a_kept_graph_is_found_where_autograd_stays_silent(cell: GMLPCell) -> None:
    # Detached but for the third update: there retain_graph hides the mistake and the graph grows.
    memory = None
    with StaleGraphs(cell) as carried, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for update in range(4):
            run = rollout(cell, torch.ones(1, 9, 4), memory, num_steps=5)
            assert run.memory is not None
            run.x.sum().backward(retain_graph=True)
            memory = run.memory if update == 2 else run.memory.detach()
    assert carried.found == [StaleGraph(update=3, step=0, from_update=2, from_step=4)]


def test_two_turns_of_one_update_are_no_mistake(cell: GMLPCell) -> None:
    with StaleGraphs(cell) as carried:
        first = rollout(cell, torch.ones(1, 9, 4), num_steps=3)
        second = rollout(cell, torch.ones(1, 9, 4), first.memory, num_steps=3)
        second.x.sum().backward()
    assert carried.found == []


def test_nothing_stays_on_the_cell(cell: GMLPCell) -> None:
    with StaleGraphs(cell):
        rollout(cell, torch.ones(1, 9, 4), num_steps=1)
    assert not cell._forward_hooks
    assert not cell._forward_pre_hooks


def test_a_compiled_cell_is_refused(cell: GMLPCell) -> None:
    cell.compile()
    with pytest.raises(ValueError, match="not compiled"):
        StaleGraphs(cell)


def test_a_rollout_in_one_piece_is_not_passed_over_in_silence(cell: GMLPCell) -> None:
    with pytest.warns(UserWarning, match="no step was seen"), StaleGraphs(cell):
        pass
