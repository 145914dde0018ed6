"""What a rollout keeps for backward, against what can be counted by hand."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor, nn

from cellgraph import GMLPCell, Lattice, rollout
from cellgraph.analysis import SavedTensors


class Square(nn.Module):
    """x * x keeps its input once, though it needs it twice."""

    def forward(self, x: Tensor, update_mask: Tensor | None = None) -> Tensor:
        return x * x


class Rotation(nn.Module):
    """A product with a fixed matrix needs nothing but the matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(4))

    def forward(self, x: Tensor, update_mask: Tensor | None = None) -> Tensor:
        return x @ self.matrix


def walk(cell: nn.Module, steps: int) -> SavedTensors:
    with SavedTensors(cell) as kept:
        x = torch.ones(2, 3, 4, requires_grad=True)
        for _ in range(steps):
            x = cell(x)
    return kept


def test_bytes_of_a_square() -> None:
    kept = walk(Square(), 3)
    assert kept.bytes_per_step() == [2 * 3 * 4 * 4] * 3
    assert [tensor.step for tensor in kept.tensors] == [0, 1, 2]
    assert {tensor.shape for tensor in kept.tensors} == {(2, 3, 4)}
    (place,) = kept.bytes_per_place()
    assert place.startswith(f"{__name__}:")
    assert place.endswith(" forward")
    assert "288 bytes" in str(kept)


def test_the_modules_own_tensors_do_not_count() -> None:
    assert walk(Rotation(), 3).tensors == []


def test_a_view_keeps_its_whole_storage() -> None:
    with SavedTensors(nn.Identity()) as kept:
        x = torch.ones(1000, requires_grad=True) * 2.0
        y = x[:10] * torch.ones(10, requires_grad=True)
    assert y.requires_grad
    assert max(tensor.num_bytes for tensor in kept.tensors) == 4000


def test_nothing_is_kept_without_gradients() -> None:
    with torch.no_grad():
        assert walk(Square(), 3).bytes_per_step() == []


def test_a_checkpointed_rollout_keeps_one_state_a_chunk() -> None:
    cell = GMLPCell(Lattice((3, 4, 4)), 8, hidden=16, heads=2)
    state = 2 * 48 * 8 * 4
    with SavedTensors(cell) as kept:
        rollout(cell, torch.randn(2, 48, 8), num_steps=6, remat_every=3)
    assert kept.bytes_per_step() == [state, 0, 0, state]


def test_every_step_of_a_cell_keeps_the_same() -> None:
    cell = GMLPCell(Lattice((3, 4, 4)), 8, hidden=16, heads=2)
    with SavedTensors(cell) as kept:
        rollout(cell, torch.randn(2, 48, 8), num_steps=4)
    steps = kept.bytes_per_step()
    assert len(steps) == 4
    assert len(set(steps[1:])) == 1
    # At the very least the two halves of the gated block, before and after the nonlinearity.
    assert steps[1] >= 2 * 2 * 48 * 32 * 4


def test_what_was_kept_is_freed_with_its_graph() -> None:
    x = torch.randn(3, requires_grad=True)
    with SavedTensors(nn.Identity()) as kept:
        # It keeps its output.
        y = x.tanh()
    assert len(kept.tensors) == 1
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(first, 1 - x.tanh() ** 2)
    torch.testing.assert_close(second, -2 * x.tanh() * (1 - x.tanh() ** 2))
    # Nor is one that no gradient has gone through.
    with kept:
        z = x.tanh()
    alive = weakref.ref(z)
    del z
    assert alive() is None


def test_nothing_stays_on_the_cell() -> None:
    cell = Square()
    walk(cell, 1)
    assert not cell._forward_hooks
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(1) or t, lambda t: t):
        cell(torch.ones(2, requires_grad=True))
    assert len(sizes) == 2
