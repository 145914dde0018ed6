"""Questions: what kind of answer they ask for, by the word that says so."""

from __future__ import annotations

import re

__all__ = ["QUESTION_TYPES", "question_type"]

#: The types, in the order in which they are shown.
QUESTION_TYPES = (
    "what",
    "which",
    "who",
    "when",
    "where",
    "why",
    "how",
    "how many",
    "yes or no",
    "instruction",
    "other question",
    "statement",
)

_WORDS = re.compile(r"[a-z']+")
#: Between two sentences: not within "U.S. state".
_BETWEEN = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"\u201d]))\s+(?=[A-Z0-9\"\u201c?])|\n")
_OPENERS = {"what", "which", "who", "when", "where", "why", "how", "whom", "whose"}
_YES_NO = """
am is are was were be isn't aren't wasn't weren't do does did don't doesn't didn't can could can't couldn't will
would won't wouldn't shall should shan't shouldn't may might must has have had hasn't haven't hadn't
"""
_INSTRUCTIONS = """
add analyse analyze answer arrange calculate choose classify compare complete compute consider convert correct count
create define derive describe determine discuss distinguish draw estimate evaluate explain express factor fill find
formulate generate give help identify illustrate imagine interpret justify let list make match mention name order
outline paraphrase prove provide rank recommend rephrase rewrite say select show simplify sketch solve sort state
suggest summarise summarize suppose teach tell think translate verify write
"""
#: What may stand before the word that counts: "In which year ...", "And why ...", "Please explain ...".
_BEFORE = """
about after and at before but by for from in into of on or over per please since so then through to under until upon
with within without well ok okay exactly roughly approximately
"""

_AUXILIARIES, _TOLD_TO, _ASIDE = (frozenset(words.split()) for words in (_YES_NO, _INSTRUCTIONS, _BEFORE))
_SUBJECTS = {
    "i",
    "you",
    "he",
    "she",
    "it",
    "we",
    "they",
    "there",
    "this",
    "that",
    "these",
    "those",
    "anyone",
    "your",
    "my",
}


def question_type(text: str) -> str:
    """The type of an English question, one of :data:`QUESTION_TYPES`.

    It is told by the first word, prepositions and the like aside; of a text that opens with a sentence of its own, by
    the last sentence that ends in a question mark.

    Args:
        text: The question.

    Example:
        >>> [question_type(text) for text in ("In which year?", "How many are there?", "Is it?", "Name two.", "Hello.")]
        ['which', 'how many', 'yes or no', 'instruction', 'statement']
    """
    asks = "?" in text
    if asks:
        sentences = _BETWEEN.split(text[: text.rindex("?") + 1].strip())
        text = next((sentence for sentence in reversed(sentences) if _WORDS.search(sentence.lower())), text)
    words = _WORDS.findall(text.lower().replace("\u2019", "'"))
    while words and words[0] in _ASIDE:
        words = words[1:]
    if not words:
        return "other question" if asks else "statement"
    first = words[0].split("'")[0] if words[0].endswith(("'s", "'re", "'d", "'ll")) else words[0]
    if first == "how" and words[1:2] in (["many"], ["much"]):
        return "how many"
    if first in _OPENERS:
        return "who" if first in ("whom", "whose") else first
    if first in _TOLD_TO:
        return "instruction"
    # Many who chat leave out the sign: "do you ...", "is there ...".
    if words[0] in _AUXILIARIES and (asks or (words[1:2] and words[1] in _SUBJECTS)):
        return "yes or no"
    if not asks:
        return "statement"
    # "If it rains, how likely ...", "Bees have how many legs?"
    later = next((number for number, word in enumerate(words) if word in _OPENERS), None)
    return "other question" if later is None else question_type(" ".join([*words[later:], "?"]))
