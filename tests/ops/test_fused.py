"""The fused step against the reference backend, step by step and through training."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
from torch import Tensor

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.cone import LightCone
from cellgraph.nn import Surface
from cellgraph.ops.fused import build, load_operators
from cellgraph.ops.fused.instruction_set import chosen_instruction_set
from cellgraph.unroll import rollout

if not load_operators():
    pytest.skip("the fused step needs a C++ compiler", allow_module_level=True)

LATTICES = {
    "faces": Lattice((3, 4, 5), 6),
    "edges": Lattice((3, 4, 5), 18, boundary=("open", "periodic", "open")),
    "corners": Lattice((3, 4, 5), 26, boundary="periodic"),
    "masked": Lattice((3, 4, 5), 26, mask=torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)) > 0.3),
    "plane": Lattice((7, 6), 8),
    "ring": Lattice((40,), 2, boundary="periodic"),
    "cube": Lattice((11, 15, 15), 6),
}


def busy(lattice: Lattice, channels: int = 16, hidden: int = 32, **options: object) -> GMLPCell:
    """A cell with no parameter at zero, whose state neither fades nor explodes."""
    cell = GMLPCell(lattice, channels, hidden=hidden, heads=2, **options)
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return cell


def twin(cell: GMLPCell, backend: str) -> GMLPCell:
    twin = GMLPCell(cell.lattice, **cell.config() | {"backend": backend}).to(cell.position.dtype)
    twin.load_state_dict(cell.state_dict())
    return twin.train(cell.training)


def walk_and_pull(cell: GMLPCell, x: Tensor, pull: Tensor, **options: object) -> list[Tensor]:
    """The last state, and the gradients of the first state and of the parameters."""
    x = x.clone().requires_grad_()
    last = rollout(cell, x, num_steps=4, **options).x
    return [last.detach(), *torch.autograd.grad((last * pull).sum(), [x, *cell.parameters()])]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", LATTICES)
def test_states_and_gradients_are_the_reference_s(name: str, batch: int) -> None:
    lattice = LATTICES[name]
    cell = busy(lattice, backend="scatter" if name != "cube" else "stencil", fire_rate=0.7).double()
    x = torch.randn(batch, lattice.num_nodes, 16, dtype=torch.float64)
    pull = torch.randn_like(x)
    for training in (True, False):
        want, got = (
            walk_and_pull(one.train(training), x, pull, generator=torch.Generator().manual_seed(1))
            for one in (cell, twin(cell, "fused"))
        )
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11)


LANES = chosen_instruction_set().vector_bytes // 4


@pytest.mark.parametrize(
    ("channels", "hidden"), [(64, 128), (16, 48), (32, 16), (LANES, 5 * LANES), (3 * LANES, 2 * LANES)]
)
def test_float32_stays_within_rounding(channels: int, hidden: int) -> None:
    lattice = Lattice((4, 5, 6), 6)
    cell = busy(lattice, channels, hidden).double()
    x = torch.randn(3, lattice.num_nodes, channels, dtype=torch.float64)
    pull = torch.randn_like(x)
    want = walk_and_pull(cell, x, pull)
    fused = twin(cell, "fused").float()
    assert fused.fuses(x.float())
    got = walk_and_pull(fused, x.float(), pull.float())
    for a, b in zip(got, want, strict=True):
        # The plain step stays within 1e-6; the operator's activation is good to 1e-7 of one, not of its value.
        assert (a - b).abs().max() < 6e-6 * b.abs().max()


def test_bfloat16_is_no_further_off_than_autocast() -> None:
    """Against float64, the fused step under autocast errs at most 1.5 times as much as the plain step does."""
    lattice = Lattice((5, 6, 7), 6)
    cell = busy(lattice, 64, 128)
    x = torch.randn(4, lattice.num_nodes, 64)
    pull = torch.randn_like(x)
    want = walk_and_pull(cell.double(), x.double(), pull.double())
    cell = cell.float()
    with torch.autocast("cpu", torch.bfloat16):
        plain, quick = walk_and_pull(cell, x, pull), walk_and_pull(twin(cell, "fused"), x, pull)
    for a, b, truth in zip(quick, plain, want, strict=True):
        size = truth.norm()
        assert (a - truth).norm() < 1.5 * (b - truth).norm() + 1e-3 * size
        assert (a - truth).norm() < 0.02 * size


def test_gradcheck() -> None:
    cell = busy(Lattice((2, 2, 3), 6), 8, 8, backend="fused").double()
    x = torch.randn(2, 12, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *_: rollout(cell, x, num_steps=3).x, (x, *cell.parameters()), fast_mode=True
    )


@pytest.mark.parametrize("every", [1, 2, 3, 4, 9, 10**12])
def test_checkpointing_changes_no_bit(every: int) -> None:
    lattice = LATTICES["edges"]
    cell = busy(lattice, backend="fused", fire_rate=0.5)
    x, pull = torch.randn(2, 3, lattice.num_nodes, 16)
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            results = [
                walk_and_pull(cell, x, pull, remat_every=k, generator=torch.Generator().manual_seed(1))
                for k in (0, every)
            ]
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_steps_one_by_one_are_the_steps_at_once() -> None:
    lattice = LATTICES["faces"]
    cell = busy(lattice, backend="fused")
    x = torch.randn(2, lattice.num_nodes, 16)
    at_once = rollout(cell, x, num_steps=5).x
    assert torch.equal(rollout(cell, x, num_steps=5, trajectory=True).x, at_once)
    with torch.no_grad():
        assert torch.equal(rollout(cell, x, num_steps=5).x, at_once)
    clamped = Surface(lattice, "front")
    want = rollout(cell, x, num_steps=5, clamped=clamped).x
    assert not torch.equal(want, at_once)
    found = rollout(twin(cell, "stencil"), x, num_steps=5, clamped=clamped).x
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_workers_changes_only_rounding(threads: int) -> None:
    lattice = Lattice((5, 6, 7), 26)
    cell = busy(lattice, backend="fused").double()
    x, pull = torch.randn(2, 3, lattice.num_nodes, 16, dtype=torch.float64)
    want = walk_and_pull(cell, x, pull)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.testing.assert_close(walk_and_pull(cell, x, pull), want, rtol=1e-11, atol=1e-12)
    finally:
        torch.set_num_threads(before)


def test_shapes_that_do_not_fit_are_refused_before_memory_is_read() -> None:
    lattice = LATTICES["faces"]
    cell = busy(lattice, backend="fused")
    for shape in ((2, 61, 16), (2, 59, 16), (2, 60, 32), (2, 60, 8), (60, 16)):
        with pytest.raises(ValueError, match=r"the state must be \[batch, 60, 16\], got"):
            cell(torch.zeros(shape))
    x = torch.randn(3, 60, 16)
    for shape in ((2, 60, 1), (3, 60), (3, 59, 1), (3, 60, 16)):
        with pytest.raises(ValueError, match=r"update_mask must be \[3, 60, 1\], got"):
            cell(x, torch.ones(shape))
    cone = LightCone(lattice, lattice.face("back"), 2, source=lattice.face("front"))
    own, lent = len(cone.own[0]), len(cone.lent[0])
    for shape in ((lent - 1, 16), (lent, 32), (1, lent, 16)):
        with pytest.raises(ValueError, match=rf"lent must be \[{lent}, 16\] with this cone, got"):
            rollout(cell, torch.zeros(2, own, 16), num_steps=2, cone=cone, lent=torch.zeros(shape))
    x, borrowed = torch.zeros(2, own, 16), torch.zeros(lent, 16)
    with pytest.raises(ValueError, match=rf"lent must be \[{lent}, 16\], got None"):
        cell.walk(x, None, num_steps=2, cone=cone)
    for num_steps in (1, 3):
        with pytest.raises(ValueError, match=f"num_steps must be those of the cone, 2, got {num_steps}"):
            cell.walk(x, None, num_steps=num_steps, cone=cone, lent=borrowed)
    with pytest.raises(ValueError, match="num_steps and every must be positive, got 0 and 1"):
        cell.walk(torch.zeros(2, 60, 16), None, num_steps=0)


@pytest.mark.parametrize("shape", [(1, 60, 1), (3, 1, 1), (60, 1), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_masks_broadcast_as_they_do_with_any_backend(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    cell, x = busy(LATTICES["faces"], backend="fused", step_size=0.5), torch.randn(3, 60, 16)
    mask = (torch.rand(shape) < 0.5).to(dtype)
    torch.testing.assert_close(cell(x, mask), twin(cell, "stencil")(x, mask), rtol=1e-4, atol=1e-5)


def test_what_comes_out_may_be_changed_in_place_and_holds_nothing_else() -> None:
    cell = busy(LATTICES["faces"], backend="fused")
    x = torch.randn(2, 60, 16)
    grads = []
    for backend in ("fused", "stencil"):
        last = rollout(twin(cell, backend), first := x.clone().requires_grad_(), num_steps=4).x
        assert last.untyped_storage().nbytes() == x.untyped_storage().nbytes()
        last[:, :3] = 0.0
        grads.append(torch.autograd.grad(last.square().sum(), first)[0])
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


def test_where_it_does_not_fit_the_plain_step_runs() -> None:
    lattice = LATTICES["faces"]
    cell = busy(lattice, 6, 16, backend="fused")
    assert not cell.fuses(torch.zeros(1, 60, 6))
    cell = busy(lattice, backend="fused")
    x = torch.randn(2, 60, 16)
    assert cell.fuses(x)
    assert not cell.fuses(x.half())
    assert not cell.double().fuses(x)
    cell.float()
    assert not cell.fuses(x.to("meta"))
    with torch.autocast("cpu", torch.float16):
        assert not cell.fuses(x)
    jacobian = torch.func.jacrev(lambda x: cell(x).sum(-1))(x)
    assert jacobian.shape == (2, 60, 2, 60, 16)
    torch.testing.assert_close(torch.compile(cell, backend="aot_eager")(x), cell(x), rtol=1e-4, atol=1e-5)


def test_taken_once_and_the_network_stays_the_identity() -> None:
    model = CellGraph(GMLPCell(Lattice((3, 4, 4)), 16, hidden=16), in_features=16, surface_channels=1, num_steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.cell.backend = "fused"
    question = torch.randn(4, 16)
    assert model.cell.fuses(torch.zeros(4, 48, 16))
    torch.testing.assert_close(model(question).embedding, question, rtol=1e-4, atol=1e-5)


def test_weights_of_their_own_are_refused() -> None:
    with pytest.raises(ValueError, match="'fused' shares its weights between all cells, use 'stencil'"):
        GMLPCell(LATTICES["faces"], 16, hidden=16, sharing="cell", backend="fused")


def test_without_a_compiler_a_warning_and_the_plain_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    monkeypatch.setattr(build, "_is_loaded", lambda: False)
    load_operators.cache_clear()
    try:
        cell = GMLPCell(LATTICES["faces"], 16, hidden=16)
        with pytest.warns(UserWarning, match="needs a C\\+\\+ compiler, found none"):
            assert not load_operators()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not load_operators()
        assert not cell.fuses(torch.zeros(1, 60, 16))
        assert cell(torch.zeros(1, 60, 16)).shape == (1, 60, 16)
    finally:
        load_operators.cache_clear()


def test_a_failing_compiler_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    broken = tmp_path / "c++"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "fatal error: no such header" >&2\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setattr(build, "_is_loaded", lambda: False)
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path))
    load_operators.cache_clear()
    try:
        with pytest.warns(UserWarning, match="could not be built, .*: fatal error: no such header$"):
            assert not load_operators()
        assert not list((tmp_path / "operators").iterdir())
    finally:
        load_operators.cache_clear()


def test_a_second_library_is_not_loaded_into_a_process(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path))
    load_operators.cache_clear()
    assert load_operators()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_it_is_built_once_and_says_so(tmp_path) -> None:
    program = "from cellgraph.ops.fused import load_operators; assert load_operators()"
    told = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"CELLGRAPH_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        told.append("building the fused step" in done.stderr)
    assert told == [True, False]
    assert len(list((tmp_path / "operators").iterdir())) == 1
