"""The contract of all cells: any cell of two methods steps, sweeps, dies and is given what it is given."""

from __future__ import annotations

import copy
import itertools

import networkx
import pytest
import torch

from cellgraph import Cell, GMLPCell, Graph, Lattice, NCACell, rollout
from cellgraph.nn.transported import Transported
from cellgraph.testing import randomise

KINDS = {
    "gmlp": lambda lattice, **options: GMLPCell(lattice, 8, hidden=8, heads=2, **options),
    "nca": lambda lattice, **options: NCACell(lattice, 8, **options),
    "gru": lambda lattice, **options: NCACell(lattice, 8, perception="stencil", update="gru", **options),
    "attention": lambda lattice, **options: NCACell(lattice, 8, perception="attention", norm="rms", **options),
}


class Counter(Cell):
    """Every cell becomes one more than the greatest of its neighbours: what it sees shows in what it becomes."""

    def perceive(self, x, context=None):
        source, target = self.edge_index
        return x.new_zeros(x.shape).index_reduce(1, target, x[:, source], "amax")

    def update(self, x, perceived, context=None):
        return perceived + 1 - x + (0 if context is None else context)


@pytest.mark.parametrize("kind", KINDS)
def test_step_size_and_mask_scale_the_change(kind):
    lattice = Lattice((3, 4), 8)
    cell = KINDS[kind](lattice, step_size=0.25).double()
    randomise(cell)
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    whole = copy.copy(cell)
    whole.step_size = 1.0
    change = whole(x) - x
    torch.testing.assert_close(cell(x), x + 0.25 * change)
    mask = (torch.rand(2, 12, 1) < 0.5).double()
    torch.testing.assert_close(cell(x, mask), x + 0.25 * mask * change)


@pytest.mark.parametrize("graph", [Lattice((4, 5)), Graph(torch.tensor(list(networkx.petersen_graph().edges)).T)])
def test_a_sweep_shows_later_classes_what_earlier_ones_became(graph):
    cell = Counter(graph, 1, order="sequential")
    x = torch.randint(9, (1, graph.num_nodes, 1)).float()
    expected = x[0, :, 0].tolist()
    into = [[s for s, t in graph.edge_index.T.tolist() if t == node] for node in range(graph.num_nodes)]
    colours = graph.colours()
    for colour in range(int(colours.max()) + 1):
        # No two of a class are neighbours, so one after the other is the same as all at once.
        for node in (colours == colour).nonzero().flatten().tolist():
            expected[node] = 1 + max([0.0, *(expected[source] for source in into[node])])
    assert cell(x)[0, :, 0].tolist() == expected


