"""Attempts: automata fitted to tasks, what they answer to the tests, and how that is judged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cellgraph.automata.tasks.arc2d.automata import GridAutomata
from cellgraph.automata.tasks.arc2d.colours import free_colours
from cellgraph.automata.tasks.arc2d.fitting import Fitting, answered, fit
from cellgraph.automata.tasks.arc2d.grids import GridPair, GridTask
from cellgraph.automata.tasks.arc2d.layout import GridLayout


@dataclass(frozen=True)
class Attempt:
    """What an automaton that was fitted to a task answers.

    Attributes:
        task: The task.
        answers: Colours for each of its tests.
        fitted: Whether it answers the demonstrations as they are.
        automaton: The automaton, alone in its row.
    """

    task: GridTask
    answers: tuple[np.ndarray, ...]
    fitted: bool
    automaton: GridAutomata

    def right(self) -> np.ndarray:
        """Which of the tests it has, every cell."""
        tests = zip(self.answers, self.task.tests, strict=True)
        return np.array([np.array_equal(answer, pair.target) for answer, pair in tests])


@dataclass
class Judgement:
    """All attempts at some tasks.

    Attributes:
        attempts: Those at each task, by its name.
    """

    attempts: dict[str, list[Attempt]] = field(default_factory=dict)

    def add(self, made: Iterable[Attempt]) -> None:
        """Take in attempts."""
        for one in made:
            self.attempts.setdefault(one.task.name, []).append(one)

    def solved(self) -> list[str]:
        """Names of the tasks each of whose tests some attempt has."""
        return [name for name, made in self.attempts.items() if np.any([one.right() for one in made], axis=0).all()]

    def figures(self) -> dict[str, float]:
        """Shares of the tasks, and of all test grids; see :meth:`~cellgraph.automata.tasks.Arc2D.evaluate`."""
        made = list(self.attempts.values())
        grids = np.concatenate([np.any([one.right() for one in some], axis=0) for some in made])
        low, high = interval(len(self.solved()), len(made))
        return {
            "solved": len(self.solved()) / len(made),
            "solved_low": low,
            "solved_high": high,
            "solved_first": float(np.mean([some[0].right().all() for some in made])),
            "fitted": float(np.mean([any(one.fitted for one in some) for some in made])),
            "grids": float(grids.mean()),
            "tasks": float(len(made)),
        }


def attempt(
    automata: GridAutomata,
    tasks: Sequence[GridTask],
    offsets: Sequence[Sequence[int]],
    settings: Fitting,
    *,
    num_steps: int,
    turned: bool,
    seed: int,
) -> list[Attempt]:
    """Fit automata to tasks, and let each answer the tests of its own.

    Args:
        automata: What they start from, one for each task.
        tasks: The tasks; of the tests only the sources are looked at.
        offsets: The offsets of the neighbours.
        settings: How they are fitted.
        num_steps: Steps of the automata.
        turned: Whether they see the grids in all rotations and mirrors.
        seed: Seed of what is drawn.
    """
    device, free = automata.vector.device, [free_colours(task) for task in tasks]
    shown, asked = (
        GridLayout.of(rows, offsets).to(device)
        for rows in ([task.demonstrations for task in tasks], [_unanswered(task) for task in tasks])
    )
    options = {"num_steps": num_steps, "turned": turned, "generator": torch.Generator().manual_seed(seed)}
    fitted = fit(automata, [task.demonstrations for task in tasks], offsets, free, settings, **options)  # type: ignore[arg-type]
    found, given = (answered(fitted, part, offsets, free, settings, **options) for part in (shown, asked))  # type: ignore[arg-type]
    kept = ((found == shown.target) | ~shown.inside).all(1).tolist()
    made = []
    for row, task in enumerate(tasks):
        one = fitted.with_parameters({name: p[row : row + 1] for name, p in fitted.parameters().items()})
        made.append(Attempt(task, _grids(given[row], task.tests), kept[row], one))
    return made


def interval(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The interval that a share lies in with 95 % confidence, as Wilson has it.

    Example:
        >>> [round(end, 3) for end in interval(0, 10)]
        [0.0, 0.278]
    """
    share, weight = hits / of, z**2 / of
    middle, spread = share + weight / 2, z * math.sqrt(share * (1 - share) / of + weight / (4 * of))
    return max(0.0, (middle - spread) / (1 + weight)), min(1.0, (middle + spread) / (1 + weight))


def _unanswered(task: GridTask) -> list[GridPair]:
    """The tests without their targets."""
    return [GridPair(pair.source, np.zeros_like(pair.source)) for pair in task.tests]


def _grids(cells: Tensor, pairs: Sequence[GridPair]) -> tuple[np.ndarray, ...]:
    """The cells of a row as the grids that they are of."""
    ends = np.cumsum([pair.cells for pair in pairs])
    parts = np.split(cells.cpu().numpy()[: ends[-1]], ends[:-1])
    return tuple(part.reshape(pair.source.shape) for part, pair in zip(parts, pairs, strict=True))
