"""The 2-D ARC: grids laid out, and automata of many tasks beside single ones."""

import numpy as np
import pytest
import torch
from arc2d_tasks import OFFSETS, drawn, experiment, made, recoloured, ten_tasks

from cellgraph.automata import on_lattice
from cellgraph.automata.tasks.arc2d.automata import GridAutomata, GridReadout, grid_loss
from cellgraph.automata.tasks.arc2d.colours import free_colours, permuted
from cellgraph.automata.tasks.arc2d.fitting import Fitting, answered
from cellgraph.automata.tasks.arc2d.grids import GridPair
from cellgraph.automata.tasks.arc2d.layout import OUTSIDE, GridLayout, turns
from cellgraph.automata.tasks.arc2d.walk import walk
from cellgraph.lattice import Lattice
from cellgraph.unroll import rollout


@pytest.fixture
def path(tmp_path):
    return ten_tasks(tmp_path / "arc.json")


@pytest.mark.parametrize("neighbourhood", [4, 8])
def test_each_row_walks_as_its_own_cell_on_a_lattice(neighbourhood):
    offsets = Lattice((3, 3), neighbourhood).offsets
    rows = [[drawn(2, 3, 1), drawn(4, 2, 2)], [drawn(1, 5, 3)]]
    layout = GridLayout.of(rows, offsets)
    cells = [made(Lattice((3, 3), neighbourhood), 4).double() for _ in rows]
    names = [name for name, _ in cells[0].named_parameters()]
    weights = {name: torch.stack([dict(c.named_parameters())[name] for c in cells]) for name in names}
    x = torch.randn(2, layout.source.size(1), 5, dtype=torch.float64, requires_grad=True)
    context = torch.randn(2, layout.source.size(1), 4, dtype=torch.float64)
    states = walk(cells[0], weights, layout, x, context, num_steps=3)
    probe = torch.randn_like(x)
    (states[-1] * probe).sum().backward()
    found = {name: [dict(c.named_parameters())[name].grad for c in cells] for name in names}
    given = x.grad.clone()
    for cell in cells:
        cell.zero_grad()
    x.grad = None
    for row, (pairs, cell) in enumerate(zip(rows, cells, strict=True)):
        start = 0
        for pair in pairs:
            own, lattice = slice(start, start + pair.cells), Lattice(pair.source.shape, neighbourhood)
            options = {"num_steps": 3, "context": context[row : row + 1, own], "trajectory": True}
            alone = rollout(cell.on(lattice), x[row : row + 1, own], **options)
            assert torch.allclose(torch.stack(states)[:, row, own], alone.trajectory[:, 0], atol=1e-6)
            start += pair.cells
        assert (states[-1][row, start:] == 0).all()
        # With the very weights, for their gradients.
        total, start = 0.0, 0
        for pair in pairs:
            own = slice(start, start + pair.cells)
            there = on_lattice(cell, Lattice(pair.source.shape, neighbourhood))
            end = rollout(there, x[row : row + 1, own], num_steps=3, context=context[row : row + 1, own]).x
            total = total + (end * probe[row : row + 1, own]).sum()
            start += pair.cells
        total.backward()
        for name, parameter in cell.named_parameters():
            assert torch.allclose(found[name][row], parameter.grad, atol=1e-5), name
    assert torch.allclose(given, x.grad, atol=1e-5)


def test_products_in_bfloat16_come_near():
    layout = GridLayout.of([[drawn(5, 6)]], OFFSETS)
    cell = made(Lattice((3, 3), 8), 4)
    weights = {name: p.detach()[None] for name, p in cell.named_parameters()}
    x, context = torch.randn(1, 30, 5), torch.randn(1, 30, 4)
    whole, half = (walk(cell, weights, layout, x, context, num_steps=4, half=half)[-1] for half in (False, True))
    assert 0 < (whole - half).abs().max() < 0.1 * whole.abs().max()


