"""Neighbours: pairs that say the same in other words, as far as a teacher can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..pairs import QAPair
from .finding import Finding
from .near import same_marks
from .units import Unit

__all__ = ["neighbours"]

#: Similarities that are held at once, 160 MB of them for questions and answers.
MOST_AT_ONCE = 20_000_000


def neighbours(
    pairs: Sequence[QAPair | None],
    units: Sequence[Unit],
    questions: np.ndarray,
    answers: np.ndarray,
    threshold: float,
    *,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[Finding]:
    """Yields pairs whose question and whose answer both lie near those of an earlier one.

    Nearness is the lesser of the two cosines. Each pair is compared with each, which takes time by the square of their
    number. Questions that differ in a number or a single letter are no neighbours, nor are texts of which the teacher
    knows nothing; turns of longer dialogues are not looked at.

    Args:
        pairs: The pairs by row.
        units: Rows that stay together, in the order in which they are to be kept.
        questions: Embeddings of the questions by row, of unit length or zero.
        answers: The same of the answers.
        threshold: Smallest cosine.
        progress: Called with the share that is done.

    Shapes:
        - ``questions``, ``answers``: ``[num_rows, width]``
    """
    rows = np.array([unit.rows[0] for unit in units if len(unit.rows) == 1], dtype=np.int64)
    asked, told = questions[rows], answers[rows]
    dropped: set[int] = set()
    chunk = max(1, min(512, MOST_AT_ONCE // max(1, len(rows))))
    for start in range(0, len(rows), chunk):
        end = min(start + chunk, len(rows))
        near = np.minimum(asked[start:end] @ asked[:end].T, told[start:end] @ told[:end].T)
        # With those before it alone.
        near[np.arange(start, end)[:, None] <= np.arange(end)] = -1
        for place, others in _by_place(near >= threshold):
            similarities = near[place, others]
            for k in np.argsort(-similarities, kind="stable"):
                row, other = int(rows[start + place]), int(rows[others[k]])
                if other not in dropped and same_marks(_question(pairs, row), _question(pairs, other)):
                    value = min(1.0, float(similarities[k]))
                    dropped.add(row)
                    yield Finding(
                        row, "neighbour", f"means what row {other + 1} means: cosine {value:.3f}", other, value
                    )
                    break
        progress(end / len(rows))


def _by_place(found: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for place in np.flatnonzero(found.any(axis=1)):
        yield int(place), np.flatnonzero(found[place])


def _question(pairs: Sequence[QAPair | None], row: int) -> str:
    pair = pairs[row]
    return "" if pair is None else pair.question
