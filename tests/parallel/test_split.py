"""A lattice in slabs: states and gradients are those of the whole lattice in one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from together import split_cell, split_inputs, split_run, together

from cellgraph import GMLPCell, Lattice
from cellgraph.nn import NCACell
from cellgraph.parallel import DepthSplit, SplitCell, halo
from cellgraph.unroll import _walk

STEPS = 3


def whole(kind: str, given: dict[str, Any]) -> dict[str, np.ndarray]:
    """The same on the whole lattice, its sums taken edge by edge."""
    lattice = Lattice(**given)
    inputs = split_inputs(kind, lattice, STEPS)
    cell = split_cell(kind, lattice)
    cell.backend = "scatter"
    cell.load_state_dict({name[5:]: x for name, x in inputs.items() if name.startswith("cell.")})
    if kind == "frozen":
        cell.step_size = 0.25
    x = inputs["x"].clone().requires_grad_()
    masks = inputs["masks"] if kind == "living" else None
    if kind == "drawn":
        torch.manual_seed(7)
        masks = cell.dynamics.draw(x, lattice.num_nodes, STEPS, None)
        assert 0.4 < masks.mean() < 0.6
    context = {"gmlp": inputs["context"], "one context": inputs["context"][:, :1]}.get(kind)
    after = _walk(cell, x, STEPS, masks, context, None, None)
    loss = (after * inputs["weight"]).sum()
    loss.backward()
    found = {"loss": loss, "after": after, "x": x.grad, **{f"cell.{n}": p.grad for n, p in cell.named_parameters()}}
    return {name: value.detach().numpy() for name, value in found.items()}


def check(count: int, kind: str, given: dict[str, Any], *, overlap: bool = True) -> list[bool]:
    """Compare; whether each process computed while the halo travelled."""
    parts, expected = together(count, split_run, kind, given, STEPS, overlap), whole(kind, given)
    after = np.concatenate([part["after"] for part in parts], axis=1)
    np.testing.assert_allclose(after, expected["after"], rtol=1e-12, atol=1e-12)
    first = parts[0]["x"]
    np.testing.assert_allclose(first, expected["x"][:, : first.shape[1]], rtol=1e-12, atol=1e-12)
    for part in parts:
        assert float(part["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-12)
    for name in filter(lambda name: name.startswith("cell."), expected):
        if name == "cell.position":
            found = [np.concatenate([part[name] for part in parts])]
        else:
            found = [part[name] for part in parts]
        for gradient in found:
            scale = np.abs(expected[name]).max()
            np.testing.assert_allclose(gradient, expected[name], rtol=1e-12, atol=1e-12 * scale, err_msg=name)
    return [part["overlap"] for part in parts]


@pytest.mark.parametrize(
    ("count", "given"),
    [
        (2, {"shape": (7, 3, 4), "neighbourhood": 6}),
        (2, {"shape": (7, 3, 4), "neighbourhood": 26, "boundary": "periodic"}),
        (4, {"shape": (13, 3, 3), "neighbourhood": 18, "boundary": ("periodic", "open", "periodic")}),
        (4, {"shape": (4, 3, 2), "neighbourhood": 26}),
        (4, {"shape": (5, 3), "neighbourhood": 8, "boundary": "periodic"}),
    ],
)
def test_states_and_gradients_are_those_of_the_whole(count: int, given: dict[str, Any]) -> None:
    overlapped = check(count, "gmlp", given)
    layers = [(n + 1) * given["shape"][0] // count - n * given["shape"][0] // count for n in range(count)]
    assert overlapped == [depth > 2 for depth in layers]


@pytest.mark.parametrize("overlap", [True, False])
def test_cells_that_live_and_update_at_random_hear_two_layers(overlap: bool) -> None:
    assert check(2, "living", {"shape": (10, 3, 3), "neighbourhood": 6}, overlap=overlap) == [overlap] * 2


@pytest.mark.parametrize("count", [1, 2])
def test_updates_drawn_at_random_are_those_of_the_whole(count: int) -> None:
    check(count, "drawn", {"shape": (10, 3, 3), "neighbourhood": 6})


@pytest.mark.parametrize("count", [1, 2])
def test_what_does_not_learn_and_what_is_set_on_the_cell_hold_in_all_of_a_slab(count: int) -> None:
    """A random stencil that is kept as it is, and a size of steps that was set afterwards."""
    check(count, "frozen", {"shape": (10, 3, 3), "neighbourhood": 6, "boundary": ("periodic", "open", "open")})


@pytest.mark.parametrize("kind", ["gmlp", "one context"])
@pytest.mark.parametrize("depth", [2, 3])
def test_a_slab_of_one_cell_has_a_context_of_its_own_or_everybody_s(kind: str, depth: int) -> None:
    check(2, kind, {"shape": (depth, 1), "neighbourhood": 4})


def test_a_mask_gives_slabs_of_different_numbers_of_cells() -> None:
    mask = torch.rand(8, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.6
    check(2, "gmlp", {"shape": (8, 4, 4), "neighbourhood": 18, "mask": mask.numpy()})


@pytest.mark.parametrize("boundary", ["open", "periodic"])
def test_one_process_is_a_split_of_its_own(boundary: str) -> None:
    check(1, "gmlp", {"shape": (5, 3, 3), "neighbourhood": 26, "boundary": boundary})


def test_the_halo_travels_while_the_inner_cells_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    split = DepthSplit((7, 3, 3), boundary="periodic")
    cell = SplitCell(split, lambda lattice: GMLPCell(lattice, 4, hidden=4, heads=2))
    start, finish = halo.Exchange.start, halo.Exchange.finish
    monkeypatch.setattr(halo.Exchange, "start", lambda *given: (order.append("set out"), start(*given))[1])
    monkeypatch.setattr(halo.Exchange, "finish", lambda *given: (order.append("came"), finish(*given))[1])
    cell.cell.register_forward_hook(lambda *given: order.append("inner"))
    cell.cell.register_full_backward_hook(lambda *given: order.append("inner backward"))
    x = torch.randn(1, 63, 4, requires_grad=True)
    after = cell(x, num_steps=1)
    positions = ["set out", "came"]
    assert order == [*positions, "set out", "inner", "came"]
    order.clear()
    after.sum().backward()
    assert order == ["set out", "inner backward", "came", *positions]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda lattice: GMLPCell(lattice, 4, hidden=4, heads=2, sharing="layer"), "same weights, got sharing='layer'"),
        (lambda lattice: NCACell(lattice, 4, order="sequential"), "order must be synchronous"),
        (lambda lattice: NCACell(lattice, 4, perception={"name": "pooled", "pooled": 2}), "perception local"),
    ],
)
def test_what_cannot_be_split_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SplitCell(DepthSplit((4, 3, 3)), make)


def test_what_each_cell_has_for_itself_is_not_taken_for_shared() -> None:
    class Own(NCACell):
        def __init__(self, lattice: Lattice, channels: int = 4) -> None:
            super().__init__(lattice, channels)
            self.taste = torch.nn.Parameter(torch.zeros(lattice.num_nodes, channels))

    # One process with itself for neighbours: its ends are computed in slabs of other sizes.
    split = DepthSplit((8, 3, 3), boundary=("periodic", "open", "open"))
    with pytest.raises(ValueError, match="what each cell has for itself only position is split, got taste"):
        SplitCell(split, Own)


def test_slabs_too_thin_are_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda group=None: 0)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda group=None: 3)
    with pytest.raises(ValueError, match=r"3 processes need a layer each, the lattice \(2, 4, 4\) has 2"):
        DepthSplit((2, 4, 4))
    with pytest.raises(ValueError, match=r"hear 2 layers in a step, and of 3 slabs of the 4 layers the thinnest has 1"):
        DepthSplit((4, 4, 4)).exchange(2)
    with pytest.raises(ValueError, match="a periodic axis needs at least 3 cells"):
        DepthSplit((5, 2, 4), boundary="periodic")