@pytest.mark.parametrize("way", range(8))
def test_a_turned_layout_is_that_of_the_turned_grid(way):
    pair = drawn(3, 5)
    cell, readout = made(Lattice((3, 3), 8), 12), GridReadout(5)
    automata = GridAutomata.alike(cell, readout, torch.randn(1, 2))
    taps = turns(OFFSETS)[way]
    (found,) = automata.answer(GridLayout.of([[pair]], OFFSETS).turned(taps), 3)
    found = found.view(3, 5, 10)
    # The grid itself, turned in each way: one of them, and no other, gives what the turned directions give.
    agree = []
    for mirror in (False, True):
        for quarter in range(4):

            def turned(array, mirror=mirror, quarter=quarter):
                array = np.flip(array, 1) if mirror else array
                return np.rot90(array, quarter).copy()

            source = turned(pair.source)
            (one,) = automata.answer(GridLayout.of([[GridPair(source, source)]], OFFSETS), 3)
            expected = turned(found.detach().numpy())
            agree.append(bool(np.allclose(one.detach().view(*source.shape, 10).numpy(), expected, atol=1e-4)))
    assert sum(agree) == 1
    assert agree[0] == (way == 0)


def test_gradients_pass_a_turned_layout():
    cell = made(Lattice((3, 3), 8), 12).double()
    layout = GridLayout.of([[drawn(2, 3)]], OFFSETS).turned(turns(OFFSETS)[1])
    weights = {name: p.detach()[None].requires_grad_() for name, p in cell.named_parameters()}
    context = torch.randn(1, 6, 12, dtype=torch.float64)

    def end(x):
        return walk(cell, weights, layout, x, context, num_steps=2)[-1]

    x = torch.randn(1, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(end, x, atol=1e-5)
    # The step's backward is written by hand, and refuses to be differentiated itself.
    (grad,) = torch.autograd.grad(end(x).pow(3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_rows_of_a_layout_are_selected_and_coloured():
    rows = [[drawn(2, 3, 1), drawn(1, 2, 2)], [drawn(1, 3, 3)]]
    layout = GridLayout.of(rows, OFFSETS)
    alone = layout.select(torch.tensor([1]))
    fresh = GridLayout.of(rows[1:], OFFSETS)
    for name in ("source", "target", "grid", "neighbours"):
        assert torch.equal(getattr(alone, name), getattr(fresh, name)), name
    colours = torch.stack([torch.arange(10), torch.arange(10).flip(0)]).expand(2, 2, 10)
    seen = layout.coloured(colours)
    assert seen.source[0, :6].tolist() == rows[0][0].source.ravel().tolist()
    assert seen.target[0, 6:8].tolist() == (9 - rows[0][1].target).ravel().tolist()
    assert (seen.source[1, 3:] == OUTSIDE).all()


def test_only_free_colours_change_places():
    task = recoloured("t", 4, 7)
    # 4 is in all demonstrations, 7 new in a target, 0 the background.
    assert free_colours(task) == [1, 2, 3, 5, 6, 8, 9]
    found = permuted([free_colours(task), []], 50, torch.Generator().manual_seed(0))
    assert (found.sort(-1).values == torch.arange(10)).all()
    assert (found[0][:, [0, 4, 7]] == torch.tensor([0, 4, 7])).all()
    assert (found[1] == torch.arange(10)).all()
    # Each free colour comes to each free place.
    assert {*found[0, :, 1].tolist()} == {1, 2, 3, 5, 6, 8, 9}


def test_the_loss_is_that_of_the_cells_counted_by_hand():
    pair = GridPair(np.array([[1, 2, 3, 4]]), np.array([[1, 2, 3, 5]]))
    layout = GridLayout.of([[pair], [drawn(2, 3)]], OFFSETS)
    logits = torch.randn(2, 6, 10)
    each = [-float(logits[0, i].log_softmax(-1)[c]) for i, c in enumerate([1, 2, 3, 5])]
    expected = 0.25 * sum(each) / 4 + 0.75 * (sum(each[:3]) / 3 + each[3]) / 2
    assert float(grid_loss(logits, layout, balance=0.75)[0]) == pytest.approx(expected, rel=1e-5)


def test_votes_over_colourings_keep_the_colours(path):
    task, cell = experiment(path)
    # An automaton that keeps what is there does so in any colours and turned in any way.
    torch.nn.init.zeros_(task.readout.colour.weight)
    torch.nn.init.zeros_(task.readout.colour.bias)
    automata = GridAutomata.alike(cell, task.readout, torch.zeros(1, 3))
    layout = GridLayout.of([[drawn(3, 4), drawn(2, 2)]], OFFSETS)
    options = {"num_steps": 2, "turned": True, "generator": torch.Generator().manual_seed(0)}
    found = answered(automata, layout, OFFSETS, [range(10)], Fitting(votes=8), **options)
    assert torch.equal(found, layout.source)
