"""The cell against its equations written out, and its variants against each other."""

from __future__ import annotations

import copy
import math
import time

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph import Cell, CellGraph, GMLPCell, Lattice, rollout
from cellgraph.nn.gmlp import SHARING
from cellgraph.ops import find_backend
from cellgraph.testing import randomise

LATTICE = Lattice((3, 2, 4), 6, boundary=("open", "open", "periodic"))


def busy(lattice: Lattice = LATTICE, **options: object) -> GMLPCell:
    """A float64 cell with no parameter at zero."""
    cell = GMLPCell(lattice, 6, hidden=8, heads=2, **options).double()
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return cell


def by_the_book(cell: GMLPCell, x: Tensor) -> Tensor:
    """The equations, cell by cell and neighbour by neighbour."""
    group = {"shared": lambda i: 0, "layer": lambda i: int(cell.lattice.layer[i]), "cell": lambda i: i}[cell.sharing]

    def norm(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        centred = h - h.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias

    u, v = [], []
    for i in range(cell.lattice.num_nodes):
        g = group(i)
        h = norm(x[:, i] + cell.position[i], cell.norm_weight[g], cell.norm_bias[g])
        z = h @ cell.in_weight[g].T + cell.in_bias[g]
        z = z * 0.5 * (1 + torch.erf(z / 2**0.5))
        u.append(z[:, : cell.hidden])
        v.append(norm(z[:, cell.hidden :], cell.gate_norm_weight[g], cell.gate_norm_bias[g]))
    source, target = cell.lattice.edge_index.tolist()
    new = []
    for i in range(cell.lattice.num_nodes):
        g = group(i)
        w = cell.gate_weight[:, g].repeat_interleave(cell.hidden // cell.heads, -1)
        s = cell.gate_bias[g] + w[-1] * v[i]
        t = cell.transport[-1, g] * x[:, i]
        for j, target_j, k in zip(source, target, cell.lattice.edge_direction.tolist(), strict=True):
            if target_j == i:
                s = s + w[k] * v[j]
                t = t + cell.transport[k, g] * x[:, j]
        update = (u[i] * s) @ cell.out_weight[g].T + cell.out_bias[g]
        new.append(x[:, i] + cell.fire_rate * (t + update))
    return torch.stack(new, 1)


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("backend", ["scatter", "stencil", "conv", "segment"])
def test_a_step_is_the_equations(sharing: str, backend: str) -> None:
    if backend == "conv" and sharing != "shared":
        pytest.skip("conv shares its weights between cells")
    if backend == "segment" and find_backend("segment").needs():
        pytest.skip("torch_scatter is not installed")
    cell = busy(sharing=sharing, backend=backend, fire_rate=0.7)
    x = torch.randn(2, 24, 6, dtype=torch.float64)
    torch.testing.assert_close(cell(x), by_the_book(cell, x))


def test_masked_lattices_work_with_every_sharing() -> None:
    lattice = Lattice((3, 2, 4), mask=torch.rand(3, 2, 4) > 0.4)
    for sharing in SHARING:
        cell = busy(lattice, sharing=sharing)
        x = torch.randn(2, lattice.num_nodes, 6, dtype=torch.float64)
        torch.testing.assert_close(cell(x), by_the_book(cell, x))


@pytest.mark.parametrize("sharing", ["layer", "cell"])
def test_equal_weights_for_all_groups_are_shared_weights(sharing: str) -> None:
    shared, grouped = busy(), busy(sharing=sharing)
    with torch.no_grad():
        for name, parameter in grouped.named_parameters():
            source = shared.get_parameter(name)
            parameter.copy_(source.expand_as(parameter))
    x = torch.randn(2, 24, 6, dtype=torch.float64)
    torch.testing.assert_close(grouped(x), shared(x))


def test_gradients() -> None:
    cell = busy(Lattice((2, 1, 3)))
    x = torch.randn(1, 6, 6, dtype=torch.float64, requires_grad=True)
    names, values = zip(*cell.named_parameters(), strict=True)

    def step(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(cell, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(step, (x, *values))


def test_parameter_counts_of_the_default_cell() -> None:
    cell = GMLPCell(Lattice((11, 15, 15)))
    counts = cell.parameter_counts()
    assert abs(counts["gmlp"] - 25_000) <= 0.05 * 25_000
    # By hand: two norms, W_in, W_out, a gate weight a head and direction, a gate bias a hidden channel.
    assert counts["gmlp"] == 2 * 64 + 2 * 128 + (64 + 1) * 256 + (128 + 1) * 64 + 7 * 8 + 128
    assert counts["positions"] == 2475 * 64
    assert sum(counts.values()) == sum(p.numel() for p in cell.parameters())
    per_cell = GMLPCell(Lattice((11, 15, 15)), sharing="cell").parameter_counts()
    assert per_cell["gmlp"] == 2475 * counts["gmlp"]


def test_an_update_mask_freezes_the_cells_it_leaves_out() -> None:
    cell = busy()
    x = torch.randn(2, 24, 6, dtype=torch.float64)
    mask = (torch.rand(2, 24, 1) < 0.5).double()
    new = cell(x, mask)
    assert torch.equal(new[mask[..., 0] == 0], x[mask[..., 0] == 0])
    torch.testing.assert_close(new, torch.where(mask > 0, cell(x), x))


def test_the_state_keeps_its_dtype_under_autocast_and_stays_near_float32() -> None:
    cell = busy().float()
    x = torch.randn(2, 24, 6)
    with torch.autocast("cpu", torch.bfloat16):
        low = cell(x)
    assert low.dtype == torch.float32
    # bfloat16 has 8 bits: 2^-8 relative a product, a few products deep.
    assert float((low - cell(x)).abs().max() / cell(x).abs().max()) < 0.03


@pytest.mark.parametrize(
    ("backend", "compiler"),
    [
        ("stencil", "inductor"),
        # Traced and differentiated each time; put into C++, which takes most of the time, among the slow tests.
        *(("scatter", "aot_eager"), ("conv", "aot_eager")),
        *(pytest.param(backend, "inductor", marks=pytest.mark.slow) for backend in ("scatter", "conv")),
    ],
)
def test_compiled_equals_eager(backend: str, compiler: str) -> None:
    torch.compiler.reset()
    cell = busy(backend=backend).float()
    compiled = copy.deepcopy(cell)
    compiled.compile(dynamic=False, backend=compiler)
    x = torch.randn(2, 24, 6)
    results = []
    for module in (cell, compiled):
        y = module(x)
        y.square().sum().backward()
        results.append([y.detach(), *(p.grad for p in module.parameters())])
    for eager, fast in zip(*results, strict=True):
        assert eager is not None
        torch.testing.assert_close(fast, eager, rtol=1e-4, atol=1e-4)


def test_it_compiles_without_a_graph_break() -> None:
    torch.compiler.reset()
    cell = busy(backend="stencil").float()
    step = torch.compile(cell.forward, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 24, 6)
    torch.testing.assert_close(step(x), cell(x))


def test_a_new_cell_moves_nothing() -> None:
    cell = GMLPCell(LATTICE, 6, hidden=8)
    x = torch.randn(2, 24, 6)
    assert torch.equal(cell(x), x)
    assert torch.equal(cell.gate_bias, torch.ones(1, 8))
    assert F.layer_norm(cell.position, (6,)).std() > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 10}, "heads divide hidden, got 6, 10, 8"),
        ({"channels": 0}, "must be positive"),
        ({"memory_channels": 6}, "leave a channel of the 6 free, got 6"),
        ({"sharing": "row"}, "got 'row'"),
        ({"sharing": "layer", "backend": "conv"}, "'conv' shares its weights between all cells, use 'stencil'"),
        ({"fire_rate": 0.0}, r"\(0, 1\], got 0.0"),
    ],
)
def test_bad_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GMLPCell(LATTICE, **{"channels": 6, "hidden": 8, **options})


