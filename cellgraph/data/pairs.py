"""The question-answer pair and the file it is kept in."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from cellgraph.files import write_atomically
from cellgraph.numbers import integer
from cellgraph.texts import well_formed, word_pattern, words

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
    """Returns the words of a text in lower case: two texts that differ in case, spacing or punctuation become equal.

    Signs that tell one thing from another are words, too: those that end a name (C++, C#), what is between two numbers
    (3 + 5, 3 / 5), and the minus of a number. Marks on letters belong to words, as the vowels of Hindi do. A text
    without any word (``"?!"``) keeps its signs, so that such texts do not all become equal to the empty one.

    Args:
        text: Any text.

    Example:
        >>> normalise_text("What is  AI ?") == normalise_text("what is ai")
        True
        >>> normalise_text("C++ or C#?"), normalise_text("Is 3*-5 odd?"), normalise_text("An e-mail - 3 lines")
        ('c++ or c#', 'is 3 * - 5 odd', 'an e mail 3 lines')
    """
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_DASHES)
    found = _with_signs(folded) if _MAY_COUNT.search(folded) else words(folded)
    return " ".join(found) or " ".join(folded.split())


#: The minus sign and the dash between two numbers, as they are typed.
_DASHES = {0x2212: "-", 0x2013: "-"}
_ENDING = re.compile(r"\+\+|#(?!\w)")
_OPERATOR = re.compile(r"\s*([<>=]=|\*\*|[-+*/\u00d7\u00f7^=<>])\s*(-?)")
_MAY_COUNT = re.compile(rf"[^\W\d_](?:{_ENDING.pattern})|\d{_OPERATOR.pattern}|-\d")


def _with_signs(text: str) -> list[str]:
    """The words of a text, with the signs that count among them."""
    found: list[str] = []
    end = 0
    for word in re.finditer(word_pattern(), text):
        start, gap = word.start(), text[end : word.start()]
        if word[0][0].isdigit():
            operator = _OPERATOR.fullmatch(gap) if found and found[-1][-1].isdigit() else None
            if operator:
                found += filter(None, operator.groups())
            elif gap.endswith("-") and not re.search(r"[\w-]-$", text[max(0, start - 2) : start]):
                found.append("-")
        end = word.end()
        ending = _ENDING.match(text, end) if word[0][-1].isalpha() else None
        found.append(word[0] + (ending[0] if ending else ""))
    return found


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
