"""Property asserts for cells and networks of your own; nothing in the library imports them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph
from cellgraph.nn import Cell
from cellgraph.unroll import rollout


def randomise(module: torch.nn.Module, *, std: float = 0.3, seed: int = 0) -> None:
    """Draw every parameter from a normal distribution, so that no zero at the start hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def assert_matches_reference(cell: Cell, *, backend: str, batch: int = 2) -> None:
    """A cell gives the same step and the same gradients on ``backend`` as on the reference, ``scatter``, in float64.

    Raises:
        AssertionError: If they differ.
    """
    results = []
    for name in ("scatter", backend):
        twin = copy.deepcopy(cell).double()
        twin.backend = name
        x = _state(twin, batch).requires_grad_()
        y = twin(x)
        gradients = torch.autograd.grad(y.square().sum(), (x, *twin.parameters()), allow_unused=True)
        results.append([y, *(g for g in gradients if g is not None)])
    for reference, found in zip(*results, strict=True):
        torch.testing.assert_close(found, reference)


def assert_reaches(cell: Cell, *, num_steps: int, targets: Tensor | None = None) -> None:
    """After ``num_steps`` a cell feels the cells within that distance, all of them, and no other.

    Args:
        cell: A cell whose parameters are not zero, see :func:`randomise`.
        num_steps: Steps of the rollout.
        targets: Indices of the cells to look at; all of them by default.

    Raises:
        AssertionError: If an influence is missing or there is one from beyond.
    """
    twin = copy.deepcopy(cell).double().eval()
    lattice: Lattice = twin.lattice
    nodes = range(lattice.num_nodes) if targets is None else targets.tolist()
    x = _state(twin, 1).requires_grad_()
    y = rollout(twin, x, num_steps=num_steps).x
    for node in nodes:
        (grad,) = torch.autograd.grad(y[0, node].sum(), x, retain_graph=True)
        felt = grad[0].abs().sum(-1) > 0
        distance = lattice.hops(torch.arange(lattice.num_nodes) == node)
        within = (distance >= 0) & (distance <= num_steps)
        assert torch.equal(felt, within), (
            f"cell {node} after {num_steps} steps: {int((within & ~felt).sum())} cells within reach are not felt, "
            f"{int((felt & ~within).sum())} beyond it are"
        )


def assert_identity_at_init(model: CellGraph, *, tolerance: float = 1e-4) -> None:
    """A new network carries its input surface to its output surface unchanged; with a linear path, it is the path.

    Raises:
        AssertionError: If a value differs by more than ``tolerance``, relative to the largest.
    """
    twin = copy.deepcopy(model).eval()
    question = torch.randn(2, twin.in_features, dtype=twin.cell.dtype)
    with torch.no_grad():
        if twin.path is None:
            wanted = twin.question_adapter.encode(question)
        else:
            wanted = twin.answer_adapter.encode(twin.path(twin.path.question(question)))
        found = twin(question).surface
    error = float((found - wanted).abs().max() / wanted.abs().max())
    assert error <= tolerance, f"the output surface differs from what a new network gives by {error:.2g}"


def assert_compiles(cell: Cell, *, tolerance: float = 1e-4) -> None:
    """A cell compiles without a graph break and the compiled step is the same function.

    Raises:
        AssertionError: If the results differ by more than ``tolerance``.
    """
    torch.compiler.reset()
    x = _state(cell, 2)
    compiled = torch.compile(cell.forward, fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(x), cell(x), rtol=tolerance, atol=tolerance)


def _state(cell: Cell, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = batch, cell.lattice.num_nodes, cell.channels
    return torch.randn(shape, generator=generator).to(next(cell.parameters()))