def test_gate_std_is_what_the_gate_starts_with():
    torch.manual_seed(0)
    cell = GMLPCell(Lattice((9,), [(k,) for k in range(-8, 9) if k]), 8, hidden=512, heads=512, gate_std=17**-0.5)
    v = torch.randn(64, 9, 512)
    heard = cell.neighbour_sum(v, cell.gate_weight[:, 0].repeat_interleave(1, dim=-1)[:, None])[:, 4]
    # The middle cell has 8 neighbours within the lattice and itself: 9 of 17 terms of variance 1 / 17.
    assert float(heard.detach().var()) == pytest.approx(9 / 17, rel=0.05)
    assert float(GMLPCell(LATTICE).gate_weight.detach().std()) == pytest.approx(0.02, rel=0.5)


def test_norm_transport_against_the_equations():
    cell = busy(norm_transport=True)
    plain = busy()
    plain.load_state_dict(cell.state_dict())
    x = torch.randn(2, cell.lattice.num_nodes, 6, dtype=torch.float64)
    transport = torch.zeros_like(x)
    source, target = cell.lattice.edge_index
    normed = x / x.square().mean(-1, keepdim=True).sqrt()
    for edge, direction in enumerate(cell.lattice.edge_direction):
        change = cell.transport[direction, 0] * (normed - x)[:, source[edge]]
        transport[:, target[edge]] += change
    transport += cell.transport[-1, 0] * (normed - x)
    torch.testing.assert_close(cell(x), plain(x) + transport, rtol=1e-9, atol=1e-9)


