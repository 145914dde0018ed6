"""Diversity: how many different things a set amounts to, by its embeddings."""

from __future__ import annotations

import numpy as np

__all__ = ["spectrum", "vendi_score"]


def spectrum(vectors: np.ndarray) -> np.ndarray:
    r"""The eigenvalues of the matrix of cosines over their number, from the largest; they add up to 1.

    The matrix of ``n`` rows :math:`K = X X^\top / n` and that of their ``d`` features :math:`X^\top X / n` have the
    same eigenvalues but for zeros. The smaller is taken: a million rows of 225 features take a matrix of 225 x 225.

    Args:
        vectors: Embeddings; those of length zero are left out, the others are brought to unit length.

    Shapes:
        - ``vectors``: ``[num_texts, width]``
        - result: ``[min(num_texts, width)]``, float64

    Example:
        >>> spectrum(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]])).round(3).tolist()
        [0.667, 0.333]
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.ndim != 2:
        raise ValueError(f"expected vectors of shape [num_texts, width], got {list(vectors.shape)}")
    lengths = np.linalg.norm(vectors, axis=1)
    vectors = vectors[lengths > 0] / lengths[lengths > 0, None]
    if not len(vectors):
        return np.zeros(0)
    small = vectors.T @ vectors if vectors.shape[1] <= len(vectors) else vectors @ vectors.T
    return np.clip(np.linalg.eigvalsh(small / len(vectors))[::-1], 0.0, None)


def vendi_score(vectors: np.ndarray) -> float:
    r"""The effective number of different texts, as in `The Vendi Score: A Diversity Evaluation Metric for Machine
    Learning <https://arxiv.org/abs/2210.02410>`_.

    .. math::
        \mathrm{VS} = \exp \Bigl( - \sum_i \lambda_i \ln \lambda_i \Bigr)

    over the eigenvalues of the matrix of cosines over their number: 1 where all texts are the same, ``n`` where ``n``
    of them have nothing in common. No more than the width of the embeddings can be told apart.

    Args:
        vectors: Embeddings; those of length zero are left out.

    Shapes:
        - ``vectors``: ``[num_texts, width]``

    Returns:
        The score; NaN where there is no embedding.

    Example:
        >>> round(vendi_score(np.eye(5)), 6), round(vendi_score(np.ones((5, 3))), 6)
        (5.0, 1.0)
    """
    values = spectrum(vectors)
    if not len(values):
        return float("nan")
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))