def test_the_dead_are_those_with_nobody_alive_around_before_and_after():
    lattice = Lattice((5, 6), 8, mask=torch.rand(5, 6) > 0.2)
    cell = NCACell(lattice, 4, alive_channel=1, alive_threshold=0.1)
    randomise(cell, std=0.5)
    x = torch.randn(3, lattice.num_nodes, 4) * 0.2
    free = copy.copy(cell)
    free.alive_channel = None
    after = free(x)
    places = {tuple(place): i for i, place in enumerate(lattice.positions.tolist())}
    for sample, (place, node) in itertools.product(range(3), places.items()):
        near = [(place[0] + a, place[1] + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        cells = [places[there] for there in near if there in places]
        lives = all(max(float(state[sample, i, 1]) for i in cells) > 0.1 for state in (x, after))
        torch.testing.assert_close(cell(x)[sample, node], after[sample, node] * lives)
    assert (cell(x) == 0).all(-1).any()
    assert not (cell(x) == 0).all(-1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("each", [1, 12])
def test_a_context_reaches_the_cells_it_is_given_to_and_the_gradient_comes_back(kind, each):
    cell = KINDS[kind](Lattice((3, 4), 8), context_channels=3).double()
    randomise(cell)
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    context = torch.randn(2, each, 3, dtype=torch.float64, requires_grad=True)
    y = cell(x, None, context)
    assert not torch.allclose(y, cell(x, None, torch.zeros_like(context)))
    (grad,) = torch.autograd.grad(y[0, 5].sum(), context)
    assert grad[0].abs().sum() > 0
    assert grad[1].abs().sum() == 0
    torch.testing.assert_close(cell(x, None, context.expand(2, 12, 3)), y)
    run = rollout(cell, x, num_steps=3, context=context, remat_every=2)
    state = x
    for _ in range(3):
        state = cell(state, None, context)
    torch.testing.assert_close(run.x, state, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed_random_rollouts_have_the_same_bits(kind):
    cell = KINDS[kind](Lattice((3, 4), 8), fire_rate=0.5).train()
    randomise(cell)
    found = []
    for every in (0, 2):
        x = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        run = rollout(cell, x, num_steps=5, remat_every=every, generator=torch.Generator().manual_seed(2))
        found.append([run.x, *torch.autograd.grad(run.x.square().sum(), (x, *cell.parameters()), allow_unused=True)])
    for one, other in zip(*found, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_always_random_is_random_in_evaluation_and_expected_updates_are_not():
    lattice = Lattice((30, 30))
    for always in (False, True):
        cell = Counter(lattice, 1, fire_rate=0.5, always_random=always).eval()
        y = rollout(cell, torch.zeros(1, 900, 1), num_steps=1).x
        assert set(y.unique().tolist()) == ({0.0, 1.0} if always else {0.5})


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_equals_eager(kind):
    cell = KINDS[kind](Lattice((3, 4), 8), alive_channel=0)
    randomise(cell)
    x = torch.randn(2, 12, 8)
    compiled = torch.compile(cell, backend="aot_eager", dynamic=False)
    torch.testing.assert_close(compiled(x), cell(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_builds_the_same_cell(kind):
    lattice = Lattice((3, 4), 8)
    cell = KINDS[kind](
        lattice, fire_rate=0.5, order="sequential", alive_channel=2, context_channels=1, memory_channels=2
    )
    twin = type(cell)(lattice, **cell.config())
    twin.load_state_dict(cell.state_dict())
    x, context = torch.randn(1, 12, 8), torch.randn(1, 1, 1)
    assert torch.equal(twin(x, None, context), cell(x, None, context))
    assert twin.config() == cell.config()


class Own(Cell):
    """A cell of one's own: no configuration, its lattice last, a module as an argument, weights of each node."""

    def __init__(self, net, lattice, *, scale=1.0):
        super().__init__(lattice, 2, step_size=0.5)
        self.inside, self.scale = net, scale
        self.bias = torch.nn.Parameter(torch.randn(lattice.num_nodes, 2))

    def perceive(self, x, context=None):
        return self.neighbour_sum(x, x.new_ones(self.lattice.num_directions + 1, 1, 2))

    def update(self, x, perceived, context=None):
        return self.scale * self.inside(perceived) + self.bias


class Closed(Cell):
    """A cell that makes its lattice itself."""

    def __init__(self, size):
        super().__init__(Lattice((size,)), 2)


def test_a_cell_of_one_s_own_moves_to_another_lattice():
    cell = Own(torch.nn.Linear(2, 2), Lattice((3, 4)), scale=3.0).double().eval()
    cell.inside.weight.requires_grad_(False)
    moved = cell.on(Lattice((5, 5), boundary="periodic"))
    assert type(moved) is Own
    assert (moved.lattice.shape, moved.scale, moved.step_size, moved.training) == ((5, 5), 3.0, 0.5, False)
    assert torch.equal(moved.inside.weight, cell.inside.weight)
    assert moved.inside.weight.data_ptr() != cell.inside.weight.data_ptr()
    assert (moved.bias.shape, moved.bias.dtype) == ((25, 2), torch.float64)
    assert [p.requires_grad for p in moved.parameters()] == [p.requires_grad for p in cell.parameters()]
    x = torch.randn(1, 25, 2, dtype=torch.float64)
    near = x.reshape(1, 5, 5, 2)
    summed = near + sum(near.roll(move, axis) for axis in (1, 2) for move in (-1, 1))
    expected = x + 0.5 * (3 * cell.inside(summed.reshape(1, 25, 2)) + moved.bias)
    torch.testing.assert_close(moved(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_on_another_lattice_has_its_weights_and_what_was_set_on_it(kind):
    cell = KINDS[kind](Lattice((3, 4), 8), memory_channels=1)
    randomise(cell)
    cell.step_size, cell.backend = 0.25, "scatter"
    moved = cell.on(Lattice((6, 5), 8))
    assert (moved.step_size, moved.backend, moved.memory_channels) == (0.25, "scatter", 1)
    for name, weight in moved.named_parameters():
        assert name == "position" or torch.equal(weight, cell.get_parameter(name)), name
    back = moved.on(cell.lattice)
    back.load_state_dict(cell.state_dict())
    x = torch.randn(2, 12, 8)
    assert torch.equal(back(x), cell(x))


def test_a_transport_moves_with_the_cell_beside_it():
    cell = Transported(NCACell(Lattice((3, 4), 8), 3))
    randomise(cell)
    moved = cell.on(Lattice((5, 5), 8))
    assert moved.lattice is moved.inner.lattice
    assert torch.equal(moved.transport, cell.transport)
    assert torch.equal(moved.inner.updating.outer.weight, cell.inner.updating.outer.weight)
    assert moved(torch.randn(1, 25, 3)).shape == (1, 25, 3)


def test_a_cell_that_makes_its_lattice_stays_on_it():
    with pytest.raises(ValueError, match="Closed made its lattice itself"):
        Closed(4).on(Lattice((5,)))


def test_a_cell_without_parameters_says_where_it_is():
    cell = Counter(Lattice((3, 4)), 1)
    assert cell.device == torch.device("cpu")
    assert cell.to("meta").device == torch.device("meta")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels must be positive, got 0"),
        ({"channels": 4, "memory_channels": 4}, "leave a channel of the 4 free"),
        ({"channels": 4, "context_channels": -1}, "context_channels must not be negative"),
        ({"channels": 4, "fire_rate": 0.0}, r"fire_rate must be in \(0, 1\]"),
        ({"channels": 4, "order": "random"}, "order must be one of"),
        ({"channels": 4, "alive_channel": 4}, "alive_channel must be one of the 4 channels, got 4"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Counter(Lattice((4,)), **options)


def test_a_context_that_does_not_fit_is_named():
    cell = NCACell(Lattice((4,)), 2, context_channels=3)
    for context, got in ((None, "got none"), (torch.zeros(2, 3, 3), r"got \[2, 3, 3\]"), (torch.zeros(1, 1, 2), "got")):
        with pytest.raises(ValueError, match=rf"context must be \[.*{got}"):
            cell(torch.zeros(2, 4, 2), None, context)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2, 7, 4), (2, 12, 3), (12, 4)])
def test_a_state_of_other_cells_or_channels_is_refused(kind, shape):
    cell = KINDS[kind](Lattice((3, 4)))
    wanted = rf"state must be \[batch, 12, {cell.channels}\], got"
    if list(shape[1:]) == [12, cell.channels]:
        shape = shape[1:]
    with pytest.raises(ValueError, match=wanted):
        cell(torch.zeros(shape))


def test_what_is_no_graph_carries_no_cells():
    with pytest.raises(ValueError, match=r"must be a Lattice or another Graph, got \(3, 4\)"):
        GMLPCell((3, 4), 8)