def test_a_normed_transport_does_not_grow_exponentially():
    states = {}
    for normed in (False, True):
        cell = GMLPCell(Lattice((8,)), 4, hidden=8, heads=2, norm_transport=normed)
        torch.nn.init.ones_(cell.transport)
        x = torch.ones(1, 8, 4)
        for _ in range(64):
            x = cell(x)
        states[normed] = float(x.detach().abs().max())
    # A cell becomes twice itself and its neighbours, whose square is beyond float32 in the end; or has at most
    # 3 sqrt(4) more.
    assert not math.isfinite(states[False])
    assert states[True] <= 1 + 64 * 3 * 2


def test_norm_transport_has_no_conveyor():
    with pytest.raises(ValueError, match="norm_transport must be off"):
        GMLPCell(LATTICE, 6, hidden=8, heads=2, norm_transport=True).set_conveyor(0, 0.5)


def test_a_conveyor_is_a_shift_from_the_start_and_in_the_configuration():
    lattice = Lattice((5,))
    cell = GMLPCell(lattice, 3, hidden=4, heads=2, conveyor=(-1,), conveyor_rate=1.0)
    x = torch.randn(1, 5, 3)
    torch.testing.assert_close(cell(x), torch.cat([torch.zeros(1, 1, 3), x[:, :-1]], dim=1))
    assert torch.equal(GMLPCell(lattice, **cell.config()).transport, cell.transport)
    with pytest.raises(ValueError, match=r"conveyor must be an offset of the lattice, got \(2,\)"):
        GMLPCell(lattice, 3, hidden=4, heads=2, conveyor=(2,))


def test_norm_transport_is_never_fused():
    with pytest.raises(ValueError, match="backend 'fused'"):
        busy(norm_transport=True).backend = "fused"


@pytest.mark.slow
def test_a_cube_of_private_cells_trains():
    """61 million weights, a gMLP for each of 2,475 cells: the loss falls, and grouped products keep an update short."""
    cell = GMLPCell(Lattice((11, 15, 15)), sharing="cell")
    counts = cell.parameter_counts()
    assert counts["gmlp"] == 2475 * GMLPCell(Lattice((11, 15, 15))).parameter_counts()["gmlp"]
    optimiser = torch.optim.Adam(cell.parameters(), lr=1e-3)
    x, target = torch.randn(2, 2475, 64), torch.randn(2, 2475, 64)
    losses = []
    start = time.perf_counter()
    for _ in range(6):
        optimiser.zero_grad()
        loss = (rollout(cell, x, num_steps=2).x - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    # A Python loop over the cells takes some 2,475 x 2 x 3 products a pass, minutes in all.
    assert time.perf_counter() - start < 120


def _pushed(cell: GMLPCell, x: Tensor, perceived: object, context: Tensor | None = None) -> Tensor:
    return GMLPCell.update(cell, x, perceived, context) + 0.5 * torch.tanh(x)


def _kept(cell: GMLPCell, x: Tensor, update_mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
    return GMLPCell.forward(cell, x, update_mask, context).clamp(-0.3, 0.3)


@pytest.mark.parametrize("own", [{"update": _pushed}, {"forward": _kept}], ids=["update", "forward"])
def test_a_step_of_one_s_own_is_taken_everywhere(own: dict[str, object]) -> None:
    """By no light cone and no operator of whole steps, which know the gated cell's alone."""
    kind = type("Mine", (GMLPCell,), own)
    cell = kind(Lattice((3, 4, 4)), 64, hidden=64)
    randomise(cell, std=0.1)
    x = torch.randn(2, 48, 64)
    plainly = Cell.forward(cell, x) if "update" in own else _kept(cell, x)
    torch.testing.assert_close(cell(x), plainly)
    with pytest.raises(ValueError, match=r"plain steps only, of a GMLPCell, got Mine"):
        kind(Lattice((3, 4, 4)), 64, hidden=64, backend="fused")
    model = CellGraph(
        kind(Lattice((3, 4, 4)), 8, hidden=8), in_features=4, num_steps=3, surface_channels=1, path="none"
    )
    randomise(model, std=0.2)
    question = torch.randn(2, 4)
    assert model.cone(3) is None
    torch.testing.assert_close(model.eval()(question).embedding, model(question, states=True).embedding)
