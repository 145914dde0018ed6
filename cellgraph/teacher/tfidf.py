"""The cheapest teacher: weighted words, hashed into the width."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cellgraph.numbers import plain_numbers
from cellgraph.teacher.base import BaseTeacher
from cellgraph.teacher.protocol import checked_texts
from cellgraph.texts import words

WEIGHTINGS = ("bm25", "tfidf")
#: Places that terms are hashed into before they are weighted: few of the terms of a set of texts share one.
BUCKETS = 2**18


class TfidfTeacher(BaseTeacher):
    r"""Terms of a text by their weights, folded into the width by `feature hashing
    <https://arxiv.org/abs/0902.2206>`_: each term adds its weight to one component, with a sign.

    Products of embeddings are those of the sparse vectors in expectation, the more exactly the wider they are. With
    :math:`f` how often a term is in the text, :math:`l` how many terms the text has and :math:`\bar l` the texts to
    fit, the weights are (`Robertson and Zaragoza 2009 <https://doi.org/10.1561/1500000019>`_, section 3)

    .. math::
        \mathrm{bm25}: \; \ln\Big(1 + \frac{n - n_t + 0.5}{n_t + 0.5}\Big)
        \frac{f (k_1 + 1)}{f + k_1 (1 - b + b \, l / \bar l)}, \qquad
        \mathrm{tfidf}: \; (1 + \ln f) \Big(1 + \ln \frac{1 + n}{1 + n_t}\Big)

    A text without any term becomes the zero vector; terms that no text to fit has count as the rarest.

    Args:
        width: Number of components of an embedding.
        weighting: ``"bm25"`` or ``"tfidf"``.
        max_ngram: Terms are runs of one to this many words.
        stop_words: Whether English function words are left out.
        k1, b: Of the first weighting.

    Shapes:
        - ``encode``: ``num_texts`` texts to ``[num_texts, width]``

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> teacher = TfidfTeacher(64)
        >>> teacher.fit(["a warm day", "a cold day", "a cold night"])
        >>> warm, cold, night = teacher.encode(["warm days", "a cold day", "that cold night"])
        >>> bool(cold @ night > cold @ warm)
        True
    """

    @plain_numbers
    def __init__(
        self,
        width: int = 1024,
        *,
        weighting: str = "bm25",
        max_ngram: int = 1,
        stop_words: bool = False,
        k1: float = 1.2,
        b: float = 0.75,
    ) -> None:
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {WEIGHTINGS}, got {weighting!r}")
        if not 1 <= width <= BUCKETS or max_ngram < 1:
            raise ValueError(f"width must be 1 to {BUCKETS:,} and max_ngram positive, got {width} and {max_ngram}")
        if not (k1 >= 0 and 0 <= b <= 1):
            raise ValueError(f"k1 must not be negative and b between 0 and 1, got {k1} and {b}")
        self.width, self.weighting, self.max_ngram = width, weighting, max_ngram
        self.stop_words, self.k1, self.b = bool(stop_words), k1, b
        self._learned: dict[str, Tensor] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.width}, weighting={self.weighting!r}, fitted={bool(self._learned)})"

    @classmethod
    def kind(cls) -> str:
        """Its name in files."""
        return "tfidf"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the options and what was learned.

        Raises:
            ValueError: If the teacher has not learned yet.
        """
        digest = hashlib.sha256(json.dumps([self.kind(), self._given], sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()

    def fit(self, texts: Sequence[str]) -> None:
        """Learn how frequent terms are; give it training texts only.

        Raises:
            ValueError: If no text has a term.
        """
        counts = self._vectorizer.transform(checked_texts(texts)) if len(texts) else None
        if counts is None or not counts.nnz:
            raise ValueError(f"teacher tfidf needs texts with words to learn from, got {len(texts)} texts without any")
        found = np.bincount(counts.indices, minlength=BUCKETS)
        if self.weighting == "bm25":
            idf = np.log1p((counts.shape[0] - found + 0.5) / (found + 0.5))
        else:
            idf = np.log((1 + counts.shape[0]) / (1 + found)) + 1
        length = counts.sum() / counts.shape[0]
        self._learned = {"idf": torch.from_numpy(idf.astype(np.float32)), "length": torch.tensor([length]).float()}

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
        """Turn texts into embeddings, in their order.

        Args:
            texts: The texts.
            progress: Ignored: thousands of texts take a second.

        Shapes:
            - result: ``[num_texts, width]``, float32

        Raises:
            ValueError: If the teacher has not learned yet, or the texts are not strings.
        """
        learned, texts = self.state_dict(), checked_texts(texts)
        if not texts:
            return torch.empty(0, self.width)
        counts = self._vectorizer.transform(texts)
        frequency = counts.data
        if self.weighting == "bm25":
            relative = np.asarray(counts.sum(axis=1)).ravel() / float(learned["length"])
            damping = self.k1 * (1 - self.b + self.b * np.repeat(relative, np.diff(counts.indptr)))
            frequency = frequency * (self.k1 + 1) / (frequency + damping)
        else:
            frequency = 1 + np.log(frequency)
        counts.data = (frequency * learned["idf"].numpy()[counts.indices]).astype(np.float32)
        return torch.nn.functional.normalize(torch.from_numpy((counts @ self._fold).toarray()), dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        """What was learned."""
        if not self._learned:
            raise ValueError("teacher tfidf must be fitted on training texts first: fit(texts)")
        return self._learned

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take it back."""
        self._learned = dict(state)

    @cached_property
    def _vectorizer(self) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        return HashingVectorizer(
            n_features=BUCKETS,
            ngram_range=(1, self.max_ngram),
            stop_words="english" if self.stop_words else None,
            alternate_sign=False,
            # Its own pattern, the marks of letters included.
            tokenizer=partial(words, single=False),
            token_pattern=None,
            norm=None,
            dtype=np.float32,
        )

    @cached_property
    def _fold(self) -> Any:
        """From places to components; places are drawn by a hash already, and so are these."""
        from scipy.sparse import csr_array

        place = np.arange(BUCKETS)
        sign = np.where(place // self.width % 2, -1, 1).astype(np.float32)
        return csr_array((sign, place % self.width, np.arange(BUCKETS + 1)), shape=(BUCKETS, self.width))
