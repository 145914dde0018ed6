"""Faults of encoding: lost characters, wrong tables, what is not shown, and markup left behind."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from types import ModuleType

from cellgraph.texts import one_line

from ..pairs import QAPair
from .finding import Finding

__all__ = ["encoding_faults", "repaired"]

_FIELDS = ("question", "answer")
_LOST = "\ufffd"
#: Byte order mark, zero-width space, word joiner, soft hyphen, and what turns the direction of writing. Joiners and the
#: marks of direction that scripts need are no faults.
_UNSEEN = "\ufeff\u200b\u2060\u00ad" + "".join(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
_TAG = re.compile(
    r"</?(?:a|b|i|p|br|div|em|font|h[1-6]|hr|img|li|ol|span|strong|sub|sup|table|td|th|tr|ul)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)


def encoding_faults(pairs: Iterable[tuple[int, QAPair]]) -> Iterator[Finding]:
    """Yields the faults of the texts of pairs.

    Text that was read by the wrong table ("cafÃ©") is found by `ftfy <https://ftfy.readthedocs.io>`_, which finds
    nothing where it is not sure. Typographic quotes, ligatures and the like are no faults.

    Args:
        pairs: Pairs with their rows.

    Raises:
        ValueError: If the package ftfy is missing.
    """
    ftfy = _ftfy()
    for row, pair in pairs:
        texts = {field: getattr(pair, field) for field in _FIELDS}
        lost = [field for field, text in texts.items() if _LOST in text]
        if lost:
            told = _around(texts[lost[0]], texts[lost[0]].index(_LOST))
            yield Finding(row, "replacement", f"the {_and(lost)} has lost characters: “{told}”")
        undone = {field: _undone(ftfy, text) for field, text in texts.items()}
        wrong = [field for field in _FIELDS if undone[field] != texts[field]]
        if wrong:
            before, after = texts[wrong[0]], undone[wrong[0]]
            at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
            told = f"“{_around(before, at)}” for “{_around(after, at)}”"
            yield Finding(row, "mojibake", f"the {_and(wrong)} was decoded by the wrong table: {told}")
        unseen = [field for field, text in undone.items() if _shown(text) != text]
        if unseen:
            codes = sorted({f"U+{ord(c):04X}" for field in unseen for c in undone[field] if _is_unseen(c)})
            yield Finding(row, "control", f"the {_and(unseen)} holds {', '.join(codes)}")
        marked = [field for field, text in undone.items() if html.unescape(text) != text or _TAG.search(text)]
        if marked:
            yield Finding(row, "markup", f"the {_and(marked)} holds HTML entities or tags")


def repaired(pair: QAPair, kinds: Collection[str]) -> QAPair:
    """A pair with its texts repaired.

    Args:
        pair: The pair.
        kinds: What is repaired: ``"mojibake"``, ``"control"``.

    Example:
        >>> repaired(QAPair("Where is the cafÃ©?", "There."), ["mojibake"]).question
        'Where is the café?'
    """
    texts = {field: getattr(pair, field) for field in _FIELDS}
    if "mojibake" in kinds:
        texts = {field: _undone(_ftfy(), text) for field, text in texts.items()}
    if "control" in kinds:
        texts = {field: _shown(text) for field, text in texts.items()}
    return replace(pair, **texts)


def _ftfy() -> ModuleType:
    try:
        import ftfy
    except ImportError:
        raise ValueError("the check encoding needs the package ftfy (pip install cellgraph[data])") from None
    return ftfy


def _undone(ftfy: ModuleType, text: str) -> str:
    """The text by the right table; as it is where that is not known, or would cost characters."""
    if text.isascii():
        return text
    right: str = ftfy.fix_encoding(text)
    return text if right.count(_LOST) > text.count(_LOST) else right


def _shown(text: str) -> str:
    return text if text.isascii() and text.isprintable() else "".join(c for c in text if not _is_unseen(c))


def _is_unseen(character: str) -> bool:
    if " " <= character <= "~" or character in "\t\n\r":
        return False
    # Cn: what Unicode has not given out; of these the non-characters alone, for Python's tables grow old.
    nothing = ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF
    return nothing or character in _UNSEEN or unicodedata.category(character) in ("Cc", "Cs")


def _and(fields: Iterable[str]) -> str:
    return " and ".join(fields)


def _around(text: str, at: int) -> str:
    return one_line(text[max(0, at - 12) : at + 12])
