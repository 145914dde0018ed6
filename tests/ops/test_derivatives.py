"""Derivatives of second order, and functional transforms, through every backend and every operator of our own.

They have the right value or are refused: an operator that torch does not look into can lose them without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.functional import hessian, hvp, jacobian

from cellgraph import CellGraph, GMLPCell, Lattice, rollout
from cellgraph.nn.update import _Clip
from cellgraph.ops import NeighbourSum, backend_names, find_backend
from cellgraph.ops.fused import FusedSteps, load_operators
from cellgraph.ops.segment import segment_sum
from cellgraph.ops.stencil import opaque_pad, stencil
from cellgraph.ops.table import table_sum
from cellgraph.ops.triton.gate import gated_step
from cellgraph.ops.triton.stencil import neighbour_table, triton_products, triton_sum
from cellgraph.testing import randomise

# Importing makes them; the C++ ones are made when they are loaded.
load_operators()
# What goes between processes has no derivative of second order and refuses one; `tests/parallel` has the first.
BETWEEN = ("cellgraph.parallel.", "cellgraph.processes")
# Trained through once, by a gradient that is not the function's own or by hand: they refuse to be differentiated again.
ONCE = {"cellgraph.automata.tasks.arc2d.walk._Step", "cellgraph.nn.update._Clip"}
OPERATORS = [
    *sorted(name for name in torch._C._dispatch_get_all_op_names() if name.startswith("cellgraph::")),
    *sorted(
        f"{kind.__module__}.{kind.__name__}"
        for kind in torch.autograd.Function.__subclasses__()
        if kind.__module__.startswith("cellgraph.") and not kind.__module__.startswith(BETWEEN)
        if f"{kind.__module__}.{kind.__name__}" not in ONCE
    ),
]
BACKENDS = backend_names()[1:]
# Small, since Triton's interpreter takes a tenth of a second for a sum.
LATTICE = Lattice((3, 1))
NODES, TAPS = LATTICE.num_nodes, LATTICE.num_directions + 1


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def usable(name: str) -> str:
    if needs := find_backend(name).needs():
        pytest.skip(f"{name} {needs}")
    return name


def cell_on(backend: str, lattice: Lattice = LATTICE, width: int = 8, **options) -> GMLPCell:
    cell = GMLPCell(lattice, width, hidden=width, heads=2, **options)
    randomise(cell)
    cell.backend = usable(backend)
    return cell.double()


def parameters_of(cell: GMLPCell) -> list[Tensor]:
    gate_weight = cell.gate_weight[:, 0].repeat_interleave(cell.hidden // cell.heads, dim=-1)
    shared = (cell.norm_weight, cell.norm_bias, cell.in_weight, cell.in_bias, cell.gate_norm_weight)
    rest = (cell.gate_norm_bias, gate_weight[None], cell.gate_bias, cell.out_weight, cell.out_bias)
    parameters = [cell.position, *(part[0] for part in (*shared, *rest)), cell.transport[:, 0]]
    return [part.detach().clone().requires_grad_() for part in parameters]


# What each operator is behind, with arguments that can be differentiated.
def _segment():
    usable("segment")
    pointer = torch.tensor([0, 2, 2, 5])
    return lambda src: segment_sum(src, pointer), [draw(2, 5, 3)]


def _pad():
    return lambda grid: opaque_pad(grid, [False, True], 1), [draw(2, 3, 4, 2)]


def _triton_sum():
    usable("triton")
    table = neighbour_table(LATTICE)
    return lambda x, w: triton_sum(x, w, table, True, x.dtype), [draw(2, NODES, 3), draw(TAPS, 1, 3)]


def _triton_products():
    usable("triton")
    table = neighbour_table(LATTICE)
    return lambda x, y: triton_products(x, y, table, 1, x.dtype), [draw(2, NODES, 3), draw(2, NODES, 3)]


def _gated_step():
    usable("triton")
    table = neighbour_table(Lattice((3,)))
    shapes = [(1, 3, 6), (1, 3, 2), (3,), (3,), (3, 1, 3), (3,), (2, 3), (2,), (3, 1, 2), (1, 3, 1)]
    return lambda *given: gated_step(*given, table), [draw(*shape) for shape in shapes]


def _fused():
    usable("fused")
    steps = FusedSteps(LATTICE)

    def walk(x: Tensor, *parameters: Tensor) -> Tensor:
        return steps.walk(x, None, list(parameters), share=0.7, num_steps=2, every=1)[0]

    return walk, [draw(2, NODES, 8), *parameters_of(cell_on("scatter"))]


def _stencil():
    weight = draw(TAPS, 1, 1, 3)
    return lambda grid, w: stencil(grid, w, LATTICE.offsets, [True, False]), [draw(2, *LATTICE.shape, 3), weight]


def _table():
    heard = torch.tensor([[1, -1, 0], [0, 2, -1]])
    hears = torch.tensor([[2, 0, -1, -1], [0, -1, 1, -1]])
    return lambda x, weight: table_sum(x, weight, heard, hears), [draw(2, 4, 3), draw(2, 3, 3)]


BEHIND: dict[str, Callable[[], tuple[Callable[..., Tensor], list[Tensor]]]] = {
    "cellgraph::segment_sum": _segment,
    "cellgraph::pad": _pad,
    "cellgraph::neighbour_sum": _triton_sum,
    "cellgraph::neighbour_products": _triton_products,
    "cellgraph::gated_step": _gated_step,
    "cellgraph::gmlp_steps": _fused,
    "cellgraph::gmlp_steps_backward": _fused,
    "cellgraph.ops.fused.steps._Steps": _fused,
    "cellgraph.ops.stencil._Stencil": _stencil,
    "cellgraph.ops.table._TableSum": _table,
}


#: The kernels that Triton interprets, where there is no GPU, take longest.
LONG = ("triton", "cellgraph::gated_step")


def cases(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in names]


@pytest.mark.parametrize("name", cases(OPERATORS))
def test_every_operator_is_differentiated_twice(name: str) -> None:
    """An operator that is not in the table fails: whoever adds one says here what it is behind."""
    call, given = BEHIND[name]()
    assert torch.autograd.gradcheck(call, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, given, fast_mode=True, atol=1e-4)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_right_under_a_transform_or_refuses_it(name: str) -> None:
    call, given = BEHIND[name]()
    given = [part.detach() for part in given]
    tangents = [torch.randn_like(part) for part in given]

    def along(step: float) -> Tensor:
        return call(*(part + step * tangent for part, tangent in zip(given, tangents, strict=True)))

    slope = (along(1e-6) - along(-1e-6)) / 2e-6

    def dual() -> Tensor:
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(call(*map(forward_ad.make_dual, given, tangents))).tangent

    def batched() -> Tensor:
        both = [torch.stack([part, part + 1e-6 * tangent]) for part, tangent in zip(given, tangents, strict=True)]
        first, second = torch.vmap(call)(*both)
        return (second - first) / 1e-6

    def reverse() -> Tensor:
        def dotted(*parts: Tensor) -> Tensor:
            return (call(*parts) * slope).sum()

        grads = torch.func.grad(dotted, argnums=tuple(range(len(given))))(*given)
        return torch.stack([(grad * tangent).sum() for grad, tangent in zip(grads, tangents, strict=True)]).sum()

    ways = {"jvp": lambda: torch.func.jvp(call, (*given,), (*tangents,))[1], "dual": dual, "vmap": batched}
    for way, compute in {**ways, "grad": reverse}.items():
        try:
            found = compute()
        except NotImplementedError as error:
            refusal = str(error)
        else:
            refusal = ""
        if refusal:
            assert "sum by backend 'scatter', 'stencil' or 'conv' there" in refusal, way
            continue
        expected = slope.square().sum() if way == "grad" else slope
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=lambda text, way=way: f"{way}: {text}")


def test_the_clip_refuses_a_second_derivative() -> None:
    x = draw(3)
    (grad,) = torch.autograd.grad(_Clip.apply(x, -1.0, 1.0).pow(3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_the_bare_fused_operators_have_no_derivative_and_say_so() -> None:
    usable("fused")
    bare = torch.ops.cellgraph
    own, parameters = draw(2, NODES, 8), [part.detach() for part in parameters_of(cell_on("scatter"))]
    none, plan = own.new_empty(0).detach(), FusedSteps(LATTICE)._plan(None, 1)
    lent, told = none.reshape(0, 8), (plan.tables, plan.centres, plan.order, parameters, 1, False)
    forward = bare.gmlp_steps(own, lent, none, 1.0, *told)
    grads = bare.gmlp_steps_backward(draw(2, NODES, 8), lent, own, lent, *forward[2:], none, 1.0, *told)
    for outputs, name in ((forward, "gmlp_steps"), (grads, "gmlp_steps_backward")):
        with pytest.raises(RuntimeError, match=f"derivative for cellgraph::{name} is not implemented"):
            outputs[0].sum().backward()


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "each"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sum_is_differentiated_twice(backend: str, shared: bool) -> None:
    if not shared and find_backend(backend).name == "conv":
        pytest.skip("conv shares its weights between cells")
    layer = NeighbourSum(Lattice((2, 3), 8, boundary=("open", "periodic")), backend=usable(backend))
    given = draw(1, 6, 2), draw(9, 1 if shared else 6, 2)
    assert torch.autograd.gradcheck(layer, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, given, fast_mode=True)


def second_derivatives(cell: GMLPCell, x: Tensor) -> dict[str, Tensor]:
    def walk(x: Tensor) -> Tensor:
        return rollout(cell, x, num_steps=2).x

    def cubed(x: Tensor) -> Tensor:
        return walk(x).pow(3).sum()

    def by_parameter() -> Tensor:
        start = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(cubed(start), start, create_graph=True)
        grads = torch.autograd.grad(grad.square().sum(), list(cell.parameters()))
        return torch.cat([part.flatten() for part in grads])

    v = torch.ones_like(x)
    two = torch.stack([x, 2 * x])
    computed = {
        "hessian": hessian(cubed, x),
        "hessian, vectorised": hessian(cubed, x, vectorize=True),
        "hvp": hvp(cubed, x, v)[1],
        "of the parameters": by_parameter(),
        "jacobian, vectorised": jacobian(walk, x, vectorize=True),
        "jacobian, forward": jacobian(walk, x, vectorize=True, strategy="forward-mode"),
        "func.hessian": torch.func.hessian(cubed)(x),
        "func.jvp": torch.func.jvp(cubed, (x,), (v,))[1],
        "vmap": torch.vmap(cubed)(two),
        "vmap of func.grad": torch.vmap(torch.func.grad(cubed))(two),
    }
    with forward_ad.dual_level():
        computed["dual numbers"] = forward_ad.unpack_dual(cubed(forward_ad.make_dual(x, v))).tangent
        start = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(cubed(forward_ad.make_dual(start, v)), start)
        computed["forward over reverse"] = forward_ad.unpack_dual(grad).tangent
    return {name: value.detach() for name, value in computed.items()}


@pytest.mark.parametrize("backend", cases(name for name in BACKENDS if name != "scatter"))
def test_second_derivatives_of_a_rollout_are_the_reference_s(backend: str) -> None:
    # Whole vectors for the fused step; the interpreter takes a minute for what is that wide.
    width = 8 if find_backend(backend).takes_steps else 4
    x = torch.randn(1, NODES, width, dtype=torch.float64)
    found = second_derivatives(cell_on(backend, width=width), x)
    for name, expected in second_derivatives(cell_on("scatter", width=width), x).items():
        assert expected.abs().max() > 1e-3, name
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("every", [0, 2])
@pytest.mark.parametrize("rate", [1.0, 0.6])
@pytest.mark.parametrize("backend", ["fused", "triton"])
def test_they_are_with_masks_and_checkpoints_too(backend: str, every: int, rate: float) -> None:
    x = torch.randn(2, NODES, 8, dtype=torch.float64)
    results = []
    for name in ("scatter", backend):
        cell = cell_on(name, fire_rate=rate, step_size=0.5).train()

        def penalty(x: Tensor, cell: GMLPCell = cell) -> Tensor:
            generator = torch.Generator().manual_seed(1)
            last = rollout(cell, x, num_steps=3, remat_every=every, generator=generator).x
            return last.pow(3).sum()

        start = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(penalty(start), start, create_graph=True)
        results.append([grad.detach(), *torch.autograd.grad(grad.square().sum(), [start, *cell.parameters()])])
    torch.testing.assert_close(results[1], results[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "scatter"])
def test_a_mask_is_differentiated(backend: str) -> None:
    x, mask = torch.randn(2, NODES, 8, dtype=torch.float64), torch.rand(2, NODES, 1, dtype=torch.float64)
    grads = []
    for name in ("scatter", backend):
        leaf = mask.clone().requires_grad_()
        grads.append(torch.autograd.grad(cell_on(name)(x, leaf).square().sum(), leaf)[0])
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_network_has_a_hessian_on_every_backend(backend: str) -> None:
    """With the light cone; of the fused step, where it is taken."""
    lattice = Lattice((3, 1, 2))
    question = torch.randn(1, 2, dtype=torch.float64)
    results = []
    for name in ("scatter", backend):
        cell = cell_on(name, lattice)
        cell.backend = name
        model = CellGraph(cell, in_features=2, surface_channels=1, num_steps=3, adapter="linear").eval()
        randomise(model)
        model.double()
        if name == "fused":
            assert cell.fuses(torch.zeros(1, 6, 8, dtype=torch.float64))
        results.append(hessian(lambda q, model=model: model(q).embedding.pow(3).sum(), question))
    assert results[0].abs().max() > 1e-3
    torch.testing.assert_close(results[1], results[0], rtol=1e-8, atol=1e-8)


def test_under_autocast_the_second_derivative_is_float32_s() -> None:
    """The fused step computes in bfloat16 there; what is differentiated again is within its rounding of float32's."""
    cell = GMLPCell(Lattice((3, 3)), 16, hidden=16, heads=2)
    randomise(cell)
    cell.backend = usable("fused")
    x = torch.randn(2, 9, 16)
    grads = []
    for lower in (True, False):
        start = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            y = rollout(cell, start, num_steps=2).x
        (grad,) = torch.autograd.grad(y.square().sum(), start, create_graph=True)
        grads.append(torch.autograd.grad(grad.square().sum(), start)[0])
    assert (grads[0] - grads[1]).norm() < 0.03 * grads[1].norm()
