"""Adaptation at the test: what is fitted against a loop over single tasks, and what it must not hang on."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from arc1d_tasks import made, stirred, twelve_tasks

from cellgraph.automata import Automaton, AutomatonSettings
from cellgraph.automata.tasks.arc1d.adapting import Adaptation
from cellgraph.nn import NCACell


@pytest.fixture
def path(tmp_path):
    return twelve_tasks(tmp_path / "tasks.jsonl")


def with_own_weights(cell, numbers, rank):
    """A copy of a cell whose weights are those and what the numbers of one task add to them."""
    other = deepcopy(cell)
    update = other.updating
    for layer in (update.inner, update.context, update.outer):
        weight = layer.weight.detach()
        down, numbers = numbers[: rank * weight.size(1)].view(-1, rank), numbers[rank * weight.size(1) :]
        up, numbers = numbers[: rank * weight.size(0)].view(rank, -1), numbers[rank * weight.size(0) :]
        whole = weight + (down @ up).T
        if whole.requires_grad:  # a plain tensor carries the gradient on, and a parameter moves to a narrower lattice
            del layer.weight
        layer.weight = whole if whole.requires_grad else torch.nn.Parameter(whole)
    assert not len(numbers)
    return other


def fitted_alone(task, cell, tasks, first, *, updates, lr, rank, steps):
    """What is a task's own by plain loops: one fit at a time, one row at a time, whole weights, Adam written out."""
    count, width = int(tasks.present.sum()), task.vector_channels
    queries = tasks.left_out()

    def losses(own):
        on, found = with_own_weights(cell, own[width:], rank) if rank else cell, []
        for row in range(count):
            batch = task.batch(tasks, queries.select(slice(row, row + 1)), own=own[None, :width])
            found.append(task.loss(task.run(on, batch, num_steps=steps).x, batch)[0])
        return found

    def walk(without):
        own = first.double()
        mean, square = torch.zeros_like(own), torch.zeros_like(own)
        path = [(own, losses(own))]
        for update in range(1, updates + 1):
            asked = own.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(
                sum(loss for row, loss in enumerate(losses(asked)) if row != without), asked
            )
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient.square()
            own = own - lr * mean / (1 - 0.9**update) / ((square / (1 - 0.999**update)).sqrt() + 1e-8)
            path.append((own, losses(own)))
        return path

    folds = [walk(without) for without in range(count)]
    costs = [sum(float(fold[after][1][row].detach()) for row, fold in enumerate(folds)) for after in range(updates + 1)]
    return walk(None)[costs.index(min(costs))][0], costs


@pytest.mark.parametrize("rank", [0, 2])
def test_is_what_a_loop_over_tasks_comes_to(path, rank) -> None:
    task, cell = stirred(path, narrow=0)
    task, cell = task.double(), cell.double()
    tasks = task.judged_tasks.select(torch.tensor([0, 3, 5]))
    adaptation = Adaptation(updates=4, lr=0.1, rank=rank, move=False)
    # Fitted in no update, it is what it starts from.
    first = replace(adaptation, updates=0).fit(task, cell, tasks, num_steps=2)[0]
    found = adaptation.fit(task, cell, tasks, num_steps=2)
    stops = set()
    for number in range(3):
        one = tasks.select(torch.tensor([number]))
        alone, costs = fitted_alone(task, cell, one, first, updates=4, lr=0.1, rank=rank, steps=2)
        assert torch.allclose(found[number].double(), alone, atol=1e-5)
        stops.add(costs.index(min(costs)))
    # Some of it is taken, or this would hold of what it starts from.
    assert max(stops) > 0


def test_changes_of_low_rank_start_from_the_cell_as_it_is(path) -> None:
    task, cell = stirred(path)
    tests = task.judged_tasks.tests()
    own = Adaptation(rank=3).fit(task, cell, task.judged_tasks, num_steps=2)
    assert own.abs().amax() > 0
    batch, plain = task.batch(task.judged_tasks, tests, own=own[tests.owner]), task.batch(task.judged_tasks, tests)
    assert torch.equal(task.run(cell, batch, num_steps=2).x, task.run(cell, plain, num_steps=2).x)


def test_changes_of_low_rank_are_each_row_s_own(path) -> None:
    task, cell = stirred(path)
    task, cell = task.double(), cell.double()
    tests = task.judged_tasks.tests()
    own = torch.zeros(
        len(task.judged_tasks), task.vector_channels + 2 * (24 + 16 + task.context_channels + 16 + 16 + 12)
    )
    own = own.double()
    own[4:, task.vector_channels :].normal_(std=0.3)
    changed = task.run(cell, task.batch(task.judged_tasks, tests, own=own[tests.owner]), num_steps=3).x
    for row, owner in enumerate(tests.owner.tolist()):
        batch = task.batch(task.judged_tasks, tests.select(slice(row, row + 1)))
        alone = with_own_weights(cell, own[owner, task.vector_channels :], 2)
        assert torch.allclose(changed[row], task.run(alone, batch, num_steps=3).x[0], atol=1e-12)


def test_changes_of_low_rank_need_linear_layers(path) -> None:
    task, _ = made(path, adaptation=Adaptation(updates=1, rank=1))
    cell = NCACell(task.lattice, 12, update="gru", context_channels=task.context_channels)
    with pytest.raises(ValueError, match="linear layers, NCACell with update=mlp, got NCACell with GRUUpdate"):
        task.check(Automaton(cell, task), AutomatonSettings())


def test_looks_at_no_test_and_leaves_weights_alone(path) -> None:
    task, cell = stirred(path)
    tasks, adaptation = task.judged_tasks, Adaptation(updates=2, lr=0.3)
    before = {name: p.clone() for name, p in [*task.named_parameters(), *cell.named_parameters()]}
    found = adaptation.fit(task, cell, tasks, num_steps=2)
    assert found.abs().amax() > 0
    other = replace(tasks, judges=torch.zeros_like(tasks.judges))
    assert torch.equal(adaptation.fit(task, cell, other, num_steps=2), found)
    for name, p in [*task.named_parameters(), *cell.named_parameters()]:
        assert torch.equal(p, before[name])
        assert p.requires_grad
        assert p.grad is None


def test_the_vectors_come_to_what_is_judged(path) -> None:
    plain, cell = stirred(path)
    task, _ = stirred(path, adaptation=Adaptation(updates=3, lr=0.5))
    task.load_state_dict(plain.state_dict())
    (without,), (fitted,) = (list(one.judged_batches(cell, num_steps=2)) for one in (plain, task))
    told = fitted.context - without.context
    vectors = task.adaptation.fit(task, cell, task.judged_tasks, num_steps=2)
    owner = task.judged_tasks.tests().owner
    assert torch.allclose(told[..., -task.vector_channels :], vectors[owner][:, None].expand(-1, told.size(1), -1))
    assert told[..., : -task.vector_channels].abs().amax() == 0
    assert vectors.abs().amax() > 0


@pytest.mark.parametrize("given", [{"updates": -1}, {"rank": -1}, {"lr": 0.0}])
def test_refuses_what_cannot_be(given) -> None:
    with pytest.raises(ValueError, match="updates and rank must not be negative and lr be positive and finite, got"):
        Adaptation(**given)
