"""The Game of Life, against scipy's convolution, patterns that are known, and cells written down by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor

from cellgraph.automata import AutomatonSettings, Curriculum, SamplePool, train_automaton
from cellgraph.automata.tasks import Life
from cellgraph.automata.tasks.life import GLIDER, OSCILLATORS, STILL_LIFES
from cellgraph.nn import Cell, NCACell


class ByHand(Cell):
    """Life as a cell: twice the living neighbours and the cell itself make 5, 6 or 7 where there is life next."""

    def perceive(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        weight = x.new_full((9, 1, self.channels), 2.0)
        weight[-1] = 1.0
        return self.neighbour_sum(x, weight)

    def update(self, x: Tensor, perceived: Tensor, context: Tensor | None = None) -> Tensor:
        return (2 - (perceived - 6).abs()).clamp(0, 1) - x


def by_hand(task: Life, backend: str = "auto") -> Cell:
    return ByHand(task.lattice, 1, backend=backend).eval()


def test_the_rule_is_that_of_a_convolution() -> None:
    task = Life((17, 23))
    alive = task.draw_states(20, torch.Generator().manual_seed(0))
    kernel = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    for board, after in zip(alive.reshape(-1, 17, 23).numpy(), task.rule(alive).reshape(-1, 17, 23), strict=True):
        living = convolve2d(board.astype(int), kernel, mode="same", boundary="wrap")
        assert np.array_equal(np.where(board, (living == 2) | (living == 3), living == 3), after.numpy())


@pytest.mark.parametrize("name", STILL_LIFES)
def test_still_lifes_stay(name: str) -> None:
    task = Life((17, 17))
    board = task.board(STILL_LIFES[name])
    assert torch.equal(task.rule(board), board)


@pytest.mark.parametrize("name", OSCILLATORS)
def test_oscillators_return(name: str) -> None:
    task = Life((17, 17))
    period, pattern = OSCILLATORS[name]
    boards = [task.board(pattern, at=(2, 2))]
    for _ in range(period):
        boards.append(task.rule(boards[-1]))
    assert [torch.equal(board, boards[0]) for board in boards[1:]] == [False] * (period - 1) + [True]


@pytest.mark.parametrize("backend", ["scatter", "stencil", "conv"])
def test_a_glider_crosses_the_torus_for_100_steps(backend: str) -> None:
    # A glider moves one cell down and right in four steps: 25 cells in a hundred, 5 on a ring of 20.
    task = Life((20, 20))
    cell = by_hand(task, backend)
    start = task.board(GLIDER)
    assert int(task.wrong_cells(cell, start, num_steps=100).sum()) == 0
    x = task.states(start)
    for _ in range(100):
        x = cell(x)
    assert torch.equal(x[..., 0] > 0.5, task.board(GLIDER, at=(9, 9)))


def test_a_cell_by_hand_is_perfect_and_a_new_one_is_not() -> None:
    task = Life((17, 19), size=10, horizon=20)
    assert set(task.evaluate(by_hand(task), num_steps=1).values()) == {1.0}
    new = task.evaluate(NCACell(task.lattice, 1).eval(), num_steps=1)
    assert new["still_lifes"] == 1.0  # a new cell does nothing
    assert new["state_accuracy"] < 0.2
    assert new["oscillators"] == new["gliders"] == 0.0


def test_training_lowers_the_loss_and_draws(tmp_path: Path) -> None:
    task = Life((17, 17), horizon=3)
    cell = NCACell(task.lattice, 1, perception="stencil", update={"name": "mlp", "hidden": 32})
    settings = AutomatonSettings(max_steps=40, batch_size=4, num_steps=1, lr=1e-2, accelerator="cpu")
    before = task.validate(cell, num_steps=1)["loss"]
    train_automaton(cell, task, settings, progress=False)
    assert task.validate(cell, num_steps=1)["loss"] < 0.6 * before
    assert [path.name for path in task.draw(cell, tmp_path, num_steps=1)] == ["soup.gif", "glider.gif"]


@pytest.mark.slow
def test_life_is_learned_to_the_last_cell() -> None:
    task = Life((17, 17), size=200)
    cell = NCACell(task.lattice, 1, perception="stencil", update={"name": "bounded", "hidden": 64, "least": 0.0})
    settings = AutomatonSettings(max_steps=1500, batch_size=16, num_steps=1, lr=5e-3, noise=0.05, accelerator="cpu")
    train_automaton(cell, task, settings, progress=False)
    assert set(task.evaluate(cell, num_steps=1).values()) == {1.0}


def test_a_board_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 17"):
        Life((16, 32))


@pytest.mark.parametrize(
    ("settings", "parts", "message"),
    [
        ({"num_steps": 32}, {}, r"a rule is one step: expected training\.num_steps=1, got 32"),
        ({"num_steps": (1, 2)}, {}, r"expected training\.num_steps=1, got \[1, 2\]"),
        (
            {"num_steps": 1},
            {"curriculum": Curriculum(num_steps=3)},
            r"expected no curriculum on steps, got one from \(3",
        ),
        ({"num_steps": 1}, {"pool": SamplePool(8)}, "got one that keeps whole samples"),
    ],
)
def test_training_on_the_targets_of_other_states_is_refused(
    settings: dict[str, Any], parts: dict[str, Any], message: str
) -> None:
    task = Life((17, 17))
    with pytest.raises(ValueError, match=message):
        train_automaton(
            NCACell(task.lattice, 1), task, AutomatonSettings(max_steps=1, **settings), progress=False, **parts
        )


def test_one_step_and_a_pool_of_memory_alone_are_fine() -> None:
    task = Life((17, 17), channels=2)
    cell = NCACell(task.lattice, 2, memory_channels=1)
    settings = AutomatonSettings(max_steps=1, batch_size=2, num_steps=1, accelerator="cpu")
    pool = SamplePool(2, reseed=0, memory_channels=1)
    parts = {"pool": pool, "curriculum": Curriculum(num_steps=1), "progress": False}
    assert train_automaton(cell, task, settings, **parts).steps == 1


def test_validation_is_of_one_step_whatever_steps_are_asked_for() -> None:
    """The loss of a cell that is right after one step, and after a second one not what it was right at."""
    task = Life((17, 17), size=2)
    cell = by_hand(task)
    figures = [task.validate(cell, num_steps=steps) for steps in (1, 7)]
    assert figures[0] == figures[1]
    assert figures[0]["loss"] == 0.0
