"""Texts: what they may hold, and how they are shown to people."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence

_SURROGATES = re.compile("[\ud800-\udfff]")
# The control characters but for tab and newline, with which a text could move the cursor, rename the window or empty
# the screen; and those that turn the direction of writing, so that a line reads otherwise than it is.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~&$])")


def well_formed(text: str) -> str:
    """The text as characters that UTF-8 can write: halves of characters are joined, lone ones become U+FFFD.

    JSON may hold such halves (surrogates), as ``"\\ud83d"``: an emoji that something cut in two leaves them behind.

    Example:
        >>> well_formed("a\\ud83d\\ude00b"), well_formed("a\\ud83db")
        ('a😀b', 'a�b')
    """
    if not _SURROGATES.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@functools.cache
def marks() -> str:
    """The characters that stand on or about the letter before them, for a class of a regular expression.

    To Python's ``\\w`` they are no part of a word: it takes the vowels out of Hindi. Selectors of a variant are not
    among them, they change no word.
    """
    # All there are lie below, but for more of those selectors.
    found = (chr(code) for code in range(0x300, 0x20000) if not 0xFE00 <= code <= 0xFE0F)
    return "".join(c for c in found if unicodedata.category(c).startswith("M"))


@functools.cache
def word_pattern(*, single: bool = True) -> str:
    """A regular expression of words: letters, digits and underscores with their marks.

    Args:
        single: Whether one character is a word.
    """
    first = r"\w+" if single else rf"(?:\w{{2,}}|\w[{marks()}]\w*)"
    return rf"{first}(?:[{marks()}]+\w*)*"


def words(text: str, *, single: bool = True) -> list[str]:
    """The words of a text, see :func:`word_pattern`.

    Example:
        >>> words("¿Qué es un e-mail?", single=False)
        ['Qué', 'es', 'un', 'mail']
        >>> words("दिन और दान")
        ['दिन', 'और', 'दान']
    """
    # The longer expression finds the same in such texts, in ten times the time.
    plain = r"\w+" if single else r"\w{2,}"
    return re.findall(plain if text.isascii() else word_pattern(single=single), text)


def printable(text: str) -> str:
    """The text without what acts on a terminal instead of being shown there; newlines and tabs stay.

    Example:
        >>> printable("red: \\x1b[31m")
        'red: �[31m'
    """
    return _UNSEEN.sub("\ufffd", text.replace("\r\n", "\n"))


def one_line(text: str, length: int | None = None) -> str:
    """The text in one printable line, cut where it is longer than ``length`` characters.

    Example:
        >>> one_line("two\\nlines of text", length=9)
        'two line…'
    """
    text = printable(" ".join(text.split()))
    return text if length is None or len(text) <= length else text[: length - 1].rstrip() + "…"


def escaped_markdown(text: str, length: int | None = None) -> str:
    """The text in one line of Markdown, in which nothing of it is markup.

    Example:
        >>> escaped_markdown("a_b [c](d)\\n# e")
        'a\\\\_b \\\\[c\\\\](d) \\\\# e'
    """
    return _MARKDOWN.sub(r"\\\1", one_line(text, length))


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown, line by line, in columns that are as wide as in a text: the first to the left, the others
    to the right.

    Args:
        headings: One for each column.
        rows: Cells in Markdown, see :func:`escaped_markdown`.

    Example:
        >>> print("\\n".join(markdown_table(["name", "n"], [["one", "1"], ["twelve", "12"]])))
        | name   |  n |
        | ------ | -: |
        | one    |  1 |
        | twelve | 12 |
    """
    lines = [headings, *rows]
    widths = [max(2, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width if number == 0 else "-" * (width - 1) + ":" for number, width in enumerate(widths)]
    cells = [
        [
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in (headings, rule, *lines[1:])
    ]
    return [f"| {' | '.join(line)} |" for line in cells]
