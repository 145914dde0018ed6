"""Leakage: what is known in training of the pairs that are held out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from ..pairs import QAPair, normalise_text
from ..rows import Rows
from ..split import split_pairs
from .finding import Finding
from .units import is_held_out, units_of

__all__ = ["leaks", "made_split"]

#: What must not be equal in two parts, and what is told of where it is.
_LEAKS, _SHARES = ("question", "dialogue"), ("answer", "topic")


def leaks(rows: Rows, pairs: Sequence[QAPair | None], left_out: Collection[int] = ()) -> Iterator[Finding]:
    """Yields rows that share something with a row of a part that is more held out: test, validation, training.

    An equal question or dialogue is a leak, an equal answer or topic is told of. At most one of each is found for a
    row.

    Args:
        rows: The file, with its parts.
        pairs: Its pairs by row.
        left_out: Rows that are not looked at.
    """
    first: dict[tuple[str, str], tuple[int, str]] = {}
    for unit in units_of(rows, pairs, left_out):
        found: dict[str, dict[int, Finding]] = {"leak": {}, "shared": {}}
        for row, pair in zip(unit.rows, unit.pairs(pairs), strict=True):
            for field in (*_LEAKS, *_SHARES):
                text = pair.dialogue if field == "dialogue" else normalise_text(getattr(pair, field))
                # Later turns are common, and answers: of a dialogue its name is compared, and what it asks first.
                later = row != unit.rows[0] if field == "question" else field == "answer" and len(unit.rows) > 1
                if not text or later:
                    continue
                other, part = first.setdefault((field, text), (row, unit.part))
                kind = "leak" if field in _LEAKS else "shared"
                if part != unit.part and is_held_out(part) and row not in found[kind]:
                    reason = f"its {field} is that of row {other + 1}, of the part {part!r}"
                    found[kind][row] = Finding(row, kind, reason, other)
        yield from found["leak"].values()
        yield from (finding for row, finding in found["shared"].items() if row not in found["leak"])


def made_split(
    pairs: Sequence[QAPair | None],
    left_out: Collection[int],
    *,
    test: int | float,
    validation: int | float,
    seed: int,
) -> list[str]:
    """The parts of the split that :func:`~cellgraph.data.split_pairs` makes, by row; empty for what is left out.

    Raises:
        ValueError: If the parts cannot be had.
    """
    rows = [row for row, pair in enumerate(pairs) if pair is not None and row not in left_out]
    # A pair may be there several times as one object: all of them are in one part.
    places: dict[int, list[int]] = {}
    for row in rows:
        places.setdefault(id(pairs[row]), []).append(row)
    split = split_pairs([pair for row in rows if (pair := pairs[row])], test=test, validation=validation, seed=seed)
    parts = [""] * len(pairs)
    for part, members in vars(split).items():
        for pair in members:
            for row in places[id(pair)]:
                parts[row] = part
    return parts
