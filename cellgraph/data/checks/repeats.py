"""Exact repetitions of pairs, questions and answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..pairs import QAPair, normalise_text
from .finding import Finding
from .units import Unit

__all__ = ["repetitions"]


def repetitions(pairs: Sequence[QAPair | None], units: Sequence[Unit]) -> Iterator[Finding]:
    """Yields pairs that repeat an earlier one by the words of :func:`~cellgraph.data.normalise_text`.

    A dialogue repeats another when all its turns do: single turns are common ("How are you?"). Of pairs that stand
    alone, those that share only their question or only their answer are found as well.

    Args:
        pairs: The pairs by row.
        units: Rows that stay together, in the order in which they are to be kept.
    """
    seen: dict[tuple[tuple[str, str], ...], Unit] = {}
    by_question: dict[str, int] = {}
    by_answer: dict[str, int] = {}
    for unit in units:
        key = tuple((normalise_text(pair.question), normalise_text(pair.answer)) for pair in unit.pairs(pairs))
        if key in seen:
            whole = "" if len(unit.rows) == 1 else "with its whole dialogue "
            for row, other in zip(unit.rows, seen[key].rows, strict=True):
                yield Finding(row, "exact", f"{whole}repeats row {other + 1}", other)
            continue
        seen[key] = unit
        if len(unit.rows) > 1:
            continue
        (row,), ((question, answer),) = unit.rows, key
        if by_question.setdefault(question, row) != row:
            other = by_question[question]
            yield Finding(row, "question", f"asks what row {other + 1} asks, and answers otherwise", other)
        if by_answer.setdefault(answer, row) != row:
            other = by_answer[answer]
            yield Finding(row, "answer", f"answers what row {other + 1} answers, asked otherwise", other)
