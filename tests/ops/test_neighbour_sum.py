"""Every backend against a sum written out cell by cell, in float64, forward and backward."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from cellgraph import Lattice
from cellgraph.lattice import NEIGHBOURHOODS
from cellgraph.nn import NeighbourSum
from cellgraph.ops import Case, backend_names, candidates, segment

SHAPES = {1: (5,), 2: (4, 3), 3: (3, 4, 3)}
CASES = [
    pytest.param(dim, count, boundary, masked, id=f"{dim}d-{count}-{'-'.join(boundary)}-{'mask' if masked else 'full'}")
    for dim in (1, 2, 3)
    for count in NEIGHBOURHOODS[dim]
    for boundary in itertools.product(("open", "periodic"), repeat=dim)
    for masked in (False, True)
]


def backends(*, shared: bool = True) -> list[str]:
    """All that run here, whichever they are."""
    return [*(backend.name for backend in candidates(Case(Lattice((3,)), shared=shared))), "auto"]


def make(dim: int, count: int, boundary: tuple[str, ...], masked: bool) -> Lattice:
    mask = torch.rand(SHAPES[dim]) > 0.3 if masked else None
    return Lattice(SHAPES[dim], count, boundary=boundary, mask=mask)


def written_out(lattice: Lattice, x: Tensor, weight: Tensor) -> Tensor:
    """The definition: for every cell and offset, the neighbour if there is one."""
    number = {tuple(p): i for i, p in enumerate(lattice.positions.tolist())}
    rows = []
    for i, place in enumerate(lattice.positions.tolist()):
        own = 0 if weight.size(1) == 1 else i
        total = weight[-1, own] * x[:, i]
        for k, offset in enumerate(lattice.offsets):
            there = []
            for p, o, n, kind in zip(place, offset, lattice.shape, lattice.boundary, strict=True):
                there.append((p + o) % n if kind == "periodic" else p + o)
            if tuple(there) in number:
                total = total + weight[k, own] * x[:, number[tuple(there)]]
        rows.append(total)
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize(("dim", "count", "boundary", "masked"), CASES)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "each"])
def test_all_backends_equal_the_definition(
    dim: int, count: int, boundary: tuple[str, ...], masked: bool, shared: bool
) -> None:
    lattice = make(dim, count, boundary, masked)
    x = torch.randn(2, lattice.num_nodes, 3, dtype=torch.float64, requires_grad=True)
    groups = 1 if shared else lattice.num_nodes
    weight = torch.randn(lattice.num_directions + 1, groups, 3, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(2, lattice.num_nodes, 3, dtype=torch.float64)
    y = written_out(lattice, x, weight)
    expected = (y, *torch.autograd.grad((y * cotangent).sum(), (x, weight)))
    for backend in backends(shared=shared):
        z = NeighbourSum(lattice, backend=backend)(x, weight)
        found = (z, *torch.autograd.grad((z * cotangent).sum(), (x, weight)))
        for name, a, b in zip(("sum", "grad x", "grad weight"), found, expected, strict=True):
            torch.testing.assert_close(a, b, msg=lambda text, n=name, be=backend: f"{be}, {n}: {text}")
        with torch.no_grad():
            torch.testing.assert_close(NeighbourSum(lattice, backend=backend)(x, weight), y)


@pytest.mark.parametrize("count", [6, 18, 26])
def test_a_full_neighbourhood_of_equal_weights_is_a_box_filter(count: int) -> None:
    """An independent convolution: torch's own conv3d with a kernel written by hand."""
    lattice = Lattice((4, 5, 6), count)
    x = torch.randn(2, 120, 1, dtype=torch.float64)
    kernel = torch.zeros(1, 1, 3, 3, 3, dtype=torch.float64)
    for offset in lattice.offsets:
        kernel[0, 0, offset[0] + 1, offset[1] + 1, offset[2] + 1] = 1.0
    expected = torch.nn.functional.conv3d(x.reshape(2, 1, 4, 5, 6), kernel, padding=1).reshape(2, 120, 1)
    weight = torch.ones(count + 1, 1, 1, dtype=torch.float64)
    weight[-1] = 0.0
    for backend in backends():
        torch.testing.assert_close(NeighbourSum(lattice, backend=backend)(x, weight), expected)


def test_the_order_of_edges_does_not_matter() -> None:
    lattice = Lattice((3, 4, 3), 18, boundary=("periodic", "open", "open"))
    layer = NeighbourSum(lattice, backend="scatter")
    x, weight = torch.randn(2, 36, 3, dtype=torch.float64), torch.randn(19, 36, 3, dtype=torch.float64)
    expected = layer(x, weight)
    order = torch.randperm(lattice.num_edges)
    layer.edge_index, layer.edge_direction = layer.edge_index[:, order], layer.edge_direction[order]
    torch.testing.assert_close(layer(x, weight), expected)


@pytest.mark.parametrize("backend", backends())
def test_sums_of_bfloat16_accumulate_in_float32(backend: str) -> None:
    """Summing 26 ones and 1/256 in bfloat16 (8 bits) would lose the small one; float32 keeps it."""
    lattice = Lattice((3, 3, 3), 26, boundary="periodic")
    x = torch.ones(1, 27, 1, dtype=torch.bfloat16)
    weight = torch.full((27, 1, 1), 1.0)
    weight[-1] = 1 / 256
    y = NeighbourSum(lattice, backend=backend)(x, weight)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, torch.full_like(y, 26 + 1 / 256), rtol=0, atol=0)
    # Autocast changes nothing of it.
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(NeighbourSum(lattice, backend=backend)(x.float(), weight), y)
    assert NeighbourSum(lattice, backend=backend)(x.double(), weight).dtype == torch.float64


def test_bad_input_is_named() -> None:
    lattice = Lattice((2, 3))
    with pytest.raises(ValueError, match=rf"one of .*{backend_names()[1]}.*, got 'magic'"):
        NeighbourSum(lattice, backend="magic")
    layer = NeighbourSum(lattice)
    with pytest.raises(ValueError, match=r"\[batch, 6, channels\], got \[1, 5, 2\]"):
        layer(torch.zeros(1, 5, 2), torch.zeros(5, 1, 2))
    with pytest.raises(ValueError, match=r"\[5, 1 or 6, 2\], got \[4, 1, 2\]"):
        layer(torch.zeros(1, 6, 2), torch.zeros(4, 1, 2))
    for backend in backends():
        with pytest.raises(ValueError, match=r"\[5, 1 or 6, 2\], got \[5, 1, 1\]"):
            NeighbourSum(lattice, backend=backend)(torch.zeros(1, 6, 2), torch.zeros(5, 1, 1))
    with pytest.raises(ValueError, match="'conv' shares its weights"):
        NeighbourSum(lattice, backend="conv")(torch.zeros(1, 6, 2), torch.zeros(5, 6, 2))


def test_segment_without_torch_scatter_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install cellgraph\[scatter\]"):
        NeighbourSum(Lattice((3,)), backend="segment")
