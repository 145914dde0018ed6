"""The peers against the cell, and the floor's arithmetic against what PyTorch counts."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cellgraph import GMLPCell, Lattice, rollout
from cellgraph.benchmarks.floor import floor_call, floor_flops
from cellgraph.benchmarks.peers import PEERS, TORCH_PEERS, peer_contender
from cellgraph.benchmarks.setting import Setting
from cellgraph.ops import find_backend
from cellgraph.testing import randomise

CPU = torch.device("cpu")


def cell_of(neighbourhood: int) -> GMLPCell:
    cell = GMLPCell(Lattice((3, 4, 5), neighbourhood), 8, hidden=16, heads=4, backend="scatter").double()
    randomise(cell)
    return cell


@pytest.mark.parametrize("neighbourhood", [6, 26])
@pytest.mark.parametrize("name", TORCH_PEERS)
def test_a_peer_is_the_cell(name: str, neighbourhood: int) -> None:
    if name == "segment_csr" and find_backend("segment").needs():
        pytest.skip("torch_scatter is not installed")
    cell = cell_of(neighbourhood)
    peer = TORCH_PEERS[name](cell)
    x = torch.randn(2, 60, 8, dtype=torch.float64, requires_grad=True)
    inputs = (x, *cell.parameters())
    wanted, found = cell(x), peer(x)
    torch.testing.assert_close(found, wanted)
    weigh = torch.randn_like(wanted)
    expected = torch.autograd.grad((wanted * weigh).sum(), inputs)
    for gradient, reference in zip(torch.autograd.grad((found * weigh).sum(), inputs), expected, strict=True):
        torch.testing.assert_close(gradient, reference)


@pytest.mark.skipif(importlib.util.find_spec("cax") is None, reason="cax is not installed")
@pytest.mark.parametrize("neighbourhood", [6, 26])
def test_the_peer_in_jax_is_the_cell(neighbourhood: int) -> None:
    import jax
    import jax.numpy as jnp

    from cellgraph.benchmarks.cax_peer import GMLPSystem

    cell = cell_of(neighbourhood).float()
    x = torch.randn(2, 60, 8)
    grid = jnp.asarray(x.numpy().reshape(2, 3, 4, 5, 8))
    weigh = torch.randn(2, 60, 8)

    def system_loss(grid: jax.Array, dtype: object) -> tuple[jax.Array, jax.Array]:
        y = GMLPSystem(cell, dtype)(grid, num_steps=2)
        return jnp.vdot(y, jnp.asarray(weigh.numpy().reshape(y.shape))), y

    x.requires_grad_()
    wanted = rollout(cell, x, num_steps=2).x
    (wanted_gradient,) = torch.autograd.grad((wanted * weigh).sum(), x)
    gradient, found = jax.grad(system_loss, has_aux=True)(grid, jnp.float32)
    torch.testing.assert_close(
        torch.from_numpy(found.__array__().copy()).reshape(x.shape), wanted, rtol=1e-3, atol=1e-4
    )
    gradient = torch.from_numpy(gradient.__array__().copy()).reshape(x.shape)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-3, atol=1e-3)
    _, lower = system_loss(grid, jnp.bfloat16)
    error = (torch.from_numpy(lower.__array__().copy()).reshape(x.shape) - wanted).norm() / wanted.norm()
    assert 0 < error < 0.02


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_the_floor_does_the_products_it_says(mode: str) -> None:
    setting = Setting("floor", (2, 3, 4), channels=8, hidden=16, num_steps=3, batch=5, dtype="float32", mode=mode)
    call = floor_call(setting, CPU)
    with FlopCounterMode(display=False) as counter:
        call(3)
    assert counter.get_total_flops() == floor_flops(setting)
    # A product of [rows, m] and [m, n] takes 2 rows m n; 24 cells, 5 samples, 3 steps: 8 to 32 wide, 16 to 8 wide.
    forward = 3 * (24 * 5) * 2 * (8 * 32 + 16 * 8)
    assert floor_flops(setting) == forward * (3 if mode == "train" else 1)


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_the_floor_of_a_light_cone_is_that_of_its_cells(mode: str) -> None:
    # Three layers of 8 x 8 cells, two steps from face to face: one layer differs by sample at every step; ahead of it
    # two layers are alike in all samples before the first step, one before the second, none after it.
    setting = Setting(
        "floor", (3, 8, 8), channels=8, hidden=16, num_steps=2, batch=5, dtype="float32", mode=mode, cone=True
    )
    call = floor_call(setting, CPU)
    with FlopCounterMode(display=False) as counter:
        call(2)
    into, out = 64 * ((5 + 2) + (5 + 1)), 64 * ((5 + 1) + (5 + 0))
    expected = 2 * (into * 8 * 32 + out * 16 * 8) * (3 if mode == "train" else 1)
    assert counter.get_total_flops() == floor_flops(setting) == expected


def test_a_peer_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=rf"peer must be one of .*{PEERS[0]}.*, got 'numpy'"):
        peer_contender(Setting("numpy"), CPU)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="torch_scatter is not installed"):
        peer_contender(Setting("segment_csr"), CPU)


def test_the_loop_is_extrapolated_by_cells() -> None:
    setting = Setting("python_loop", (4, 4, 8), channels=8, hidden=16, num_steps=1, batch=1, dtype="float32")
    contender = peer_contender(setting, CPU)
    assert contender.share == 0.5
    assert "64 cells" in contender.note
    contender.warm_up(CPU, slot=0)
    contender.play()
    assert contender.peak_bytes is None
    assert len(contender.seconds) == 1
