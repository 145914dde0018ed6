"""The Triton kernels against the backend ``scatter``: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph import GMLPCell, Lattice, testing
from cellgraph.lattice import NEIGHBOURHOODS
from cellgraph.ops import NeighbourSum
from cellgraph.ops.triton import backend as triton_backend
from cellgraph.ops.triton import stencil as triton_stencil
from cellgraph.ops.triton.gate import fits_gated_step, gated_step
from cellgraph.ops.triton.stencil import neighbour_table, triton_sum

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# A GPU rounds to the nearest bfloat16, the interpreter cuts off.
CUT = 1 if DEVICE == "cuda" else 2
SHAPES = {1: (5,), 2: (4, 3), 3: (3, 4, 3)}
BOUNDARIES = {
    1: [("open",), ("periodic",)],
    2: [("open", "open"), ("open", "periodic"), ("periodic", "periodic")],
    3: [("open",) * 3, ("periodic", "open", "periodic"), ("periodic",) * 3],
}
CASES = [
    pytest.param(dim, count, boundary, masked, id=f"{dim}d-{count}-{'-'.join(boundary)}-{'mask' if masked else 'full'}")
    for dim in (1, 2, 3)
    for count in NEIGHBOURHOODS[dim]
    for boundary in BOUNDARIES[dim]
    for masked in (False, True)
]

if importlib.util.find_spec("triton") is None:
    pytestmark = pytest.mark.skip(reason="triton is not installed")
elif DEVICE == "cpu" and importlib.metadata.version("triton").startswith("3.6."):
    pytestmark = pytest.mark.skip(reason="the interpreter of Triton 3.6 does not work with numpy 2.4; 3.7's does")

needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="there is no NVIDIA GPU")


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).to(DEVICE, dtype).requires_grad_()


def with_gradients(lattice: Lattice, backend: str, x: Tensor, weight: Tensor, cotangent: Tensor) -> list[Tensor]:
    y = NeighbourSum(lattice, backend=backend).to(DEVICE)(x, weight)
    return [y, *torch.autograd.grad(y, (x, weight), cotangent.to(y.dtype))]


@pytest.mark.parametrize(("dim", "count", "boundary", "masked"), CASES)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "each"])
def test_equals_the_reference(dim: int, count: int, boundary: tuple[str, ...], masked: bool, shared: bool) -> None:
    mask = torch.rand(SHAPES[dim]) > 0.3 if masked else None
    lattice = Lattice(SHAPES[dim], count, boundary=boundary, mask=mask)
    x, cotangent = draw(2, lattice.num_nodes, 3), draw(2, lattice.num_nodes, 3)
    weight = draw(count + 1, 1 if shared else lattice.num_nodes, 3)
    expected = with_gradients(lattice, "scatter", x, weight, cotangent)
    found = with_gradients(lattice, "triton", x, weight, cotangent)
    for name, a, b in zip(("sum", "grad x", "grad weight"), found, expected, strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, n=name: f"{n}: {text}")


class Whole(int):
    """A number that refuses the remainder of a negative one: compiled, that is negative, and Python's is not."""

    asked = 0

    def __rmod__(self, other: int) -> int:
        assert other >= 0, f"{other} % {self} is {other % int(self)} in Python, {-(-other % int(self))} on a GPU"
        Whole.asked += 1
        return other % int(self)


@pytest.mark.skipif(DEVICE == "cuda", reason="the kernels are compiled, and nothing can look into them")
def test_remainders_are_what_a_gpu_makes_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_stencil, "len", lambda tensors: Whole(len(tensors)), raising=False)
    monkeypatch.setattr(Whole, "asked", 0)
    lattice = Lattice((4, 3), 8)
    expected = with_gradients(lattice, "scatter", *(tensors := [draw(2, 12, 3), draw(9, 1, 3), draw(2, 12, 3)]))
    for a, b in zip(with_gradients(lattice, "triton", *tensors), expected, strict=True):
        torch.testing.assert_close(a, b)
    assert Whole.asked


def test_more_places_than_32_bits_count_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lattice = Lattice((4, 3), 8)
    monkeypatch.setattr(triton_backend, "MOST_PLACES", 9 * 12)
    GMLPCell(lattice, 4, hidden=4, heads=2, backend="triton")
    monkeypatch.setattr(triton_backend, "MOST_PLACES", 9 * 12 - 1)
    with pytest.raises(ValueError, match="'triton' counts up to 107 places of neighbours, got 12 cells"):
        GMLPCell(lattice, 4, hidden=4, heads=2, backend="triton")


