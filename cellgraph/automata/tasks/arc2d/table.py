"""The table of the 2-D ARC: what automata reach on the tasks whose grids keep their shape, beside what others do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cellgraph.automata.tasks.arc2d.attempts import Attempt
from cellgraph.texts import markdown_table


class Published(NamedTuple):
    """A figure that others give.

    Attributes:
        name: What it is of.
        solved: What is solved, and of how many, by set.
        attempts: How many attempts they had.
        source: Where it is given.
    """

    name: str
    solved: Mapping[str, tuple[int, int]]
    attempts: str
    source: str


#: Tasks whose grids keep their shape: 262 of the training set and 270 of the public evaluation set, with 268 and 277
#: test grids.
PUBLISHED = (
    Published("one evolved automaton", {"training": (18, 268)}, "1", "enca-arc.mmzdev.com, test grids"),
    Published(
        "a sequence of them", {"training": (67, 268), "evaluation": (17, 277)}, "2", "enca-arc.mmzdev.com, test grids"
    ),
    # It tries all 400 tasks of a set; those that it solves may be of other shapes.
    Published(
        "an automaton trained on each task, at most",
        {"training": (21, 262), "evaluation": (9, 270)},
        "1",
        "github.com/ayushnangia/cracking-ARC-AGI, all tasks",
    ),
)


def table_of_results(figures: Mapping[str, float], judged: str, *, attempts: int) -> str:
    """Shares solved in per cent beside the published ones, in Markdown.

    Args:
        figures: As of :meth:`~cellgraph.automata.tasks.Arc2D.evaluate`.
        judged: Name of the set.
        attempts: How many attempts there were.
    """
    ends = f"{100 * figures['solved_low']:.1f} to {100 * figures['solved_high']:.1f}"
    rows = [
        ["this automaton", f"{100 * figures['solved']:.1f} ({ends})", f"{figures['tasks']:.0f} tasks", str(attempts)],
        [
            "this automaton, test grids",
            f"{100 * figures['grids']:.1f}",
            f"those of {figures['tasks']:.0f} tasks",
            str(attempts),
        ],
    ]
    for other in PUBLISHED:
        if judged in other.solved:
            hits, of = other.solved[judged]
            rows.append([other.name, f"{100 * hits / of:.1f}", f"{hits} of {of}; {other.source}", other.attempts])
    return "\n".join(markdown_table(["automaton", "solved", "of", "attempts"], rows)) + "\n"


def table_of_answers(attempts: Mapping[str, Sequence[Attempt]]) -> str:
    """What was answered to each test, as `Kaggle's competition <https://www.kaggle.com/c/abstraction-and-reasoning-challenge>`_
    takes it ("Submission File"): CSV with a line for each test, in which the attempts follow each other and every grid
    has a bar before each of its rows and at its end.

    Args:
        attempts: Those at each task, by its name.
    """
    lines = ["output_id,output"]
    for name, made in attempts.items():
        for number, grids in enumerate(zip(*(one.answers for one in made), strict=True)):
            lines.append(f"{name}_{number},{' '.join(map(_bars, grids))}")
    return "\n".join(lines) + "\n"


def _bars(grid: np.ndarray) -> str:
    """A grid's rows between bars.

    Example:
        >>> _bars(np.array([[1, 2], [3, 4]]))
        '|12|34|'
    """
    return "".join(f"|{''.join(map(str, row))}" for row in grid.tolist()) + "|"
