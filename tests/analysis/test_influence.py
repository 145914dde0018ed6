from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from cellgraph import CellGraph, GMLPCell, Lattice, NCACell
from cellgraph.analysis.influence import Spread, direction_influence, influence, inputs_heard, receptive_radius, spread
from cellgraph.analysis.reach import colouring, distances, in_reach, lateral_distances
from cellgraph.analysis.states import advance, initial_state
from cellgraph.analysis.without import without_update
from cellgraph.ops.fused import load_operators
from cellgraph.testing import randomise

WIDTH = 24


def network(
    lattice: Lattice, num_steps: int, *, injection: str = "once", memory: int = 0, **dynamics: Any
) -> CellGraph:
    """A network in float64 with no weight at zero: all that can be heard is."""
    cell = GMLPCell(lattice, channels=5, hidden=8, heads=2, memory_channels=memory, **dynamics)
    ends = {1: ("left", "right"), 2: ("top", "bottom"), 3: ("front", "back")}[lattice.dim]
    model = CellGraph(
        cell,
        in_features=WIDTH,
        input_nodes=ends[0],
        output_nodes=ends[1],
        surface_channels=2,
        path="none",
        num_steps=num_steps,
        injection=injection,
    )
    with torch.no_grad():
        for weight in cell.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model.double().eval()


def rolled(model: CellGraph, surface: Tensor) -> Tensor:
    """States after the rollout, as a function of the input surface; the memory starts empty."""
    x = model.input_surface.inject(surface[None], num_channels=model.cell.channels)
    for step in range(model.num_steps[1]):
        x = advance(model, x, step)
    return x[0]


def blocks(jacobian: Tensor, outputs: int, out_channels: int) -> Tensor:
    """Norm of each cell's block of a Jacobian, ``[inputs, outputs]``."""
    parts = jacobian.reshape(outputs, out_channels, -1, 2)
    return (parts.square().sum((1, 3)).T / 2).sqrt()


@pytest.mark.parametrize(
    ("lattice", "num_steps", "options"),
    [
        (Lattice((3, 3, 4)), 2, {}),
        (Lattice((3, 3, 4)), 5, {"injection": "clamped", "memory": 1}),
        (Lattice((3, 4, 4), 26, boundary=("open", "periodic", "open")), 2, {}),
        (Lattice((4, 5), 8), 4, {}),
        (Lattice((6,)), 5, {}),
        (Lattice((3, 3, 4)), 3, {"fire_rate": 0.5, "always_random": True}),
    ],
)
def test_influence_is_the_jacobian(lattice, num_steps, options):
    model = network(lattice, num_steps, **options)
    question = torch.randn(WIDTH, dtype=torch.double)
    surface = model.question_adapter.encode(question[None])[0].detach()

    def answer(surface: Tensor) -> Tensor:
        return model.output_surface.extract(rolled(model, surface)[None])[0] / model.conveyor.gain(num_steps)

    outputs = model.output_surface.index.numel()
    wanted = blocks(torch.autograd.functional.jacobian(answer, surface), outputs, 2)
    found = influence(model, question)
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-8)
    some = model.input_surface.index[::2]
    torch.testing.assert_close(influence(model, question, some), wanted[::2], atol=1e-10, rtol=1e-8)


def far_hearing(name: str) -> CellGraph:
    """A network whose cells hear further than their neighbours in a step; by these, two steps lead straight on."""
    lattice = Lattice((3, 6))
    cell = {
        "pooled": lambda: NCACell(lattice, 4, perception={"name": "pooled", "pooled": 3}),
        "sequential": lambda: GMLPCell(lattice, channels=4, hidden=6, heads=2, order="sequential"),
    }[name]()
    model = CellGraph(
        cell, in_features=WIDTH, input_nodes="top", output_nodes="bottom", surface_channels=2, num_steps=2, path="none"
    )
    randomise(model.cell, std=0.5)
    return model.double().eval()


@pytest.mark.parametrize("name", ["pooled", "sequential"])
def test_what_is_heard_from_afar_in_one_step_is_in_the_jacobian(name):
    model = far_hearing(name)
    question = torch.randn(WIDTH, dtype=torch.double)
    surface = model.question_adapter.encode(question[None])[0].detach()

    def answer(surface: Tensor) -> Tensor:
        return model.output_surface.extract(rolled(model, surface)[None])[0] / model.conveyor.gain(2)

    wanted = blocks(torch.autograd.functional.jacobian(answer, surface), 6, 2)
    assert bool((wanted * (1 - torch.eye(6)) > 1e-6).any())
    torch.testing.assert_close(influence(model, question), wanted, atol=1e-10, rtol=1e-8)
    # One step, between all cells.
    with torch.no_grad():
        x = initial_state(model, question[None]) + torch.randn(1, 18, 4, dtype=torch.double)
    size = torch.autograd.functional.jacobian(lambda s: advance(model, s[None])[0], x[0]).square().sum((1, 3))
    felt = size.T > 0
    assert not bool((felt & ~in_reach(model, torch.arange(18), 1)).any())
    assert bool((felt & (distances(model.lattice, torch.arange(18)) > 1)).any())


