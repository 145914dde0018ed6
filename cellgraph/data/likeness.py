"""Likeness of texts that come one by one: which of them is nearly an earlier one."""

from __future__ import annotations

from typing import Any

import numpy as np

from cellgraph.numbers import number, plain_numbers

from .checks.near import NUM_PERMUTATIONS, jaccard, same_marks, shingles
from .pairs import QAPair, normalise_text

__all__ = ["KnownPairs", "LikeTexts"]


class LikeTexts:
    """Texts by key, in which the one that is most like a given one is found.

    Likeness is what it is to :mod:`~cellgraph.data.checks`: the Jaccard index of the runs of five letters. MinHash
    signatures propose candidates, and each of those is compared exactly: what is found is alike, though one at the very
    threshold may be missed.

    Args:
        threshold: Smallest likeness, above 0 and at most 1.
        marks: Whether texts that differ in a number or a single letter ("type 1", "type 2") are never alike.

    Raises:
        ValueError: If the threshold is out of range, or the package datasketch is missing.

    Example:
        >>> texts = LikeTexts(0.7)
        >>> texts.add(1, "Why does the sky look blue by day?")
        >>> texts.find("Why does the sky look so blue by day?"), texts.find("Why is grass green?")
        (1, None)
    """

    @plain_numbers
    def __init__(self, threshold: float, *, marks: bool = False) -> None:
        threshold = number("threshold", threshold)
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError:
            raise ValueError(
                "finding near duplicates needs the package datasketch (pip install cellgraph[generate])"
            ) from None
        self.threshold, self.marks = threshold, marks
        self._empty = MinHash(num_perm=NUM_PERMUTATIONS, seed=1, hashfunc=int)
        # Too many candidates do no harm, for each is compared exactly: the index looks for some that are less alike.
        self._index = MinHashLSH(threshold=0.8 * threshold, num_perm=NUM_PERMUTATIONS, weights=(0.1, 0.9))
        self._kept: dict[int, tuple[str, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, text: str) -> int | None:
        """The key of the text that is most like this one, the smallest of several; ``None`` where none is alike."""
        runs = shingles(text)
        best, found = 0.0, None
        for key in sorted(self._index.query(self._signature(runs))):
            other, its_runs = self._kept[key]
            if self.marks and not same_marks(text, other):
                continue
            likeness = jaccard(runs, its_runs)
            if likeness >= self.threshold and likeness > best:
                best, found = likeness, key
        return found

    def add(self, key: int, text: str) -> None:
        """Keep a text.

        Raises:
            ValueError: If the key is taken.
        """
        runs = shingles(text)
        self._index.insert(key, self._signature(runs))
        self._kept[key] = text, runs

    def _signature(self, runs: np.ndarray) -> Any:
        signature = self._empty.copy()
        signature.update_batch(runs.tolist())
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

    @plain_numbers
    def __init__(self, *, near: float | None, answer_words: int = 8) -> None:
        self.answer_words = answer_words
        self._questions: set[str] = set()
        self._long_answers: set[str] = set()
        self._like = None if near is None else (LikeTexts(near, marks=True), LikeTexts(near))
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
