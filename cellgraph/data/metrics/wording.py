"""Wording: how readable texts are, and how much they repeat themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType

import numpy as np

from ..pairs import normalise_text

__all__ = ["distinct_ngrams", "grade", "words_of"]


def words_of(text: str) -> list[str]:
    """The words of a text, see :func:`~cellgraph.data.normalise_text`."""
    return normalise_text(text).split()


def distinct_ngrams(texts: Iterable[Sequence[str]], n: int) -> float:
    """The share of runs of ``n`` words that are distinct, the distinct-n of `A Diversity-Promoting Objective Function
    for Neural Conversation Models <https://arxiv.org/abs/1510.03055>`_; runs do not cross from text to text.

    It falls with the number of words: only sets of equally many can be compared by it.

    Args:
        texts: The words of each text.
        n: Number of words.

    Returns:
        The share; NaN where there is no run.

    Example:
        >>> distinct_ngrams([["a", "b", "a", "b"], ["b", "a"]], 2)
        0.5
    """
    runs = [tuple(words[i : i + n]) for words in texts for i in range(len(words) - n + 1)]
    return len(set(runs)) / len(runs) if runs else float("nan")


def grade(texts: Iterable[str]) -> np.ndarray:
    r"""The school year in the United States in which texts are read: the index of `Coleman and Liau
    <https://doi.org/10.1037/h0076540>`_; English only.

    .. math::
        0.0588 \, L - 0.296 \, S - 15.8

    of ``L`` letters and ``S`` sentences in a hundred words, as `textstat <https://textstat.org>`_ counts them (its own
    index has 0.058 in place of the paper's 0.0588). Unlike other indices it needs no syllables, for which a dictionary
    would have to be fetched. Of a single sentence it says little, of many a fair deal.

    Args:
        texts: The texts.

    Raises:
        ValueError: If the package textstat is missing.

    Example:
        >>> grade(["A cat sat.", "Notwithstanding ratification, jurisdiction remained."]).round().tolist()
        [-12.0, 46.0]
    """
    textstat = _textstat()
    found = []
    for text in texts:
        words = textstat.lexicon_count(text)
        letters, sentences = textstat.letter_count(text), textstat.sentence_count(text)
        # Of no word at all there is nothing to read.
        found.append((5.88 * letters - 29.6 * sentences) / words - 15.8 if words else 0.0)
    return np.array(found, dtype=np.float64)


def _textstat() -> ModuleType:
    try:
        import textstat
    except ImportError:
        raise ValueError("readability needs the package textstat (pip install cellgraph[data])") from None
    return textstat
