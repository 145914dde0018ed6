"""Adaptation at the test: the vectors against a loop over single tasks, and what they must not hang on."""

from dataclasses import replace

import pytest
import torch
from arc1d_tasks import stirred, twelve_tasks

from cellgraph.automata.tasks.arc1d.adapting import Adaptation


@pytest.fixture
def path(tmp_path):
    return twelve_tasks(tmp_path / "tasks.jsonl")


def fitted_alone(task, cell, tasks, *, updates, lr, steps):
    """A task's vector by plain loops: one vector at a time, one row at a time, Adam written out."""
    count = int(tasks.present.sum())
    queries = tasks.left_out()

    def losses(vector):
        found = []
        for row in range(count):
            batch = task.batch(tasks, queries.select(slice(row, row + 1)), added=vector[None])
            found.append(task.loss(task.run(cell, batch, num_steps=steps).x, batch)[0])
        return found

    def walk(without):
        vector = torch.zeros(task.vector_channels, dtype=torch.float64)
        first, second = torch.zeros_like(vector), torch.zeros_like(vector)
        path = [(vector, losses(vector))]
        for update in range(1, updates + 1):
            asked = vector.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(
                sum(loss for row, loss in enumerate(losses(asked)) if row != without), asked
            )
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient.square()
            vector = vector - lr * first / (1 - 0.9**update) / ((second / (1 - 0.999**update)).sqrt() + 1e-8)
            path.append((vector, losses(vector)))
        return path

    folds = [walk(without) for without in range(count)]
    costs = [sum(float(fold[after][1][row].detach()) for row, fold in enumerate(folds)) for after in range(updates + 1)]
    return walk(None)[costs.index(min(costs))][0], costs


def test_is_what_a_loop_over_tasks_comes_to(path) -> None:
    task, cell = stirred(path)
    task, cell = task.double(), cell.double()
    tasks = task.judged_tasks.select(torch.tensor([0, 3, 5]))
    found = Adaptation(updates=4, lr=0.3, move=False).fit(task, cell, tasks, num_steps=2)
    stops = set()
    for number in range(3):
        alone, costs = fitted_alone(task, cell, tasks.select(torch.tensor([number])), updates=4, lr=0.3, steps=2)
        assert torch.allclose(found[number].double(), alone, atol=1e-5)
        stops.add(costs.index(min(costs)))
    # Some vector is taken, or this would hold of zeros.
    assert max(stops) > 0


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


@pytest.mark.parametrize("given", [{"updates": -1}, {"lr": 0.0}])
def test_refuses_what_cannot_be(given) -> None:
    with pytest.raises(ValueError, match="updates must not be negative and lr be positive, got"):
        Adaptation(**given)
