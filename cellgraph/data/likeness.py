"""Likeness of texts: those that share nearly all their words, found without comparing each with each."""

from __future__ import annotations

from typing import Any

from cellgraph.numbers import number

from .pairs import QAPair, normalise_text

__all__ = ["KnownPairs", "LikeTexts"]


class LikeTexts:
    """Texts by key, in which those that are like a given one are found.

    Two texts are alike if the words that both have are a large enough part of the words that either has
    (`Jaccard's index <https://en.wikipedia.org/wiki/Jaccard_index>`_ of the words of :func:`normalise_text`).
    `MinHash <https://doi.org/10.1109/SEQUEN.1997.666900>`_ signatures propose candidates, and each of those is compared
    exactly: what is found is alike, though one at the very threshold may be missed.

    Args:
        threshold: Smallest likeness, above 0 and at most 1.
        num_hashes: Length of the signatures; longer ones miss less.

    Raises:
        ValueError: If the threshold is out of range, or the package datasketch is missing.

    Example:
        >>> texts = LikeTexts(0.7)
        >>> texts.add(1, "Why does the sky look blue by day?")
        >>> texts.find("Why does the sky look blue by day, and why?"), texts.find("Why is grass green?")
        (1, None)
    """

    def __init__(self, threshold: float, *, num_hashes: int = 128) -> None:
        threshold = number("threshold", threshold)
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
        try:
            import datasketch
        except ImportError:
            raise ValueError(
                "finding near duplicates needs the package datasketch (pip install cellgraph[generate])"
            ) from None
        self.threshold, self.num_hashes = threshold, num_hashes
        self._min_hash = datasketch.MinHash
        # Too many candidates do no harm, for each is compared exactly: the index looks for some that are less alike.
        self._index = datasketch.MinHashLSH(threshold=0.8 * threshold, num_perm=num_hashes, weights=(0.1, 0.9))
        self._words: dict[int, frozenset[str]] = {}

    def __len__(self) -> int:
        return len(self._words)

    def find(self, text: str) -> int | None:
        """The key of the text that is most like this one, the smallest of several; ``None`` where none is alike."""
        words = _words(text)
        candidates = sorted(self._index.query(self._signature(words)))
        likest, found = self.threshold, None
        for key in candidates:
            likeness = _likeness(words, self._words[key])
            if likeness >= likest and (found is None or likeness > likest):
                likest, found = likeness, key
        return found

    def add(self, key: int, text: str) -> None:
        """Keep a text.

        Raises:
            ValueError: If the key is taken.
        """
        words = _words(text)
        self._index.insert(key, self._signature(words))
        self._words[key] = words

    def _signature(self, words: frozenset[str]) -> Any:
        signature = self._min_hash(num_perm=self.num_hashes, seed=1)
        signature.update_batch([word.encode() for word in sorted(words)])
        return signature


class KnownPairs:
    """Pairs that are there already, by which new ones are told to be new.

    A pair repeats another if the questions have equal words or are alike, or long answers are. Short answers ("Yes,
    both are 24.") may well be alike.

    Args:
        near: Smallest likeness of near duplicates, see :class:`LikeTexts`; ``None`` looks for equal questions alone.
        answer_words: Number of words from which an answer counts as long.

    Example:
        >>> known = KnownPairs(near=None)
        >>> known.add(QAPair("Who are you?", "A program."))
        >>> known.repeats(QAPair("who are you", "A network.")), known.repeats(QAPair("How are you?", "Well."))
        ('exact', '')
    """

    def __init__(self, *, near: float | None, answer_words: int = 8) -> None:
        self.answer_words = answer_words
        self._questions: set[str] = set()
        self._long_answers: set[str] = set()
        self._like = None if near is None else (LikeTexts(near), LikeTexts(near))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def repeats(self, pair: QAPair) -> str:
        """How a pair repeats a known one: ``"exact"``, ``"near"`` or, where it does not, the empty text."""
        if normalise_text(pair.question) in self._questions or normalise_text(pair.answer) in self._long_answers:
            return "exact"
        if self._like is not None:
            questions, answers = self._like
            if questions.find(pair.question) is not None:
                return "near"
            if self._is_long(pair.answer) and answers.find(pair.answer) is not None:
                return "near"
        return ""

    def add(self, pair: QAPair) -> None:
        """Know a pair."""
        self._questions.add(normalise_text(pair.question))
        if self._is_long(pair.answer):
            self._long_answers.add(normalise_text(pair.answer))
        if self._like is not None:
            questions, answers = self._like
            questions.add(self._count, pair.question)
            if self._is_long(pair.answer):
                answers.add(self._count, pair.answer)
        self._count += 1

    def _is_long(self, text: str) -> bool:
        return len(text.split()) >= self.answer_words


def _words(text: str) -> frozenset[str]:
    return frozenset(normalise_text(text).split())


def _likeness(first: frozenset[str], second: frozenset[str]) -> float:
    either = len(first | second)
    return len(first & second) / either if either else 1.0
