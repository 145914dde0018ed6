"""The rollout as a pure function: checkpointing, memory, random updates, reach."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cellgraph import GMLPCell, Lattice, rollout
from cellgraph.nn import Surface

LATTICE = Lattice((3, 3, 4))


def busy(lattice: Lattice = LATTICE, **options: object) -> GMLPCell:
    cell = GMLPCell(lattice, 6, hidden=8, heads=2, **options)
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return cell


def gradients(cell: GMLPCell, x: Tensor, **options: object) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    y = rollout(cell, x, generator=generator, **options).x
    return [y.detach(), *torch.autograd.grad(y.square().sum(), list(cell.parameters()))]


@pytest.mark.parametrize("every", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("autocast", [False, True])
def test_checkpointing_changes_no_bit(every: int, autocast: bool) -> None:
    cell, x = busy(fire_rate=0.5), torch.randn(2, 36, 6)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = gradients(cell, x, num_steps=7)
        found = gradients(cell, x, num_steps=7, remat_every=every)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_checkpointing_keeps_fewer_tensors() -> None:
    def kept(**options: object) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            rollout(busy(), torch.randn(2, 36, 6), num_steps=12, **options)
        return sum(sizes)

    assert kept(remat_every=4) < 0.2 * kept()
    assert kept(remat_every=1) < 0.2 * kept()


def test_no_fixed_point_is_looked_for_where_cells_draw_whether_they_update() -> None:
    """With a rate so small that some step moves nobody."""
    cell, x = busy(fire_rate=0.01, always_random=True).eval(), torch.randn(1, 36, 6)
    with torch.no_grad():
        states = rollout(cell, x, num_steps=20, generator=torch.Generator().manual_seed(0), trajectory=True)
        assert any(torch.equal(a, b) for a, b in itertools.pairwise(states.trajectory))
        found = rollout(cell, x, num_steps=20, generator=torch.Generator().manual_seed(0), tolerance=1e-6)
    assert found.num_steps == 20
    assert torch.equal(found.x, states.x)


def test_two_rollouts_are_one_long_one() -> None:
    cell, x = busy(), torch.randn(2, 36, 6)
    middle = rollout(cell, x, num_steps=3)
    assert torch.equal(rollout(cell, middle.x, num_steps=4).x, rollout(cell, x, num_steps=7).x)


def test_memory_survives_and_everything_else_does_not() -> None:
    cell, x = busy(memory_channels=2), torch.randn(2, 36, 6)
    first = rollout(cell, x, num_steps=3)
    assert first.memory is not None
    assert torch.equal(first.memory, first.x[..., 4:])
    joined = torch.cat([x[..., :4], first.memory], dim=-1)
    expected = joined
    for _ in range(3):
        expected = cell(expected)
    assert torch.equal(rollout(cell, x, first.memory, num_steps=3).x, expected)
    zeroed = torch.cat([x[..., :4], torch.zeros(2, 36, 2)], dim=-1)
    assert torch.equal(first.x, rollout(cell, zeroed, num_steps=3).x)


def test_detached_memory_can_be_trained_through_for_ever() -> None:
    """The old failure was "backward through the graph a second time"."""
    cell = busy(memory_channels=2)
    memory = None
    for _ in range(20):
        out = rollout(cell, torch.randn(2, 36, 6), memory, num_steps=2, remat_every=2)
        out.x.square().mean().backward()
        assert out.memory is not None
        memory = out.memory.detach()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cell.parameters())


def test_clamped_cells_stay_as_injected() -> None:
    cell, surface = busy(), Surface(LATTICE, "front", channels=2)
    x = surface.inject(torch.randn(2, surface.width), num_channels=6)
    out = rollout(cell, x, num_steps=4, clamped=surface, trajectory=True)
    assert out.trajectory is not None
    assert out.trajectory.shape == (5, 2, 36, 6)
    assert torch.equal(out.trajectory[-1], out.x)
    for state in out.trajectory:
        assert torch.equal(surface.extract(state), surface.extract(x))


def test_it_stops_at_a_fixed_point_without_gradients_only() -> None:
    cell = GMLPCell(LATTICE, 6, hidden=8)
    cell.set_conveyor(None, 0.5)
    x = torch.ones(1, 36, 6)
    with torch.no_grad():
        stopped = rollout(cell, x, num_steps=10_000, tolerance=1e-4)
    assert stopped.num_steps < 10_000
    assert float((cell(stopped.x) - stopped.x).abs().max()) < 1e-4
    assert rollout(cell, x, num_steps=50, tolerance=1e9).num_steps == 50


def test_random_updates_are_the_generators_and_of_the_right_rate() -> None:
    cell, x = busy(fire_rate=0.3), torch.randn(4, 36, 6)
    one, two, other = (
        rollout(cell, x, num_steps=5, generator=torch.Generator().manual_seed(seed)).x for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    step = rollout(cell, x.repeat(100, 1, 1), num_steps=1, generator=torch.Generator().manual_seed(0)).x
    changed = (step != x.repeat(100, 1, 1)).any(-1).float().mean()
    # 14,400 draws: five standard errors are 0.019.
    assert float(changed) == pytest.approx(0.3, abs=0.02)
    cell.eval()
    assert torch.equal(rollout(cell, x, num_steps=3).x, rollout(cell, x, num_steps=3).x)


@given(st.sampled_from([6, 18, 26]), st.integers(0, 4), st.integers(0, 59))
@settings(max_examples=25, deadline=None)
def test_influence_reaches_exactly_as_far_as_the_steps(count: int, num_steps: int, target: int) -> None:
    lattice = Lattice((3, 4, 5), count, boundary=("open", "open", "periodic"))
    cell = busy(lattice).double()
    x = torch.randn(1, 60, 6, dtype=torch.float64, requires_grad=True)
    y = rollout(cell, x, num_steps=num_steps).x
    (grad,) = torch.autograd.grad(y[0, target].sum(), x)
    distance = lattice.hops(torch.arange(60) == target)
    influences = grad[0].abs().sum(-1)
    assert (influences[distance > num_steps] == 0).all()
    assert (influences[distance <= num_steps] > 0).all()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="must not be negative, got -1 and 0"):
        rollout(busy(), torch.zeros(1, 36, 6), num_steps=-1)
    with pytest.raises(ValueError, match=r"memory must be \[1, 36, 2\], got \[1, 36, 3\]"):
        rollout(busy(memory_channels=2), torch.zeros(1, 36, 6), torch.zeros(1, 36, 3), num_steps=1)
