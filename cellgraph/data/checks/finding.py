"""What a check may find, and what then happens to the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["ACTIONS", "CHECKS", "KINDS", "Embed", "Finding", "Kind"]

#: Turns texts into embeddings, ``[num_texts, width]``, in their order.
Embed = Callable[[Sequence[str]], np.ndarray]

#: What happens to a row: it is left out of the clean file, its text is repaired there, or it is only told of.
ACTIONS = ("remove", "repair", "note")


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Args:
        check: The check that finds it.
        action: One of :data:`ACTIONS`, as far as nothing else is asked for.
        meaning: What it is, in a few words.
    """

    check: str
    action: str
    meaning: str


#: All kinds. What is beyond doubt is removed or repaired, what a person should look at is noted.
KINDS = {
    "unreadable": Kind("rows", "remove", "holds no question and answer in words"),
    "replacement": Kind("encoding", "remove", "has lost characters (U+FFFD)"),
    "mojibake": Kind("encoding", "repair", "was decoded by the wrong table"),
    "control": Kind("encoding", "repair", "holds characters that are not shown"),
    "markup": Kind("encoding", "note", "holds HTML entities or tags"),
    "length": Kind("length", "remove", "is too short or too long"),
    "echo": Kind("length", "remove", "answers by repeating the question"),
    "language": Kind("language", "note", "is in another language"),
    "incoherent": Kind("coherence", "note", "has an answer no nearer to its question than a stranger's"),
    "leak": Kind("leakage", "remove", "asks what is held out, or shares its dialogue"),
    "exact": Kind("exact", "remove", "repeats another row"),
    "question": Kind("exact", "note", "asks what another row asks, answered otherwise"),
    "answer": Kind("exact", "note", "answers as another row does, asked otherwise"),
    "near": Kind("near", "remove", "repeats another row but for a few letters"),
    "neighbour": Kind("neighbours", "note", "means what another row means"),
    "shared": Kind("leakage", "note", "shares an answer, topic or meaning with a held-out part"),
    "dialogue": Kind("rows", "remove", "belongs to a dialogue that loses a turn"),
}

#: The checks, in the order in which they are made.
CHECKS = tuple(dict.fromkeys(kind.check for kind in KINDS.values()))


@dataclass(frozen=True)
class Finding:
    """A fault of a row.

    Args:
        row: The row, counted from 0.
        kind: A key of :data:`KINDS`.
        reason: What is wrong, in words that are complete with the row before them.
        repeats: The row that it repeats, counted from 0.
        value: What was measured, where something was.
    """

    row: int
    kind: str
    reason: str
    repeats: int | None = None
    value: float | None = None
