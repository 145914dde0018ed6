"""Units: rows that are kept or left out together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ..pairs import QAPair
from ..rows import Rows

__all__ = ["Unit", "is_held_out", "units_of"]

#: Names of the parts that are judged by, from the one that is kept first.
_HELD_OUT = ("test", "eval", "evaluation", "validation", "valid", "val", "dev", "holdout", "held-out", "held_out")


@dataclass(frozen=True)
class Unit:
    """Rows of one dialogue, in the order of its turns, or one row that stands alone.

    Args:
        rows: The rows.
        part: The part of a split that the first of them belongs to, empty where nothing says so.
    """

    rows: tuple[int, ...]
    part: str = ""

    def pairs(self, pairs: Sequence[QAPair | None]) -> Iterator[QAPair]:
        """The pairs of the unit."""
        for row in self.rows:
            pair = pairs[row]
            assert pair is not None
            yield pair


def units_of(rows: Rows, pairs: Sequence[QAPair | None], left_out: Collection[int] = ()) -> list[Unit]:
    """The units of a file in the order in which they are to be kept.

    Of rows that repeat each other the first stays; but where the file has a split, those of held-out parts come
    first: what is judged by stays what it was.

    Args:
        rows: The file.
        pairs: Its pairs, by row.
        left_out: Rows that are not looked at.
    """
    members: dict[tuple[str, str] | int, list[int]] = {}
    for row, pair in enumerate(pairs):
        if pair is not None and row not in left_out:
            part = rows.parts[row] if rows.parts else ""
            members.setdefault((part, pair.dialogue) if pair.dialogue else row, []).append(row)
    units = [
        Unit(tuple(sorted(own, key=lambda row: (_turn(pairs, row), row))), rows.parts[own[0]] if rows.parts else "")
        for own in members.values()
    ]
    return sorted(units, key=lambda unit: (_rank(unit.part), min(unit.rows)))


def is_held_out(part: str) -> bool:
    """Whether a part of a split is one that is judged or validated by.

    Example:
        >>> is_held_out("Test"), is_held_out("train")
        (True, False)
    """
    return part.strip().lower() in _HELD_OUT


def _rank(part: str) -> int:
    name = part.strip().lower()
    return _HELD_OUT.index(name) if name in _HELD_OUT else len(_HELD_OUT)


def _turn(pairs: Sequence[QAPair | None], row: int) -> int:
    pair = pairs[row]
    return 0 if pair is None else pair.turn
