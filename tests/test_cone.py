"""The light cone against the full rollout: the same outputs and gradients, from fewer cells."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cellgraph import GMLPCell, Graph, Lattice, rollout
from cellgraph.cone import LightCone
from cellgraph.nn import Surface
from cellgraph.ops.fused import load_operators

MASK = torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(0)) > 0.2
LATTICES = {
    "faces": Lattice((5, 3, 4), 6),
    "edges": Lattice((4, 4, 3), 18, boundary=("open", "periodic", "open")),
    "corners": Lattice((4, 3, 3), 26, boundary="periodic"),
    "masked": Lattice((4, 4, 3), 26, mask=MASK),
    "plane": Lattice((5, 4), 8),
    "line": Lattice((9,), 2),
    "one way": Lattice((4, 4), [(-1, 0), (0, -2), (1, 1)]),
}


def busy(graph: Graph, channels: int = 16, **options: object) -> GMLPCell:
    """A cell with no parameter at zero, whose state neither fades nor explodes."""
    cell = GMLPCell(graph, channels, hidden=32, heads=2, **options).double()
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return cell


def random_mask(graph: Graph, share: float, seed: int) -> Tensor:
    mask = torch.rand(graph.num_nodes, generator=torch.Generator().manual_seed(seed)) < share
    return mask.index_fill(0, torch.tensor([seed % graph.num_nodes]), True)


def compare(
    cell: GMLPCell,
    source: Tensor | None,
    target: Tensor,
    num_steps: int,
    *,
    clamped: Surface | None = None,
    context: Tensor | None = None,
    remat_every: int = 0,
) -> LightCone:
    """Outputs and all gradients in the cone and of the full rollout."""
    graph = cell.lattice
    cone = LightCone(graph, target, num_steps, source=source)
    shared = torch.randn(1, graph.num_nodes, cell.channels, dtype=torch.float64)
    x = torch.randn(3, graph.num_nodes, cell.channels, dtype=torch.float64)
    if source is not None:
        x = torch.where(source[:, None], x, shared)
    pull = torch.randn(3, int(target.sum()), cell.channels, dtype=torch.float64)
    inputs = [*cell.parameters()]

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    backend, cell.backend = cell.backend, "scatter"  # the reference
    whole = x.clone().requires_grad_()
    options = {"num_steps": num_steps, "clamped": clamped, "context": context, "remat_every": remat_every}
    full = rollout(cell, whole, generator=generator(), **options).x[:, target]
    wanted = torch.autograd.grad((full * pull).sum(), [whole, *inputs], allow_unused=True)

    cell.backend = backend
    own = x[:, cone.own[0]].clone().requires_grad_()
    lent = x[0, cone.lent[0]].clone().requires_grad_()
    part = rollout(cell, own, generator=generator(), cone=cone, lent=lent, **options).x
    found = torch.autograd.grad((part * pull).sum(), [own, lent, *inputs], allow_unused=True)

    expected = [full, wanted[0][:, cone.own[0]], wanted[0][:, cone.lent[0]].sum(0), *wanted[1:]]
    for value, reference in zip([part, *found], expected, strict=True):
        if value is None or reference is None:
            assert reference is None or not reference.any()
            continue
        torch.testing.assert_close(value, reference, rtol=1e-12, atol=1e-12)
    # Nothing that can reach the target lies outside.
    outside = torch.ones(graph.num_nodes, dtype=torch.bool)
    outside[cone.own[0]], outside[cone.lent[0]] = False, False
    assert not wanted[0][:, outside].any()
    return cone


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("sources", ["first", "some", "all"])
@pytest.mark.parametrize("name", LATTICES)
def test_outputs_and_gradients_are_the_full_rollout_s(name: str, sources: str, fused: bool) -> None:
    if fused and not load_operators():
        pytest.skip("the fused step needs a C++ compiler")
    lattice = LATTICES[name]
    cell = busy(lattice, backend="scatter")
    if fused:
        cell.backend = "fused"
    first = lattice.layer == 0
    source = {"first": first, "some": random_mask(lattice, 0.1, 4), "all": None}[sources]
    for target, steps in ((lattice.layer == lattice.num_layers - 1, 3), (random_mask(lattice, 0.1, 1), 4), (~first, 2)):
        for every in (0, 2):
            compare(cell, source, target, steps, remat_every=every)


@pytest.mark.parametrize("options", [{}, {"sharing": "layer"}, {"sharing": "cell"}, {"norm_transport": True}], ids=str)
def test_any_weights_on_any_graph(options: dict) -> None:
    generator = torch.Generator().manual_seed(1)
    edges = torch.randint(30, (2, 90), generator=generator)
    graph = Graph(edges, 30, edge_direction=torch.arange(90) % 3, edge_weight="mean")
    cell = busy(graph, backend="scatter", **options)
    compare(cell, random_mask(graph, 0.1, 2), random_mask(graph, 0.1, 3), 4, remat_every=3)
    if options != {"sharing": "cell"}:
        lattice = LATTICES["edges"]
        compare(busy(lattice, backend="scatter", **options), lattice.layer == 0, lattice.layer == 3, 4)


@pytest.mark.parametrize("fused", [False, True])
def test_random_updates_are_those_of_the_full_rollout(fused: bool) -> None:
    lattice = LATTICES["faces"]
    cell = busy(lattice, fire_rate=0.6, step_size=0.7)
    if fused and not load_operators():
        pytest.skip("the fused step needs a C++ compiler")
    cell.backend = "fused" if fused else "auto"
    compare(cell.train(), None, lattice.layer == 4, 5)
    # In evaluation all cells take the expected update, and those ahead of the samples are alike again.
    assert compare(cell.eval(), lattice.layer == 0, lattice.layer == 4, 5).lends


def test_clamped_cells_and_contexts() -> None:
    lattice = LATTICES["faces"]
    surface = Surface(lattice, "front", channels=3)
    for steps in (4, 7):
        compare(busy(lattice, backend="scatter"), surface.mask, lattice.layer == 4, steps, clamped=surface)
    cell = busy(lattice, backend="scatter", context_channels=2)
    for shape in ((1, 1), (1, lattice.num_nodes)):
        context = torch.randn(*shape, 2, dtype=torch.float64)
        compare(cell, surface.mask, lattice.layer == 4, 5, context=context, clamped=surface, remat_every=2)
    compare(cell, None, lattice.layer == 4, 5, context=torch.randn(3, 1, 2, dtype=torch.float64), clamped=surface)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_every_number_of_samples_and_workers(batch: int, threads: int) -> None:
    lattice = Lattice((5, 7, 7), 6)
    if not load_operators():
        pytest.skip("the fused step needs a C++ compiler")
    cell = busy(lattice, backend="fused")
    source, target = lattice.layer == 0, lattice.layer == 4
    cone = LightCone(lattice, target, 5, source=source)
    own, lent = torch.randn(batch, 49, 16).double(), torch.randn(len(cone.lent[0]), 16).double()
    x = lent.new_zeros(batch, lattice.num_nodes, 16)
    x[:, cone.own[0]], x[:, cone.lent[0]] = own, lent
    inputs = list(cell.parameters())
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        part = rollout(cell, own, num_steps=5, cone=cone, lent=lent).x
        found = torch.autograd.grad(part.square().sum(), inputs)
    finally:
        torch.set_num_threads(before)
    cell.backend = "scatter"
    full = rollout(cell, x, num_steps=5).x[:, target]
    wanted = torch.autograd.grad(full.square().sum(), inputs)
    torch.testing.assert_close([part, *found], [full, *wanted], rtol=1e-11, atol=1e-11)


def test_the_narrow_types_stay_within_their_rounding() -> None:
    lattice = Lattice((5, 7, 7), 6)
    if not load_operators():
        pytest.skip("the fused step needs a C++ compiler")
    cell = busy(lattice, backend="fused").float()
    cone = LightCone(lattice, lattice.layer == 4, 5, source=lattice.layer == 0)
    own = torch.randn(3, 49, 16)
    x = torch.zeros(3, lattice.num_nodes, 16)
    x[:, cone.own[0]] = own
    for dtype, bound in ((torch.float32, 2e-5), (torch.bfloat16, 5e-2)):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            part = rollout(cell, own, num_steps=5, cone=cone).x
            full = rollout(cell, x, num_steps=5).x[:, cone.target]
        assert (part - full).norm() < bound * full.norm()


def test_for_a_shift_one_layer_differs_by_sample_at_each_step() -> None:
    lattice = Lattice((11, 15, 15), 6)
    cone = LightCone(lattice, lattice.face("back"), 10, source=lattice.face("front"))
    for step, (own, lent) in enumerate(zip(cone.own, cone.lent, strict=True)):
        assert torch.equal(own, (lattice.layer == step).nonzero().squeeze(1))
        assert torch.equal(lent, (lattice.layer > step).nonzero().squeeze(1))
    assert cone.share == 1 / 11


def test_cells_that_nobody_reaches_are_alike() -> None:
    lattice = LATTICES["line"]
    cell = busy(lattice, backend="scatter")
    compare(cell, lattice.layer == 0, lattice.layer >= 7, 3)


def test_what_does_not_fit_is_named() -> None:
    lattice = LATTICES["line"]
    source, target = lattice.layer == 0, lattice.layer == 8
    with pytest.raises(ValueError, match=r"target must be a boolean mask \[9\], got torch.bool \[4\]"):
        LightCone(lattice, torch.ones(4, dtype=torch.bool), 2)
    with pytest.raises(ValueError, match="target needs at least one of the 9 cells"):
        LightCone(lattice, torch.zeros(9, dtype=torch.bool), 2)
    with pytest.raises(ValueError, match="num_steps must not be negative, got -1"):
        LightCone(lattice, target, -1)
    cell = busy(lattice, backend="scatter")
    cone = LightCone(lattice, target, 8, source=source)
    x = torch.zeros(2, 1, 16, dtype=torch.float64)
    with pytest.raises(ValueError, match="num_steps must be the cone's 8, got 9"):
        rollout(cell, x, num_steps=9, cone=cone)
    with pytest.raises(ValueError, match=r"x must be \[batch, 1, channels\] with this cone, got \[2, 9, 16\]"):
        rollout(cell, x.expand(2, 9, 16), num_steps=8, cone=cone)
    with pytest.raises(ValueError, match="needs the full rollout"):
        rollout(cell, x, num_steps=8, cone=cone, trajectory=True)
    with pytest.raises(ValueError, match="use a cone without source"):
        rollout(busy(lattice, fire_rate=0.5).train(), x, num_steps=8, cone=cone)
    with pytest.raises(ValueError, match="GMLPCell cannot compute some of its cells alone"):
        rollout(busy(lattice, order="sequential"), x, num_steps=8, cone=cone)
    with pytest.raises(ValueError, match="must be sources of the cone"):
        rollout(cell, x, num_steps=8, cone=cone, clamped=Surface(lattice, "right"))


def test_masks_of_a_cone_may_be_lists() -> None:
    lattice = Lattice((3, 2))
    found = LightCone(lattice, lattice.face("bottom").tolist(), 1)
    wanted = LightCone(lattice, lattice.face("bottom"), 1)
    assert [nodes.tolist() for nodes in found.own] == [nodes.tolist() for nodes in wanted.own]
    with pytest.raises(ValueError, match=r"target must be a boolean mask \[6\]"):
        LightCone(lattice, [0, 1], 1)


def test_lent_cells_of_another_number_are_refused() -> None:
    lattice = Lattice((4, 3, 3))
    cone = LightCone(lattice, lattice.face("back"), 3, source=lattice.face("front"))
    cell, x = GMLPCell(lattice, 8, hidden=8), torch.zeros(2, len(cone.own[0]), 8)
    count = len(cone.lent[0])
    assert count > 0
    with pytest.raises(ValueError, match=rf"lent must be \[{count}, 8\] with this cone, got \[{count - 1}, 8\]"):
        rollout(cell, x, num_steps=3, cone=cone, lent=torch.zeros(count - 1, 8))
    with pytest.raises(ValueError, match="lent cells are a cone's"):
        rollout(cell, torch.zeros(2, 36, 8), num_steps=3, lent=torch.zeros(count, 8))