@pytest.mark.parametrize("name", ["pooled", "sequential"])
def test_direction_influence_of_cells_that_hear_from_afar(name):
    model = far_hearing(name)
    question = torch.randn(WIDTH, dtype=torch.double)
    lattice, found = model.lattice, direction_influence(model, question)
    with torch.no_grad():
        x = initial_state(model, question[None])
    for step in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda s, step=step: advance(model, s[None], step)[0], x[0])
        size = jacobian.square().sum((1, 3))
        for k in range(lattice.num_directions):
            source, target = lattice.edge_index[:, lattice.edge_direction == k]
            assert float(found[step, k]) == pytest.approx(float((size[target, source].mean() / 4).sqrt()))
        with torch.no_grad():
            x = advance(model, x, step)


@pytest.mark.parametrize("readout", ["surface", "all"])
def test_influence_on_what_is_read_and_through_a_gated_update(readout):
    lattice = Lattice((3, 3, 3), 26)
    cell = GMLPCell(lattice, channels=5, hidden=8, heads=2, memory_channels=1)
    model = CellGraph(cell, in_features=WIDTH, surface_channels=2, num_steps=3, path="linear", readout=readout)
    with torch.no_grad():
        for weight in cell.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    model = model.double().eval()
    question = torch.randn(WIDTH, dtype=torch.double)
    surface = model.encode(question[None])[0].detach()
    straight = copy.deepcopy(model)
    torch.nn.init.zeros_(straight.cell.out_weight)
    torch.nn.init.zeros_(straight.cell.out_bias)
    read = model.read_index
    assert len(read) == (9 if readout == "surface" else 27)

    def jacobian(network: CellGraph) -> Tensor:
        # All channels but the memory, which is not read.
        return torch.autograd.functional.jacobian(lambda s: rolled(network, s)[read, :4].flatten(), surface)

    def wanted(derivative: Tensor) -> Tensor:
        return blocks(derivative, len(read), 4) / model.conveyor.gain(3)

    whole, linear = jacobian(model), jacobian(straight)
    close = {"atol": 1e-10, "rtol": 1e-8}
    torch.testing.assert_close(influence(model, question), wanted(whole), **close)
    torch.testing.assert_close(influence(without_update(model), question), wanted(linear), **close)
    through = influence(model, question, less=without_update(model))
    torch.testing.assert_close(through, wanted(whole - linear), **close)
    assert float(influence(straight, question, less=without_update(straight)).abs().max()) == 0


def test_inputs_heard_are_an_effective_number():
    heard = torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    # Two alike; powers of 1/4 and 1; none.
    assert inputs_heard(heard).tolist() == pytest.approx([2.0, 1.25**2 / (1 + 1 / 16), 0.0])


def test_influence_agrees_with_finite_differences():
    model = network(Lattice((3, 3, 3)), 3)
    question = torch.randn(WIDTH, dtype=torch.double)
    surface = model.question_adapter.encode(question[None])[0].detach()
    columns = []
    for axis in torch.eye(len(surface), dtype=torch.double) * 1e-5:
        with torch.no_grad():
            change = rolled(model, surface + axis) - rolled(model, surface - axis)
        columns.append(model.output_surface.extract(change[None])[0] / 2e-5 / model.conveyor.gain(3))
    torch.testing.assert_close(influence(model, question), blocks(torch.stack(columns, 1), 9, 2), atol=1e-7, rtol=1e-5)


def test_a_new_network_hands_each_input_cell_on():
    lattice = Lattice((4, 3, 3), boundary=("open", "periodic", "periodic"))
    model = CellGraph(
        GMLPCell(lattice, channels=4, hidden=8), in_features=WIDTH, surface_channels=1, num_steps=6
    ).eval()
    torch.testing.assert_close(influence(model, torch.randn(WIDTH)), torch.eye(9), atol=1e-5, rtol=0)


def test_spread_is_the_jacobian_at_every_step():
    model = network(Lattice((3, 3, 3)), 3)
    question = torch.randn(WIDTH, dtype=torch.double)
    surface = model.question_adapter.encode(question[None])[0].detach()
    found = spread(model, question, model.input_surface.index[[1, 4]])
    for step in range(1, 4):
        model.num_steps = (step, step)
        jacobian = torch.autograd.functional.jacobian(lambda s: rolled(model, s), surface)
        torch.testing.assert_close(found.influence[step], blocks(jacobian, 27, 5)[[1, 4]], atol=1e-10, rtol=1e-8)
    start = torch.zeros(2, 27, dtype=torch.double)
    start[[0, 1], model.input_surface.index[[1, 4]]] = 1
    torch.testing.assert_close(found.influence[0], start)
    with pytest.raises(ValueError, match=r"must be cells of the input surface, got the nodes \[26\]"):
        spread(model, question, torch.tensor([0, 26]))