@pytest.mark.parametrize("channels", [1, 16, 130, 300])
def test_any_width_and_many_rows_a_program(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Widths over a block of channels, and more rows than there are programs for the gradient of the weights."""
    monkeypatch.setattr(triton_stencil, "PROGRAMS", 4)
    lattice = Lattice((3, 5), 8)
    x, weight = draw(3, 15, channels, dtype=torch.float32), draw(9, 1, channels, dtype=torch.float32)
    cotangent = draw(3, 15, channels, dtype=torch.float32)
    expected = with_gradients(lattice, "scatter", x.double(), weight.double(), cotangent)
    for a, b in zip(with_gradients(lattice, "triton", x, weight, cotangent), expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "each"])
@pytest.mark.parametrize(("dtype", "bits"), [(torch.bfloat16, 8), (torch.float16, 11), (torch.float32, 24)])
def test_a_narrow_sum_is_rounded_once(dtype: torch.dtype, bits: int, shared: bool) -> None:
    """From narrow input to narrow output half a unit in the last place, beside float32's own error in the sum."""
    lattice = Lattice((3, 4, 3), 26, boundary=("periodic", "open", "periodic"))
    x, cotangent = draw(3, 36, 5, dtype=dtype), draw(3, 36, 5, dtype=dtype)
    weight = draw(27, 1 if shared else 36, 5, dtype=dtype)
    expected = with_gradients(lattice, "scatter", x.double(), weight.double(), cotangent)
    found = with_gradients(lattice, "triton", x, weight, cotangent)
    bound = 2.0**-bits * (CUT if dtype == torch.bfloat16 else 1)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        assert ((a.double() - b).abs() <= bound * b.abs() + 1e-4).all()


@pytest.mark.parametrize(
    ("boundary", "masked", "neighbourhood"),
    [("open", False, 6), (("open", "periodic", "open"), True, 18), ("periodic", False, 26)],
)
@pytest.mark.parametrize("options", [{}, {"fire_rate": 0.7}, {"sharing": "layer"}], ids=str)
def test_a_cell_equals_the_reference(
    boundary: str, masked: bool, neighbourhood: int, options: dict[str, object]
) -> None:
    mask = torch.rand(3, 3, 4) > 0.3 if masked else None
    lattice = Lattice((3, 3, 4), neighbourhood, boundary=boundary, mask=mask)
    cell = GMLPCell(lattice, 5, hidden=6, heads=2, **options)
    testing.randomise(cell)
    testing.assert_matches_reference(cell.to(DEVICE), backend="triton")


def pieces(dtype: torch.dtype, *, masked: bool = True) -> tuple[Lattice, list[Tensor | None]]:
    """Arguments of the fused step; uv and the projection in ``dtype``, the rest in float32 at least."""
    lattice = Lattice((3, 4, 3), 6, boundary=("open", "periodic", "open"), mask=torch.rand(3, 4, 3) > 0.2)
    nodes, hidden, channels = lattice.num_nodes, 20, 7
    wide = torch.promote_types(dtype, torch.float32)
    tensors: list[Tensor | None] = [
        draw(2, nodes, 2 * hidden, dtype=dtype),
        draw(2, nodes, channels, dtype=wide),
        draw(hidden, dtype=wide),
        draw(hidden, dtype=wide),
        draw(7, 1, hidden, dtype=wide),
        draw(hidden, dtype=wide),
        draw(channels, hidden, dtype=dtype),
        draw(channels, dtype=wide),
        draw(7, 1, channels, dtype=wide),
        draw(2, nodes, 1, dtype=wide) if masked else None,
    ]
    return lattice, tensors


def by_the_book(lattice: Lattice, uv: Tensor, x: Tensor, *weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """The new state, and the gated values before the projection."""
    norm_weight, norm_bias, gate_weight, gate_bias, out_weight, out_bias, transport, mask = weights
    layer = NeighbourSum(lattice, backend="scatter").to(DEVICE)
    u, v = uv.chunk(2, dim=-1)
    gated = u * (gate_bias + layer(F.layer_norm(v, v.shape[-1:], norm_weight, norm_bias), gate_weight))
    change = F.linear(gated, out_weight, out_bias) + layer(x, transport)
    return x + (change if mask is None else mask * change), gated


@pytest.mark.parametrize("masked", [True, False])
def test_the_fused_step_and_all_its_gradients(masked: bool) -> None:
    lattice, tensors = pieces(torch.float64, masked=masked)
    table = neighbour_table(lattice).to(DEVICE)
    given = [t for t in tensors if t is not None]
    expected, found = by_the_book(lattice, *tensors)[0], gated_step(*tensors, table)
    torch.testing.assert_close(found, expected)
    cotangent = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad(found, given, cotangent), torch.autograd.grad(expected, given, cotangent), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_the_fused_step_in_bfloat16() -> None:
    """Forward: the gated values are rounded once, to half a unit of eight bits, and projected in float32; gradients:
    within 2 % in norm."""
    lattice, tensors = pieces(torch.bfloat16)
    doubles = [t.detach().double().requires_grad_() for t in tensors]
    (expected, gated), found = by_the_book(lattice, *doubles), gated_step(*tensors, neighbour_table(lattice).to(DEVICE))
    assert found.dtype == torch.float32
    bound = CUT * 2.0**-8 * doubles[9].abs() * (gated.abs() @ doubles[6].abs().T)
    assert ((found.double() - expected).abs() <= bound + 1e-4).all()
    cotangent = torch.randn_like(found)
    gradients = torch.autograd.grad(found, tensors, cotangent)
    references = torch.autograd.grad(expected, doubles, cotangent.double())
    for a, b in zip(gradients, references, strict=True):
        assert (a.double() - b).norm() <= 0.02 * b.norm()


def test_under_autocast_a_cell_is_close_to_the_reference() -> None:
    """The default cell's step in bfloat16 mixed precision: within 1 % of the change in norm, forward and backward."""
    lattice = Lattice((3, 3, 2))
    results = []
    for backend, dtype in (("scatter", torch.float64), ("triton", torch.float32)):
        cell = GMLPCell(lattice, backend=backend).to(DEVICE)
        testing.randomise(cell, std=0.1)
        cell = cell.to(dtype)
        x = torch.linspace(-1, 1, 2 * 18 * 64, device=DEVICE, dtype=dtype).sin().reshape(2, 18, 64).requires_grad_()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == torch.float32):
            change = cell(x) - x
        assert change.dtype == dtype
        results.append([change, *torch.autograd.grad(change.square().sum(), (x, *cell.parameters()))])
    for reference, found in zip(*results, strict=True):
        assert (found.double() - reference).norm() <= 0.01 * reference.norm()


def test_a_wide_cell_goes_unfused() -> None:
    cell = GMLPCell(Lattice((2, 3)), 4, hidden=1040, heads=2)
    assert not fits_gated_step(cell.channels, cell.hidden)
    testing.randomise(cell, std=0.05)
    testing.assert_matches_reference(cell.to(DEVICE), backend="triton")


def test_the_compiler_keeps_the_operators() -> None:
    cell = GMLPCell(Lattice((2, 3)), 4, hidden=6, heads=2, backend="triton").to(DEVICE)
    testing.randomise(cell)
    called = []

    def look(module: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        called.extend(node.target for node in module.graph.nodes)
        return torch._dynamo.lookup_backend("aot_eager")(module, inputs)

    x = draw(2, 6, 4, dtype=torch.float32)
    compiled, eager = torch.compile(cell, fullgraph=True, backend=look)(x), cell(x)
    assert torch.ops.cellgraph.gated_step.default in called or gated_step in called
    torch.testing.assert_close(compiled, eager)
    parameters = (x, *cell.parameters())
    gradients = (torch.autograd.grad(y.square().sum(), parameters) for y in (compiled, eager))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_the_operators_are_well_formed() -> None:
    """Schema, fake and autograd registration, by torch's own check."""
    lattice, tensors = pieces(torch.float64)
    table, nodes = neighbour_table(lattice).to(DEVICE), lattice.num_nodes
    x, weight = draw(2, nodes, 3, dtype=torch.float32), draw(7, 1, 3, dtype=torch.float32)
    torch.library.opcheck(torch.ops.cellgraph.neighbour_sum.default, (x, weight, table, False, torch.float64))
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    products = torch.ops.cellgraph.neighbour_products.default
    torch.library.opcheck(products, (x, x.detach() + 1, table, 1, torch.float32), test_utils=checks)
    torch.library.opcheck(torch.ops.cellgraph.gated_step.default, (*tensors, table), test_utils=checks)


def test_what_is_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from cellgraph.ops.triton import kernels

    monkeypatch.setattr(kernels, "INTERPRETED", False)
    with pytest.raises(ValueError, match="runs on a GPU, got a tensor on cpu"):
        triton_sum(torch.zeros(1, 2, 1), torch.zeros(3, 1, 1), neighbour_table(Lattice((2,))), False, torch.float32)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'triton' needs a GPU, or Triton's interpreter: set TRITON_INTERPRET=1"):
        NeighbourSum(Lattice((3,)), backend="triton")
    monkeypatch.setattr(triton_backend.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'triton' needs triton: pip install cellgraph\[gpu\]"):
        GMLPCell(Lattice((3,)), backend="triton")


# The interpreter runs Python; what the real compiler thinks of the kernels can be asked without a GPU.
COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from cellgraph.ops.triton import kernels

WIDTHS = dict(BLOCK_ROWS=16, BLOCK_HIDDEN=128, BLOCK_CHANNELS=64, BLOCK_TAPS=32, TAPS=27)
NARROW = {"x", "y", "uv", "grad", "out_weight", "update_mask"}
INTEGERS = {"num_rows", "num_nodes", "channels", "hidden", "rows_each", "program_step", "row_step"}
for kind, precision in (("bf16", "ieee"), ("fp32", "tf32x3"), ("fp64", "ieee")):
    choices = dict(
        WIDTHS, PER_NODE=kind == "fp32", TRANSPOSED=True, MASKED=True, EPS=1e-5, PRECISION=precision, WIDEN=False,
        DOUBLE=kind == "fp64",
    )
    wide = "*fp64" if kind == "fp64" else "*fp32"
    for kernel in (kernels.neighbour_sum_kernel, kernels.neighbour_products_kernel, kernels.gated_step_kernel):
        constants = {name: choices[name] for name in kernel.arg_names if name in choices}
        types = {name: "*" + kind if name in NARROW else wide for name in kernel.arg_names}
        types |= {name: "i32" for name in INTEGERS & set(types)} | {"neighbours": "*i32"}
        types |= {name: "constexpr" for name in constants}
        built = triton.compile(ASTSource(kernel, types, constants), target=GPUTarget("cuda", 90, 32))
        assert built.metadata.shared <= 227 * 1024, (kernel, kind, built.metadata.shared)
        print(kernel.__name__, kind, built.metadata.shared)
"""


def test_the_kernels_compile_for_an_nvidia_gpu(tmp_path: Path) -> None:
    """For compute capability 9.0, within the memory a block may have there, 227 KB (CUDA programming guide)."""
    script = tmp_path / "compile_kernels.py"
    script.write_text(textwrap.dedent(COMPILE))
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 9


@pytest.mark.gpu
@needs_gpu
def test_equal_input_gives_equal_bits() -> None:
    lattice = Lattice((11, 15, 15), 18)
    x, weight, cotangent = (
        draw(*shape, dtype=torch.float32) for shape in ((64, 2475, 128), (19, 1, 128), (64, 2475, 128))
    )
    first, second = (with_gradients(lattice, "triton", x, weight, cotangent) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("neighbourhood", [6, 26])
def test_the_default_cube_on_a_gpu(neighbourhood: int) -> None:
    """The default cell, compiled, in bfloat16 mixed precision, against the reference in float64 on the CPU."""
    lattice = Lattice((11, 15, 15), neighbourhood)
    cell = GMLPCell(lattice, backend="triton").cuda()
    testing.randomise(cell, std=0.1)
    reference = GMLPCell(lattice, backend="scatter").double()
    reference.load_state_dict(cell.state_dict())
    x = torch.randn(2, lattice.num_nodes, 64)
    results = []
    for network, device, dtype in ((reference, "cpu", torch.float64), (torch.compile(cell), "cuda", torch.float32)):
        start = x.to(device, dtype).requires_grad_()
        with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda"):
            change = network(start) - start
        gradients = torch.autograd.grad(change.square().sum(), (start, *network.parameters()))
        results.append([t.double().cpu() for t in (change, *gradients)])
    for expected, found in zip(*results, strict=True):
        assert (found - expected).norm() <= 0.01 * expected.norm()
