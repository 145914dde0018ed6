"""The rows of a file as they stand: those that hold a pair, and what is wrong with the others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .pairs import QAPair
from .readers import checked_columns, dialogue_pairs, is_dialogues, pair_of, records

__all__ = ["Rows", "read_rows"]

#: Column that says to which part of a split a row belongs, where there is one.
SPLIT = "split"


@dataclass(frozen=True)
class Rows:
    """What the rows of a file hold, in its order.

    Args:
        pairs: The pair of each row, ``None`` where it holds none.
        faults: Why a row holds none, by its place in ``pairs``.
        parts: The part of a split that each row belongs to (``"train"``, ``"test"``); empty where nothing says so.

    Raises:
        ValueError: If there are parts, but not one for each row.
    """

    pairs: Sequence[QAPair | None]
    faults: dict[int, str] = field(default_factory=dict)
    parts: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.parts and len(self.parts) != len(self.pairs):
            raise ValueError(f"expected a part for each of {len(self.pairs)} rows, got {len(self.parts)}")

    def __len__(self) -> int:
        return len(self.pairs)


def read_rows(
    path: str | os.PathLike[str],
    *,
    question: str = "question",
    answer: str = "answer",
    topic: str | None = None,
    category: str | None = None,
    dialogue: str | None = None,
    turn: str | None = None,
    split: str | None = None,
) -> Rows:
    """Reads a file as :func:`read_pairs` does, but goes on where a row holds no pair.

    Args:
        path: The file, or a folder of dialogue files.
        question: Name of the column that holds the questions.
        answer: Name of the column that holds the answers.
        topic: Name of the column that holds the topics; by default ``"topic"`` if there is one, ``""`` for none.
        category: Name of the column that holds the categories, likewise.
        dialogue: Name of the column that holds the names of the dialogues, likewise.
        turn: Name of the column that holds the places in the dialogues, likewise.
        split: Name of the column that holds the parts of a split, likewise ``"split"``.

    Raises:
        ValueError: If the format is unknown, the file is empty, damaged or not UTF-8, a column that was named is
            nowhere in it, or no row holds a pair.
        OSError: If the file cannot be opened.

    Example:
        >>> import json, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "pairs.jsonl"
        ...     lines = [{"question": "Who?", "answer": "I."}, {"question": "Why?", "answer": ""}]
        ...     _ = path.write_text("\\n".join(map(json.dumps, lines)))
        ...     rows = read_rows(path)
        >>> len(rows), rows.faults
        (2, {1: "line 2: the answer (column 'answer') is missing or empty"})
    """
    path = Path(path)
    columns = checked_columns(question, answer, topic, category, dialogue, turn)
    pairs: list[QAPair | None] = []
    faults: dict[int, str] = {}
    parts: list[str] = []
    seen: dict[str, None] = {}
    try:
        if is_dialogues(path):
            pairs.extend(dialogue_pairs(path, columns))
        else:
            in_parts = SPLIT if split is None else split
            for record in records(path, {**columns, "split": in_parts}):
                cells = record[1]
                seen.update(dict.fromkeys(cells))
                parts.append(str(cells.get(in_parts) or "").strip() if in_parts else "")
                try:
                    pairs.append(pair_of(path, record, columns))
                except UnicodeDecodeError:
                    raise
                except ValueError as error:
                    faults[len(pairs)] = str(error).removeprefix(f"{path}, ")
                    pairs.append(None)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.object[error.start]:#04x})") from None
    if not pairs:
        raise ValueError(f"{path}: no question-answer pairs in it, the file is empty")
    for wanted, name in {**columns, "split": split}.items():
        if name and name not in seen and not is_dialogues(path):
            there = ", ".join(repr(key) for key in seen) or "none"
            raise ValueError(f"{path}: no column {name!r} for the {wanted}; the columns are {there}")
    if len(faults) == len(pairs):
        raise ValueError(f"{path}, {faults[0]}; no row holds a pair")
    return Rows(pairs, faults, parts if any(parts) else ())