@pytest.mark.parametrize("neighbourhood", [6, 18, 26])
def test_arrival_is_the_graph_distance(neighbourhood):
    lattice = Lattice((3, 4, 5), neighbourhood, boundary=("open", "open", "periodic"))
    model = network(lattice, 4)
    sources = model.input_surface.index[[0, 7]]
    found = spread(model, torch.randn(WIDTH, dtype=torch.double), sources)
    for node, arrived in zip(sources, found.arrival(), strict=True):
        hops = lattice.hops(torch.arange(lattice.num_nodes) == node)
        assert torch.equal(arrived, torch.where(hops <= 4, hops, -1))
    assert bool((found.peak() >= found.arrival()).all())


def test_arrival_of_a_share_waits_for_it():
    felt = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.6, 0.0], [1.0, 0.0], [0.2, 0.0]])[:, None]
    found = Spread(torch.tensor([0]), felt)
    assert found.arrival().tolist() == [[1, -1]]
    assert found.arrival(0.5).tolist() == [[2, -1]]
    assert found.peak().tolist() == [[3, -1]]


@pytest.mark.parametrize(
    ("boundary", "options"),
    [("open", {}), ("periodic", {}), ("open", {"fire_rate": 0.5, "always_random": True})],
)
def test_direction_influence_is_the_jacobian_of_a_step(boundary, options):
    lattice = Lattice((3, 3, 4), boundary=boundary)
    model = network(lattice, 2, **options)
    question = torch.randn(WIDTH, dtype=torch.double)
    found = direction_influence(model, question)
    with torch.no_grad():
        x = initial_state(model, question[None])
    for step in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda s, step=step: advance(model, s[None], step)[0], x[0])
        size = jacobian.square().sum((1, 3))  # [target, source]
        for k in range(lattice.num_directions):
            edges = lattice.edge_index[:, lattice.edge_direction == k]
            assert float(found[step, k]) == pytest.approx(float((size[edges[1], edges[0]].mean() / 5).sqrt()))
        assert float(found[step, -1]) == pytest.approx(float((size.diagonal().mean() / 5).sqrt()))
        with torch.no_grad():
            x = advance(model, x, step)
    estimate = direction_influence(model, question, probes=200, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(estimate, found, rtol=0.03, atol=0)


def test_rows_of_a_colour_share_no_column():
    reach = torch.rand(30, 40) < 0.1
    colours = colouring(reach)
    for colour in range(int(colours.max()) + 1):
        assert int(reach[colours == colour].sum(0).max()) <= 1
    assert colouring(torch.eye(5, dtype=torch.bool)).tolist() == [0] * 5
    assert colouring(torch.ones(3, 2, dtype=torch.bool)).tolist() == [0, 1, 2]


def test_distances_are_hops():
    mask = torch.ones(3, 4, 4, dtype=torch.bool)
    mask[1, :, 1:] = False
    mask[2, 3, 3] = True
    mask[2, 2, 3] = mask[2, 3, 2] = False  # cut off
    lattice = Lattice((3, 4, 4), mask=mask)
    found = distances(lattice, torch.tensor([0, 5]))
    for row, node in zip(found, (0, 5), strict=True):
        assert torch.equal(row, lattice.hops(torch.arange(lattice.num_nodes) == node))
    assert int(found.min()) == -1


def test_receptive_radius_is_a_weighted_root_mean_square():
    felt = torch.tensor([[3.0, 0.0, 0.0], [4.0, 0.0, 2.0]])
    far = torch.tensor([[0.0, 1.0, 1.0], [5.0, 0.0, 7.0]])
    radius = receptive_radius(felt, far)
    assert radius[[0, 2]].tolist() == pytest.approx([4.0, 7.0])  # sqrt(16 * 25 / 25)
    assert bool(radius[1].isnan())


def test_lateral_distances_leave_the_way_of_the_signal_out():
    lattice = Lattice((4, 3, 6), boundary=("open", "open", "periodic"))
    model = CellGraph(GMLPCell(lattice, channels=4, hidden=8), in_features=WIDTH, surface_channels=1, num_steps=4)
    apart = lateral_distances(model)
    assert apart.diagonal().tolist() == [0.0] * 18
    assert float(apart[0, 5]) == 1  # once round the periodic width
    assert float(apart[0, 17]) == pytest.approx(5**0.5)  # two down, one round


@pytest.mark.slow
def test_fused_steps_have_the_same_influence():
    lattice = Lattice((3, 4, 4))
    model = CellGraph(
        GMLPCell(lattice, channels=16, hidden=32), in_features=WIDTH, surface_channels=1, num_steps=3
    ).eval()
    torch.nn.init.normal_(model.cell.out_weight, std=0.1)
    question = torch.randn(WIDTH)
    wanted = influence(model, question)
    if not load_operators():
        pytest.skip("no compiler to build the fused step with")
    model.cell.backend = "fused"
    torch.testing.assert_close(influence(model, question), wanted)
