"""The answer bank: known answers, and which of them lie nearest to an embedding."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.data import read_pairs
from cellgraph.numbers import plain_numbers
from cellgraph.retrieval import distinct_answers
from cellgraph.texts import well_formed

#: Neighbours of each answer in the graph of approximate search, and how many are looked at while searching it. Malkov
#: and Yashunin 2016 (arXiv 1603.09320) recommend 5 to 48 neighbours; the tests hold what these settings find.
HNSW_NEIGHBOURS, HNSW_SEARCHED = 32, 128


@dataclass(frozen=True)
class Candidate:
    """An answer of the bank that was found.

    Attributes:
        text: The answer.
        score: Cosine of its embedding with the one that was searched for.
        rank: 1 for the nearest.
    """

    text: str
    score: float
    rank: int

    @property
    def shown(self) -> str:
        """The score in words."""
        return f"{self.score:.3f}"


class AnswerBank:
    """Distinct answers and their embeddings, searched by the cosine by which training and evaluation judge.

    Answers that are one candidate to the evaluation (:func:`~cellgraph.retrieval.distinct_answers`) are one here.

    Args:
        texts: The answers.
        embeddings: The teacher's embeddings of them.
        approximate: Whether to search a graph of neighbours (HNSW, by faiss) instead of comparing with every answer:
            for banks of a million answers rather than thousands.

    Shapes:
        - **embeddings:** ``[num_texts, width]``

    Raises:
        ValueError: If there are fewer than two distinct answers, an embedding is not finite, or faiss is wanted and
            not installed.

    Example:
        >>> bank = AnswerBank(["Yes.", "No.", "yes."], torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
        >>> len(bank), bank.nearest(torch.tensor([[3.0, 4.0]]), k=2)[0][0]
        (2, Candidate(text='No.', score=0.800000011920929, rank=1))
    """

    @plain_numbers
    def __init__(self, texts: Sequence[str], embeddings: Tensor, *, approximate: bool = False) -> None:
        if embeddings.dim() != 2 or len(texts) != len(embeddings):
            raise ValueError(
                f"expected one embedding for each of {len(texts)} answers, [num_texts, width], "
                f"got {list(embeddings.shape)}"
            )
        if not embeddings.isfinite().all():
            raise ValueError("the embeddings of an answer bank must be finite, got NaN or infinity")
        first, self.position = distinct_answers(embeddings, texts)
        #: How many texts are left out although no other reads the same: another has the same embedding.
        self.left_out = len(distinct_answers(torch.zeros(len(texts), 1), texts)[0]) - len(first)
        if len(first) < 2:
            more = f" and {self.left_out} more with the same embedding" if self.left_out else ""
            raise ValueError(f"an answer bank needs at least 2 distinct answers, got {len(first)}{more}")
        self.texts = [well_formed(texts[index]) for index in first.tolist()]
        #: The embeddings as they were given, in float32, ``[num_answers, width]``.
        self.raw = embeddings[first].detach().float().cpu()
        self.norms = self.raw.norm(dim=1, keepdim=True)
        self.embeddings = F.normalize(self.raw, dim=1)
        self._index = _graph(self.embeddings) if approximate else None

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} answers{', approximate' if self.approximate else ''})"

    def by(self, key: Callable[[Tensor], Tensor]) -> AnswerBank:
        """The same answers, found by what a network compares its queries with.

        Args:
            key: Gives keys for the teacher's embeddings of answers, see :meth:`CellGraph.key
                <cellgraph.ends.Ends.key>`.
        """
        keyed = copy.copy(self)
        keys = key(self.raw).detach().float().cpu()
        keyed.norms, keyed.embeddings = keys.norm(dim=1, keepdim=True), F.normalize(keys, dim=1)
        keyed._index = _graph(keyed.embeddings) if self.approximate else None
        return keyed

    @property
    def approximate(self) -> bool:
        """Whether a search may miss an answer."""
        return self._index is not None

    @property
    def fingerprint(self) -> str:
        """Content hash of what is searched."""
        content = hashlib.sha256()
        for text in self.texts:
            content.update(hashlib.sha256(text.encode()).digest())
        for part in (self.embeddings, self.norms):
            content.update(part.numpy().tobytes())
        return content.hexdigest()

    def scores(self, embeddings: Tensor) -> Tensor:
        """Cosines of embeddings with all the answers, ``[num_embeddings, num_answers]``; 0 for a zero vector."""
        return F.normalize(embeddings.detach().float().cpu(), dim=1) @ self.embeddings.T

    def search(self, embeddings: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
        """Cosines and positions of the nearest answers, nearest first; fewer than ``k`` where the bank is smaller.

        Shapes:
            - **embeddings:** ``[num_embeddings, width]``
            - **output:** two of ``[num_embeddings, min(k, num_answers)]``

        Raises:
            ValueError: If ``k`` is not positive or the width is another.
        """
        width = self.embeddings.size(1)
        if k < 1 or embeddings.dim() != 2 or embeddings.size(1) != width:
            raise ValueError(f"expected k >= 1 and embeddings [num, {width}], got k = {k} and {list(embeddings.shape)}")
        k = min(k, len(self))
        if self._index is None:
            best = self.scores(embeddings).topk(k, dim=1)
            return best.values, best.indices
        found = self._index.search(F.normalize(embeddings.detach().float().cpu(), dim=1).numpy(), k)
        score, position = map(torch.from_numpy, found)
        # A graph may reach fewer than k answers and says -1 for the others.
        few = (position < 0).any(1)
        if few.any():
            score[few], position[few] = self.scores(embeddings[few.to(embeddings.device)]).topk(k, dim=1)
        return score, position

    def nearest(self, embeddings: Tensor, *, k: int) -> list[list[Candidate]]:
        """The nearest answers to each embedding, in words."""
        score, position = self.search(embeddings, k=k)
        return [
            [Candidate(self.texts[i], s, rank) for rank, (s, i) in enumerate(zip(*row, strict=True), 1)]
            for row in zip(score.tolist(), position.tolist(), strict=True)
        ]


def read_answers(path: str | os.PathLike[str]) -> list[str]:
    """Read answers of one's own: one a line, or the column ``answer`` of what :func:`read_pairs` reads.

    Raises:
        ValueError: If there is none, or the file is damaged.
        OSError: If it cannot be opened.
    """
    path = Path(path)
    if not is_text(path):
        pairs = read_pairs(path, question="answer", topic="", category="", dialogue="", turn="")
        return [pair.answer for pair in pairs]
    return read_lines(path)


def is_text(path: Path) -> bool:
    """Whether a path is read as lines, not as pairs: by its suffix, or where a file has none."""
    return path.suffix.lower() in (".txt", "") and not path.is_dir()


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank: only newlines end them, no other character of white space.

    Raises:
        ValueError: If there is none, or the file is not UTF-8.
        OSError: If it cannot be opened.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.object[error.start]:#04x})") from None
    if not any(lines):
        raise ValueError(f"{path}: no text in it, the file is empty")
    return [line for line in lines if line]


def _graph(embeddings: Tensor) -> Any:
    try:
        import faiss
    except ImportError:
        raise ValueError("approximate search needs faiss: pip install cellgraph[faiss]") from None
    index = faiss.IndexHNSWFlat(embeddings.size(1), HNSW_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = index.hnsw.efSearch = HNSW_SEARCHED
    index.add(embeddings.numpy())
    return index
