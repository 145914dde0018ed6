"""Training of automata: what is learned, drawn, penalised and carried over."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from cellgraph import GMLPCell, Graph, Lattice
from cellgraph.automata import (
    AutomatonLesson,
    AutomatonSettings,
    Batch,
    Curriculum,
    SamplePool,
    Task,
    train_automaton,
)
from cellgraph.automata.automaton import Automaton
from cellgraph.automata.tasks import Majority
from cellgraph.nn import Cell, NCACell, Surface
from cellgraph.training import NonFiniteError, UpdateModule


class Line(Cell):
    """The least cell that learns: all add the same."""

    def __init__(self, lattice, channels=1, **options):
        super().__init__(lattice, channels, **options)
        self.weight = nn.Parameter(torch.zeros(channels))

    def perceive(self, x, context=None):
        return None

    def update(self, x, perceived, context=None):
        return self.weight.expand_as(x)


class Climb(Task):
    """From zero to one."""

    def __init__(self, channels=1):
        super().__init__(Lattice((3, 3)))
        self.channels = channels
        self.seen = []

    def sample(self, size, generator):
        return Batch(torch.zeros(size, 9, self.channels))

    def loss(self, x, batch):
        return (x - 1).square().mean((1, 2))


def settings(**options):
    base = {"max_steps": 4, "batch_size": 2, "num_steps": 4, "accelerator": "cpu", "lr": 0.02, "clip": 0.0}
    return AutomatonSettings(**{**base, **options})


def test_a_line_learns_its_slope():
    cell, task = Line(Lattice((3, 3))), Climb()
    result = train_automaton(cell, task, settings(max_steps=150), progress=False)
    # Four steps of a quarter lead from zero to one.
    assert cell.weight.item() == pytest.approx(0.25, abs=5e-3)
    assert result.steps == 150
    assert result.model.cell is cell


def rollout_terms(cell, task, **options):
    generator = torch.Generator().manual_seed(0)
    lesson = AutomatonLesson(task, AutomatonSettings(**options))
    return lesson.rollout(cell, task, task.sample(2, generator), lesson.settings.steps[1], generator)[1]


def test_terms_have_their_closed_form():
    cell = Line(Lattice((3, 3)))
    nn.init.constant_(cell.weight, 0.5)
    options = {"num_steps": 6, "supervise": 3, "overflow": 1.0, "bound": 2.0, "drift": 1.0, "drift_steps": 4}
    terms = rollout_terms(cell, Climb(), **options)
    # After 2, 4 and 6 steps of a half the states are 1, 2 and 3; four more lead two on.
    assert float(terms["task"]) == pytest.approx((0 + 1 + 4) / 3)
    assert float(terms["overflow"]) == pytest.approx(1.0)
    assert float(terms["drift"]) == pytest.approx(4.0)
    assert set(rollout_terms(cell, Climb(), num_steps=6)) == {"task"}


def test_supervised_states_divide_the_steps():
    cell = Line(Lattice((3, 3)))
    nn.init.ones_(cell.weight)
    terms = rollout_terms(cell, Climb(), num_steps=7, supervise=3)
    # The states at steps 2, 4 and 7.
    assert float(terms["task"]) == pytest.approx((1 + 9 + 36) / 3)


def test_normalised_gradients_have_norm_one_each():
    task, told = Climb(2), AutomatonSettings(normalise=True)
    module = UpdateModule(NCACell(task.lattice, 2), task.lesson(told), told)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    expected = []
    for scale, parameter in zip((1e-3, 1.0, 1e3, 1e6), module.parameters(), strict=False):
        parameter.grad = torch.randn_like(parameter) * scale
        expected.append(parameter.grad.double() / parameter.grad.double().norm())
    module.configure_gradient_clipping(optimizer)
    for parameter, wanted in zip(module.parameters(), expected, strict=False):
        torch.testing.assert_close(parameter.grad.double(), wanted, rtol=1e-4, atol=1e-6)
    module.configure_gradient_clipping(optimizer, 0.5)
    total = torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm()
    assert float(total) == pytest.approx(0.5, rel=1e-4)


def test_memory_lives_from_update_to_update_and_its_gradient_does_not():
    class Remember(Climb):
        """The state is told nothing, so only what is remembered can grow from update to update."""

        def sample(self, size, generator):
            return Batch(torch.zeros(size, 9, 2))

        def loss(self, x, batch):
            self.seen.append(float(x[..., 1].detach().mean()))
            return x.square().mean((1, 2))

    cell, task = Line(Lattice((3, 3)), 2, memory_channels=1), Remember()
    nn.init.ones_(cell.weight)
    pool = SamplePool(2, reseed=0, memory_channels=1)
    # A learning rate next to nothing: the weight stays one, and the memory counts the steps of all updates so far.
    train_automaton(cell, task, settings(max_steps=3, lr=1e-12), pool=pool, progress=False)
    assert task.seen[:3] == pytest.approx([4.0, 8.0, 12.0])
    assert pool.samples is not None
    assert not pool.samples.x.requires_grad


def test_a_pool_that_would_never_hand_out_anything_new_is_refused():
    task = Climb(4)
    for options in ({"reseed": 1}, {"reseed": 0, "max_age": 3}, {"reseed": 0, "memory_channels": 1}):
        task.pool = SamplePool(4, **options)
        task.lesson(settings())
    task.pool = SamplePool(4, reseed=0, damage=1)
    with pytest.raises(
        ValueError, match=r"must let samples start anew .* got reseed 0, max_age None and memory_channels 0"
    ):
        task.lesson(settings())


def test_a_pool_of_other_channels_than_the_memory_is_refused():
    task = Climb(4)
    cell = Line(Lattice((3, 3)), 3, memory_channels=2)
    for kept in (0, 2):
        task.pool = SamplePool(4, memory_channels=kept)
        task.check(Automaton(cell, task), settings())
    task.pool = SamplePool(4, memory_channels=1)
    with pytest.raises(ValueError, match=r"the cell's memory, 2 channels, got pool\.memory_channels 1"):
        task.check(Automaton(cell, task), settings())


def test_a_cell_on_another_lattice_than_the_task_is_refused():
    task = Majority(9, channels=4)
    graph = Graph(task.lattice.edge_index, edge_direction=task.lattice.edge_direction)
    for lattice in (Lattice((9,), boundary="periodic"), graph):
        task.check(Automaton(NCACell(lattice, 4, perception="stencil"), task), settings())
    for lattice in (Lattice((9,)), Lattice((3, 3)), Lattice((9,), [(-2,), (2,)], boundary="periodic")):
        with pytest.raises(ValueError, match=r"must be on the task's lattice, .*periodic.* got Lattice"):
            train_automaton(NCACell(lattice, 4, perception="stencil"), task, settings(), progress=False)


def test_a_pool_that_holds_no_batch_is_refused_before_training():
    task = Climb()
    task.pool = SamplePool(4)
    task.pool.draw(task, 2, torch.Generator())
    with pytest.raises(ValueError, match=r"at most the pool's 4 samples .* got 8"):
        task.lesson(settings(batch_size=8))
    assert task.pool.samples is not None, "what is refused takes nothing away"


def test_a_curriculum_that_starts_with_more_steps_is_refused():
    task = Climb()
    task.curriculum = Curriculum(num_steps=8)
    with pytest.raises(ValueError, match=r"more steps than training's \(4, 4\), got \(8, 8\)"):
        task.lesson(settings(num_steps=4))


def test_noise_has_its_deviation():
    class Listen(Climb):
        def run(self, cell, batch, **options):
            self.seen.append(batch.x.detach().clone())
            return super().run(cell, batch, **options)

    task = Listen(64)
    train_automaton(Line(task.lattice, 64), task, settings(max_steps=1, noise=0.3, val_every=9), progress=False)
    assert float(task.seen[0].std()) == pytest.approx(0.3, rel=0.1)


def test_noise_does_not_add_up_where_nothing_fades():
    """What is clamped and what is remembered is handed on by a pool."""

    class Rest(Climb):
        def loss(self, x, batch):
            return 0 * x.sum((1, 2))

    still = {"max_steps": 30, "noise": 0.3, "num_steps": 1, "lr": 1e-6}
    task = Rest(2)
    task.clamped = Surface(task.lattice, torch.arange(9) < 3)
    task.pool = SamplePool(4, reseed=0, max_age=99)
    train_automaton(Line(task.lattice, 2), task, settings(**still), progress=False)
    assert torch.equal(task.pool.samples.x[:, :3, 0], torch.zeros(4, 3))
    assert (task.pool.samples.x[:, 3:].abs() > 0.01).any()
    assert (task.pool.samples.x[:, :3, 1].abs() > 0.01).any()
    task = Rest(2)
    task.pool = SamplePool(4, memory_channels=1)
    train_automaton(Line(task.lattice, 2, memory_channels=1), task, settings(**still), progress=False)
    assert float(task.pool.samples.x[..., 1].abs().max()) < 1e-3


def test_a_pool_is_empty_when_a_training_begins():
    """Of another training nothing comes in, so that the same one twice is the same."""
    task, weights = Climb(), []
    task.pool = SamplePool(4)
    for _ in range(2):
        cell = Line(task.lattice)
        train_automaton(cell, task, settings(max_steps=5), progress=False)
        weights.append(cell.weight.detach().clone())
    assert torch.equal(*weights)


def test_a_small_lattice_first_shares_the_weights():
    seen = []

    class Watch(Majority):
        def loss(self, x, batch):
            seen.append(x.size(1))
            return super().loss(x, batch)

        def resized(self, shape):
            return Watch(shape[0], channels=2)

    task = Watch(9, channels=2)
    cell = Line(task.lattice, 2)
    curriculum = Curriculum(shapes={0.5: (5,)})
    train_automaton(cell, task, settings(max_steps=6), curriculum=curriculum, pool=SamplePool(4), progress=False)
    assert seen[:3] == [5, 5, 5]
    assert 9 in seen[3:]
    assert not cell.weight.eq(0).all()
    with pytest.raises(ValueError, match="Climb has one size"):
        train_automaton(Line(Lattice((3, 3))), Climb(), settings(), curriculum=curriculum, progress=False)


def test_a_lattice_that_a_task_cannot_be_had_on_is_refused_before_training():
    task = Majority(9, channels=2)
    task.curriculum = Curriculum(shapes={0.5: (5,), 0.9: (0,)})
    with pytest.raises(ValueError, match=r"positive|at least"):
        task.lesson(settings())


def test_what_a_task_learns_is_learned_on_the_small_lattice_too():
    class Told(Majority):
        """Cells climb to what the task has learned, which is asked to be one."""

        def __init__(self, width):
            super().__init__(width, channels=2)
            self.goal = nn.Parameter(torch.zeros(()))

        def loss(self, x, batch):
            return (self.goal - 1).square() + 0 * x.mean((1, 2))

        def resized(self, shape):
            return Told(shape[0])

    task = Told(9)
    curriculum = Curriculum(shapes={1.0: (5,)})
    train_automaton(Line(task.lattice, 2), task, settings(max_steps=4), curriculum=curriculum, progress=False)
    # Of Adam every early step is about as long as the learning rate.
    assert float(task.goal) > 0.02


def test_a_first_figure_that_is_no_number_is_not_the_best_for_ever():
    class Judge(Climb):
        monitor = "score"

        def validate(self, cell, *, num_steps):
            self.seen.append(float(cell.weight.detach()))
            return {"score": float("nan") if len(self.seen) == 1 else float(len(self.seen))}

    cell, task = Line(Lattice((3, 3))), Judge()
    result = train_automaton(cell, task, settings(max_steps=4, val_every=1, patience=2), progress=False)
    assert (result.steps, result.best_step) == (4, 4)
    assert cell.weight.item() == task.seen[-1]


def test_a_monitored_figure_chooses_the_weights():
    class Judge(Climb):
        monitor = "score"

        def validate(self, cell, *, num_steps):
            self.seen.append(float(cell.weight.detach()))
            return {"score": -abs(len(self.seen) - 2)}

    cell, task = Line(Lattice((3, 3))), Judge()
    result = train_automaton(cell, task, settings(max_steps=4, val_every=1), progress=False)
    assert result.best_step == 2
    assert cell.weight.item() == task.seen[1] != task.seen[-1]


def test_validations_change_nothing_else():
    def trained(every):
        torch.manual_seed(0)
        task = Majority(5, channels=4)
        cell = NCACell(task.lattice, 4, fire_rate=0.5, always_random=True)
        train_automaton(cell, task, settings(val_every=every), progress=False)
        return [p.detach().clone() for p in cell.parameters()]

    for one, other in zip(trained(1), trained(4), strict=True):
        assert torch.equal(one, other)


def test_a_state_that_is_not_finite_is_named(tmp_path):
    class Break(Climb):
        def loss(self, x, batch):
            return super().loss(x, batch) * torch.nan

    with pytest.raises(NonFiniteError, match="update 1: the term 'task' is nan"):
        train_automaton(Line(Lattice((3, 3))), Break(), settings(), folder=tmp_path, progress=False)
    assert (tmp_path / "nonfinite_update_1.safetensors").is_file()


@pytest.mark.parametrize(
    "options",
    [{"num_steps": 0}, {"supervise": 9}, {"batch_size": 0}, {"overflow": -1.0}, {"noise": -1.0}, {"bound": 0}],
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        train_automaton(Line(Lattice((3, 3))), Climb(), settings(**options), progress=False)


def test_a_curriculum_has_steps_for_every_state_that_is_supervised():
    task = Climb()
    task.curriculum = Curriculum(num_steps=3)
    AutomatonLesson(task, settings(num_steps=8, supervise=3))
    with pytest.raises(ValueError, match=r"supervise must be 1 to 3, .* got 4"):
        AutomatonLesson(task, settings(num_steps=8, supervise=4))


def test_words_for_numbers_are_refused():
    for options in ({"drift": "much"}, {"num_steps": "many"}):
        with pytest.raises(ValueError, match="must be"):
            AutomatonSettings(**options)


def test_a_gmlp_cell_trains_too():
    task = Climb(4)
    result = train_automaton(GMLPCell(task.lattice, 4, hidden=8), task, settings(max_steps=30, lr=0.01), progress=False)
    assert result.metrics["train/loss"] < 0.5


def test_context_reaches_the_cells():
    class Told(Climb):
        def sample(self, size, generator):
            goal = torch.rand(size, 1, 1, generator=generator).round() * 2 - 1
            return Batch(torch.zeros(size, 9, 1), target=goal, context=goal)

        def loss(self, x, batch):
            return (x - batch.target).square().mean((1, 2))

    task = Told()
    cell = NCACell(task.lattice, 1, update={"name": "mlp", "hidden": 8}, context_channels=1)
    result = train_automaton(cell, task, settings(max_steps=150, batch_size=16, lr=0.02), progress=False)
    # Cells that are not told which of two goals it is can do no better than 1.
    assert result.metrics["train/loss"] < 0.2


def test_a_checkpoint_without_a_pool_goes_on_with_none(tmp_path):
    task = Climb()
    train_automaton(Line(task.lattice), task, settings(), folder=tmp_path, progress=False)
    longer = replace(settings(), max_steps=6)
    with pytest.raises(ValueError, match="the checkpoint has no pool, this run one"):
        train_automaton(
            Line(task.lattice), task, longer, pool=SamplePool(2), folder=tmp_path, resume=True, progress=False
        )


def test_a_task_keeps_its_own_pool_and_curriculum():
    task = Climb()
    task.pool, task.curriculum = own = SamplePool(4), Curriculum(num_steps=3)
    train_automaton(Line(task.lattice), task, settings(max_steps=2), progress=False)
    assert own[0].samples is not None
    assert own[0].age.sum() > 0
    other = SamplePool(5), Curriculum(num_steps=4)
    train_automaton(Line(task.lattice), task, settings(max_steps=1), pool=other[0], curriculum=other[1], progress=False)
    # One that is given is this training's only.
    assert other[0].age.sum() > 0
    assert (task.pool, task.curriculum) == own
