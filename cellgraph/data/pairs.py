"""The question-answer pair and the file it is kept in."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from cellgraph.files import write_atomically
from cellgraph.numbers import integer
from cellgraph.texts import well_formed, words

__all__ = ["QAPair", "normalise_text", "save_pairs"]

_TEXTS = ("question", "answer", "topic", "category", "dialogue")


@dataclass(frozen=True, slots=True)
class QAPair:
    """A question and its answer, with what is needed to keep them on one side of a split.

    Halves of characters that UTF-8 cannot write become U+FFFD, see :func:`~cellgraph.texts.well_formed`: a text that
    was cut in the middle of an emoji stops neither a tokenizer nor the writing of a file.

    Args:
        question: What is asked.
        answer: What is answered.
        topic: What the pair is about; pairs of one topic stay together when the set is split.
        category: What kind of pair it is, for reports only.
        dialogue: Name of the conversation the pair was cut from, empty for a pair that stands alone.
        turn: Place of the question in its dialogue, counted from zero.

    Raises:
        ValueError: If a text is no text, or the turn no integer or negative.

    Example:
        >>> QAPair("What is a cell?", "A node of the lattice.", topic="lattice").topic
        'lattice'
    """

    question: str
    answer: str
    topic: str = ""
    category: str = ""
    dialogue: str = ""
    turn: int = 0

    def __post_init__(self) -> None:
        for name in _TEXTS:
            text = getattr(self, name)
            if not isinstance(text, str):
                raise ValueError(f"{name} must be text, got {type(text).__name__}")
            if not text.isascii():
                object.__setattr__(self, name, well_formed(text))
        turn = integer("turn", self.turn)
        if turn < 0:
            raise ValueError(f"turn must not be negative, got {turn}")
        object.__setattr__(self, "turn", turn)


def normalise_text(text: str) -> str:
    """Returns the words of a text in lower case: two texts that differ in case, spacing or signs become equal.

    Marks on letters belong to words, as the vowels of Hindi do. A text without any word (``"?!"``) keeps its signs, so
    that such texts do not all become equal to the empty one.

    Args:
        text: Any text.

    Example:
        >>> normalise_text("What is  AI ?") == normalise_text("what is ai")
        True
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(words(folded)) or " ".join(folded.split())


def save_pairs(path: str | os.PathLike[str], pairs: Iterable[QAPair]) -> Path:
    """Writes pairs to a JSONL file, one object a line, that :func:`read_pairs` reads back unchanged.

    The file appears whole or not at all: it is written beside its place and renamed, so that an interrupted or failed
    write leaves an older file untouched.

    Args:
        path: File to write, with suffix ``.jsonl`` or ``.ndjson``; its folder is created when missing.
        pairs: The pairs.

    Raises:
        ValueError: If the suffix is another one.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        raise ValueError(f"pairs are saved as .jsonl or .ndjson, got {path.name!r}")
    lines = "".join(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in pairs)
    write_atomically(path, lines.encode())
    return path
