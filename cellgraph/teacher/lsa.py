"""The teacher that needs no weights: term frequencies and a truncated singular value decomposition."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from cellgraph.files import write_atomically
from cellgraph.numbers import plain_numbers
from cellgraph.reading import faults, read_json, read_tensors
from cellgraph.teacher.protocol import checked_texts
from cellgraph.teacher.state import checked_options, read_state, write_state
from cellgraph.texts import words

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

TENSOR_FILE = "teacher.safetensors"
VOCABULARY_FILE = "vocabulary.json"


class LSATeacher:
    r"""Latent semantic analysis, fitted on training texts.

    Texts become vectors of weighted term frequencies, :math:`(1 + \ln \mathrm{tf}) \cdot \mathrm{idf}`, which the
    leading right singular vectors of the training texts' matrix project to the width, as in `Indexing by latent
    semantic analysis <https://doi.org/10.1002/(SICI)1097-4571(199009)41:6%3C391::AID-ASI1%3E3.0.CO;2-9>`_. A text
    without any known term becomes the zero vector.

    Args:
        width: Number of components of an embedding.
        max_ngram: Terms are runs of one to this many words.
        min_texts: Terms in fewer training texts than this are left out.
        max_terms: Most terms, the most frequent ones; they decide the size of what is saved.
        stop_words: Whether English function words are left out.
        seed: Seed of the randomised decomposition.

    Shapes:
        - ``encode``: ``num_texts`` texts to ``[num_texts, width]``

    Raises:
        ValueError: If a number is not a positive integer.

    Example:
        >>> teacher = LSATeacher(2, min_texts=1)
        >>> teacher.fit(["a warm day", "a cold day", "a cold night"])
        >>> teacher.encode(["cold days", "nothing known"]).norm(dim=1).round()
        tensor([1., 0.])
    """

    kind = "lsa"

    @plain_numbers
    def __init__(
        self,
        width: int = 225,
        *,
        max_ngram: int = 1,
        min_texts: int = 2,
        max_terms: int = 20_000,
        stop_words: bool = False,
        seed: int = 0,
    ) -> None:
        numbers = {"width": width, "max_ngram": max_ngram, "min_texts": min_texts, "max_terms": max_terms}
        for name, value in numbers.items():
            if value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        self.width = width
        self.max_ngram = max_ngram
        self.min_texts = min_texts
        self.max_terms = max_terms
        self.stop_words = bool(stop_words)
        self.seed = seed
        self._vectorizer: TfidfVectorizer | None = None
        self._components = torch.empty(0)
        self._fingerprint = ""

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self._options().items())
        return f"{type(self).__name__}({options}, fitted={self._vectorizer is not None})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the options and everything that was fitted.

        Raises:
            ValueError: If the teacher is not fitted yet.
        """
        self._fitted()
        return self._fingerprint

    def fit(self, texts: Sequence[str]) -> None:
        """Learn the terms, their weights and the projection; give it training texts only.

        Raises:
            ValueError: If there are fewer texts or terms, or less variety in them, than components.
        """
        from sklearn.decomposition import TruncatedSVD

        texts = checked_texts(texts)
        vectorizer = self._new_vectorizer(None)
        try:
            frequencies = vectorizer.fit_transform(texts)
        except ValueError:
            # scikit-learn's way of saying that no term is left.
            frequencies = np.empty((len(texts), 0))
        if min(frequencies.shape) < self.width:
            raise ValueError(
                f"teacher lsa of width {self.width} needs at least as many texts and terms to fit, "
                f"got {len(texts)} texts with {frequencies.shape[1]} terms"
            )
        decomposition = TruncatedSVD(self.width, n_iter=7, random_state=self.seed).fit(frequencies)
        # Beyond the rank of the matrix the singular vectors are rounding noise.
        spectrum = decomposition.singular_values_
        rank = int((spectrum > spectrum[0] * 1e-5).sum())
        if rank < self.width:
            raise ValueError(f"teacher lsa of width {self.width}: the {len(texts)} texts to fit allow {rank} only")
        self._take(vectorizer, torch.from_numpy(np.ascontiguousarray(decomposition.components_, dtype=np.float32)))

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
        """Turn texts into embeddings, in their order.

        Args:
            texts: The texts.
            progress: Ignored: thousands of texts take a second.

        Shapes:
            - result: ``[num_texts, width]``, float32

        Raises:
            ValueError: If the teacher is not fitted yet, or the texts are not strings.
        """
        vectorizer = self._fitted()
        texts = checked_texts(texts)
        if not texts:
            return torch.empty(0, self.width, dtype=torch.float32)
        embedding = torch.from_numpy(np.asarray(vectorizer.transform(texts) @ self._components.numpy().T))
        return torch.nn.functional.normalize(embedding, dim=1)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write what was fitted: tensors as safetensors, terms and options as JSON.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If the teacher is not fitted yet.
        """
        tensors = {"idf": torch.from_numpy(self._fitted().idf_.copy()), "components": self._components}
        write_atomically(Path(folder) / TENSOR_FILE, save_tensors(tensors))
        write_atomically(Path(folder) / VOCABULARY_FILE, json.dumps(self._terms(), ensure_ascii=False).encode())
        write_state(folder, {"kind": self.kind, "options": self._options(), "fingerprint": self.fingerprint})

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> LSATeacher:
        """Build the teacher that :meth:`save_pretrained` wrote; it encodes to the same bits.

        Raises:
            OSError: If a file is missing.
            ValueError: If the files do not belong together or are damaged.
        """
        names = {"width", "max_ngram", "min_texts", "max_terms", "stop_words", "seed"}
        state = read_state(folder)
        teacher = cls(**checked_options(folder, state, names))
        tensors, terms = read_tensors(Path(folder) / TENSOR_FILE), read_json(Path(folder) / VOCABULARY_FILE, list)
        with faults(damaged := f"the fitted teacher in {folder}"):
            idf, components = tensors["idf"], tensors["components"]
            expected = ((len(terms),), (teacher.width, len(terms)))
            if (tuple(idf.shape), tuple(components.shape)) != expected:
                got = f"{tuple(idf.shape)} and {tuple(components.shape)}"
                raise ValueError(f"{damaged} is damaged: expected shapes {expected}, got {got}")
            vectorizer = teacher._new_vectorizer({term: column for column, term in enumerate(terms)})
            vectorizer.idf_ = idf.numpy()
            teacher._take(vectorizer, components)
        if teacher.fingerprint != state["fingerprint"]:
            raise ValueError(
                f"the fitted teacher in {folder} is damaged: expected fingerprint {state['fingerprint'][:12]}..., "
                f"got {teacher.fingerprint[:12]}..."
            )
        return teacher

    def _options(self) -> dict[str, int]:
        return {
            "width": self.width,
            "max_ngram": self.max_ngram,
            "min_texts": self.min_texts,
            "max_terms": self.max_terms,
            "stop_words": self.stop_words,
            "seed": self.seed,
        }

    def _new_vectorizer(self, vocabulary: dict[str, int] | None) -> TfidfVectorizer:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(
            ngram_range=(1, self.max_ngram),
            min_df=self.min_texts,
            max_features=self.max_terms,
            stop_words="english" if self.stop_words else None,
            sublinear_tf=True,
            # Its own pattern, the marks of letters included.
            tokenizer=functools.partial(words, single=False),
            token_pattern=None,
            vocabulary=vocabulary,
            dtype=np.float32,
        )

    def _take(self, vectorizer: TfidfVectorizer, components: Tensor) -> None:
        self._vectorizer, self._components = vectorizer, components
        digest = hashlib.sha256(json.dumps([self._options(), self._terms()], sort_keys=True).encode())
        digest.update(vectorizer.idf_.tobytes())
        digest.update(components.numpy().tobytes())
        self._fingerprint = digest.hexdigest()

    def _fitted(self) -> TfidfVectorizer:
        if self._vectorizer is None:
            raise ValueError("teacher lsa must be fitted on training texts first: fit(texts)")
        return self._vectorizer

    def _terms(self) -> list[str]:
        return self._fitted().get_feature_names_out().tolist()
