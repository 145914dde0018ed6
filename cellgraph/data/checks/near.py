"""Near duplicates: pairs that differ by a few letters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..pairs import QAPair, normalise_text
from .finding import Finding
from .units import Unit

__all__ = ["jaccard", "near_repetitions", "same_marks", "shingles"]

#: Letters of a shingle: five for short texts (Leskovec, Rajaraman and Ullman 2020, Mining of Massive Datasets, 3.2.2).
LETTERS = 5
#: Length of the signatures.
NUM_PERMUTATIONS = 128
#: Numbers, Roman ones, single letters but for the words "a" and "I", and signs: what tells "type 1" from "type 2", and
#: C++ from C#.
_MARKS = re.compile(r"\w*\d\w*|x{0,3}(?:ix|iv|v?i{0,3})|[b-z]|\w*\W+")


def near_repetitions(
    pairs: Sequence[QAPair | None],
    units: Sequence[Unit],
    threshold: float,
    *,
    neighbours_stay: bool = True,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[Finding]:
    """Yields pairs and dialogues whose question and whose answer are both nearly those of an earlier one.

    Likeness is the Jaccard index of the runs of five letters (`shingles
    <https://doi.org/10.1109/SEQUEN.1997.666900>`_). `MinHash signatures in buckets
    <https://ekzhu.com/datasketch/lsh.html>`_ propose candidates, which are then compared exactly: all that is found is
    that alike, though a pair at the very threshold may be missed. Questions that differ in a number or a single letter
    ("type 1", "type 2") are never near. Pairs of two topics are told of as neighbours: forms that are filled in with
    names make such pairs. What repeats nothing is kept to compare with, and nothing else.

    Args:
        pairs: The pairs by row.
        units: Rows that stay together, in the order in which they are to be kept.
        threshold: Smallest likeness, of the questions and of the answers.
        neighbours_stay: Whether what is nearly a row of another topic is kept to compare with.
        progress: Called with the share that is done.

    Raises:
        ValueError: If the package datasketch is missing.
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        raise ValueError("the check near needs the package datasketch (pip install cellgraph[data])") from None
    # Candidates cost little and are looked at again; a missed one is gone. What question and answer share is counted
    # once in the signature of both, which may be less alike than either.
    index = MinHashLSH(threshold=0.8 * threshold, num_perm=NUM_PERMUTATIONS, weights=(0.1, 0.9))
    empty = MinHash(num_perm=NUM_PERMUTATIONS, seed=1, hashfunc=int)
    kept: dict[int, tuple[str, np.ndarray, np.ndarray]] = {}
    for place, unit in enumerate(units):
        question, answer = (" ".join(getattr(pair, field) for pair in unit.pairs(pairs)) for field in _FIELDS)
        asked, told = shingles(question), shingles(answer)
        signature = empty.copy()
        signature.update_batch(np.union1d(asked, told).tolist())
        topic = _topic(pairs, unit)
        # The likest of the same topic, or of none, and the likest of another one.
        likest: dict[bool, tuple[float, int]] = {}
        for candidate in sorted(index.query(signature)):
            its_question, its_asked, its_told = kept[candidate]
            if len(units[candidate].rows) != len(unit.rows) or not same_marks(question, its_question):
                continue
            likeness = min(jaccard(asked, its_asked), jaccard(told, its_told))
            its_topic = _topic(pairs, units[candidate])
            apart = bool(topic and its_topic and topic != its_topic)
            if likeness >= threshold and likeness > likest.get(apart, (0.0, 0))[0]:
                likest[apart] = likeness, candidate
        kind, aside = ("near", "") if False in likest else ("neighbour", ", of another topic")
        if likest:
            best, other = likest[min(likest)]
            for row, repeated in zip(unit.rows, units[other].rows, strict=True):
                yield Finding(row, kind, f"is nearly row {repeated + 1}{aside}: likeness {best:.2f}", repeated, best)
        if not likest or (kind == "neighbour" and neighbours_stay):
            index.insert(place, signature)
            kept[place] = question, asked, told
        progress((place + 1) / len(units))


def shingles(text: str) -> np.ndarray:
    """The distinct runs of five letters of a text's words, each as a number of 32 bits; a shorter text is one run.

    Example:
        >>> len(shingles("abcdefg")), len(shingles("Aaaaaaaa!")), len(shingles("no"))
        (3, 1, 1)
    """
    letters = np.frombuffer(normalise_text(text).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(letters, min(LETTERS, len(letters))) if len(letters) else letters
    # A polynomial of an odd base modulo 2^64, of which the upper half is well mixed.
    base = np.uint64(0x9E3779B97F4A7C15)
    hashed = np.zeros(len(runs), dtype=np.uint64)
    for column in runs.T if len(letters) else ():
        hashed = (hashed + column + np.uint64(1)) * base
        hashed ^= hashed >> np.uint64(29)
    return np.unique(hashed >> np.uint64(32))


def same_marks(one: str, other: str) -> bool:
    """Whether two questions name the same numbers, single letters and signs.

    Example:
        >>> same_marks("What is type 1?", "What is type 2?"), same_marks("What is a cell?", "What is cell?")
        (False, True)
    """
    first, second = ({word for word in normalise_text(text).split() if _MARKS.fullmatch(word)} for text in (one, other))
    return first - {"i"} == second - {"i"}


_FIELDS = ("question", "answer")


def _topic(pairs: Sequence[QAPair | None], unit: Unit) -> str:
    return normalise_text(next(unit.pairs(pairs)).topic)


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """The share of the shingles of either text that both have."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    either = len(one) + len(other) - both
    return both / either if either else 1.0
