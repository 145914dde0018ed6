"""Embeddings: where questions, predictions and answers lie, on a plane and to each other."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from cellgraph.precision import alike

METHODS = ("pca", "tsne", "umap")


def has_umap() -> bool:
    """Whether the package umap-learn is installed."""
    return importlib.util.find_spec("umap") is not None


@dataclass(frozen=True)
class Projection:
    """Embeddings on a plane.

    Attributes:
        method: ``"pca"``, ``"tsne"`` or ``"umap"``.
        points: ``[num_embeddings, 2]``.
        explained: Shares of the variance along the two axes, for PCA.
    """

    method: str
    points: Tensor
    explained: tuple[float, float] | None = None


def project(embeddings: Tensor, method: str = "pca", *, seed: int = 0) -> Projection:
    """Lay embeddings out on a plane: by PCA, by t-SNE or by UMAP, the latter two by cosine.

    Args:
        embeddings: ``[num_embeddings, width]``.
        method: ``"pca"`` keeps the largest variance and distances as they are; ``"tsne"`` (van der Maaten and Hinton
            2008) and ``"umap"`` (`McInnes et al. 2018 <https://arxiv.org/abs/1802.03426>`_) keep neighbours.
        seed: Seed of the random start.

    Raises:
        ValueError: If the method is unknown, UMAP is not installed, or there are fewer than three embeddings.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    if len(embeddings) < 3:
        raise ValueError(f"a projection needs at least 3 embeddings, got {len(embeddings)}")
    x = embeddings.detach().float().numpy()
    if method == "pca":
        pca = PCA(2, random_state=seed).fit(x)
        first, second = (float(share) for share in pca.explained_variance_ratio_)
        return Projection(method, torch.from_numpy(pca.transform(x)), (first, second))
    mapper: Any
    if method == "tsne":
        mapper = TSNE(perplexity=min(30.0, (len(x) - 1) / 3), metric="cosine", random_state=seed)
    else:
        if not has_umap():
            raise ValueError("method 'umap' needs umap-learn: pip install cellgraph[umap]")
        from umap import UMAP

        mapper = UMAP(n_neighbors=min(15, len(x) - 1), metric="cosine", random_state=seed)
    return Projection(method, torch.from_numpy(np.asarray(mapper.fit_transform(x))))


@dataclass(frozen=True)
class CosineMatrix:
    """Cosine of every question, or of what became of it, with every answer.

    Attributes:
        values: ``[num_pairs, num_pairs]``, a question's own answer on the diagonal.
    """

    values: Tensor

    @property
    def own(self) -> float:
        """Mean cosine with the own answer."""
        return float(self.values.diagonal().mean())

    @property
    def other(self) -> float:
        """Mean cosine with the other answers."""
        count = self.values.numel() - len(self.values)
        return float((self.values.sum() - self.values.diagonal().sum()) / count)

    @property
    def contrast(self) -> float:
        """How far own answers stand out: (own - other) in standard deviations of the cosines with other answers;
        infinite, or not a number, where these are all alike."""
        others = self.values[~torch.eye(len(self.values), dtype=torch.bool)]
        return float(torch.tensor(self.own - self.other) / others.std())


def cosine_matrix(questions: Tensor, answers: Tensor) -> CosineMatrix:
    """Cosines of all questions (or predictions) with all answers.

    Shapes:
        - **questions**, **answers:** ``[num_pairs, width]``

    Raises:
        ValueError: If the shapes differ or there are fewer than two pairs.
    """
    if questions.shape != answers.shape or questions.dim() != 2 or len(questions) < 2:
        raise ValueError(
            "questions and answers must both be [num_pairs, width], at least 2 pairs, "
            f"got {list(questions.shape)} and {list(answers.shape)}"
        )
    questions, answers = (F.normalize(x, dim=1) for x in alike(questions, answers))
    return CosineMatrix(questions @ answers.T)


def participation_ratio(x: Tensor) -> Tensor:
    r"""Effective number of dimensions that vectors vary in.

    .. math::
        \frac{(\sum_i \lambda_i)^2}{\sum_i \lambda_i^2} = \frac{\mathrm{tr}(C)^2}{\lVert C \rVert_F^2}

    with :math:`\lambda_i` the eigenvalues of their covariance C: d for equal variance in d directions, 1 on a line.

    Shapes:
        - **x:** ``[..., num_vectors, width]``
        - **output:** ``[...]``; 0 where nothing varies

    Example:
        >>> participation_ratio(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        tensor(2.)
    """
    x = x - x.mean(-2, keepdim=True)
    # The smaller of the two Gram matrices has the same eigenvalues.
    gram = x @ x.mT if x.size(-2) < x.size(-1) else x.mT @ x
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    squares = gram.square().sum((-2, -1))
    return torch.where(squares > 0, trace.square() / squares, 0.0)
