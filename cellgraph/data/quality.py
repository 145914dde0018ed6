"""Quality control of question-answer pairs."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import replace

from .pairs import QAPair, normalise_text

__all__ = ["clean_pairs"]


def clean_pairs(
    pairs: Iterable[QAPair],
    *,
    min_question_chars: int = 2,
    max_question_chars: int = 1000,
    min_answer_chars: int = 1,
    max_answer_chars: int = 20_000,
    unique_answers: bool = False,
) -> list[QAPair]:
    """Tidies the texts of pairs and drops the pairs that nothing can be learned from.

    Texts come out in Unicode form NFC, without control characters, every run of white space one space. Dropped are
    pairs whose question or answer is too short or too long, answers that only repeat their question, and repetitions
    of an earlier pair. The order stays, and the result depends on nothing but the pairs.

    A dialogue is kept or dropped as a whole, for a turn is nothing without those before it. Its turns may be as short
    as "k" and repeat each other ("Hi!" "Hi!"); it goes where one is empty or too long, and where all its turns repeat
    an earlier dialogue's.

    Args:
        pairs: The pairs.
        min_question_chars: Shortest question kept, in characters; of pairs that stand alone.
        max_question_chars: Longest question kept.
        min_answer_chars: Shortest answer kept; of pairs that stand alone.
        max_answer_chars: Longest answer kept.
        unique_answers: Whether an answer may stand only once, under the first of its questions, dialogues aside.

    Raises:
        ValueError: If a smallest length is above the largest.

    Example:
        >>> clean_pairs([QAPair(" What  is AI?", "A\\tfield."), QAPair("what is AI", "A field"), QAPair("?", "!")])
        [QAPair(question='What is AI?', answer='A field.', topic='', category='', dialogue='', turn=0)]
    """
    for name, smallest, largest in (
        ("question", min_question_chars, max_question_chars),
        ("answer", min_answer_chars, max_answer_chars),
    ):
        if smallest > largest:
            raise ValueError(f"min_{name}_chars must not exceed max_{name}_chars, got {smallest} and {largest}")

    tidied = [replace(pair, question=_tidy(pair.question), answer=_tidy(pair.answer)) for pair in pairs]
    # A part is kept or dropped as a whole: a dialogue, or a pair that stands alone.
    parts: dict[str | int, list[QAPair]] = {}
    for index, pair in enumerate(tidied):
        parts.setdefault(pair.dialogue or index, []).append(pair)
    seen: set[tuple[tuple[str, str], ...]] = set()
    answers: set[str] = set()
    dropped: set[str | int] = set()
    for owner, part in parts.items():
        alone = isinstance(owner, int)
        key = tuple((normalise_text(pair.question), normalise_text(pair.answer)) for pair in part)
        fits = all(
            (min_question_chars if alone else 1) <= len(pair.question) <= max_question_chars
            and (min_answer_chars if alone else 1) <= len(pair.answer) <= max_answer_chars
            for pair in part
        )
        echo = alone and key[0][0] == key[0][1]
        if not fits or echo or key in seen or (unique_answers and alone and key[0][1] in answers):
            dropped.add(owner)
            continue
        seen.add(key)
        answers.update(answer for _, answer in key)
    return [pair for index, pair in enumerate(tidied) if (pair.dialogue or index) not in dropped]


def _tidy(text: str) -> str:
    # White space first, for line ends are control characters. Dropped are the categories Cc, Cf, Cs, Co and Cn; the
    # joiners stay, scripts and emoji need them.
    spaced = " ".join(text.split())
    shown = "".join(c for c in spaced if c in "\u200c\u200d" or not unicodedata.category(c).startswith("C"))
    return " ".join(unicodedata.normalize("NFC", shown).split())
