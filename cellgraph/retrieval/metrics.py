"""Metrics: how near predicted answer embeddings come to the true ones, and how many wrong answers lie nearer.

Every question is ranked against the *distinct* held-out answers (:func:`distinct_answers`): two pairs with the same
answer share one candidate, so retrieving either is right. Scores are cosines, or cosines re-ranked by CSLS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from cellgraph.precision import alike

#: Rows of a similarity matrix held at a time: 1,024 x 10,000 float32 values are 40 MB.
CHUNK_SIZE = 1024

#: Scores nearer than this are equal: float32 dot products of unit vectors differ by as much between machines.
TIE = 1e-6

#: A centred vector shorter than this share of what it was before is rounding error and has no direction.
RELATIVE_EPS = 1e-6


def cosine(predictions: Tensor, answers: Tensor, *, mean: Tensor | None = None) -> Tensor:
    r"""Cosine of each prediction with its answer, raw or centred.

    Sentence embeddings share a large common component, so that the mean answer alone scores 0.4 to 0.5 raw. Centred on
    the mean of the *training* answers it has no direction left and scores zero:

    .. math::
        \cos(p - \mu, a - \mu)

    Args:
        predictions: Predicted answer embeddings.
        answers: True answer embeddings.
        mean: Mean of the training answers, :math:`\mu`; ``None`` for the raw cosine.

    Shapes:
        - **predictions**, **answers:** ``[num_pairs, width]``
        - **mean:** ``[width]``
        - **output:** ``[num_pairs]``; 0 where a vector is zero

    Raises:
        ValueError: If the shapes do not match.

    Example:
        >>> cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
        tensor([1.])
    """
    if predictions.shape != answers.shape or predictions.dim() != 2:
        raise ValueError(
            f"predictions and answers must both be [num_pairs, width], got {list(predictions.shape)} "
            f"and {list(answers.shape)}"
        )
    if mean is not None:
        if mean.shape != answers.shape[1:]:
            raise ValueError(f"mean must be [{answers.size(1)}], got {list(mean.shape)}")
        predictions, answers = _centred(predictions, mean), _centred(answers, mean)
    predictions, answers = alike(predictions, answers)
    return (F.normalize(predictions, dim=1) * F.normalize(answers, dim=1)).sum(1)


def distinct_answers(answers: Tensor, texts: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
    """The candidates of a retrieval: the held-out answers, each once.

    Answers are one candidate when their texts agree (up to white space and case) or their embeddings are equal, as
    those of long texts that differ after the teacher's last token only: no embedding could tell them apart. A zero
    embedding is none: a teacher gives it to texts of which it knows no word, and their words do. Two that are one with
    a third are one.

    Args:
        answers: Answer embeddings.
        texts: Their texts; without them the embeddings alone decide.

    Shapes:
        - **answers:** ``[num_pairs, width]``
        - **output:** candidates ``[num_candidates]``, index of the first pair of each; target ``[num_pairs]``, index
          of each pair's own answer among the candidates

    Raises:
        ValueError: If there is not one text for each answer.

    Example:
        >>> candidates, target = distinct_answers(torch.eye(3), ["Yes.", "No.", "yes."])
        >>> candidates.tolist(), target.tolist()
        ([0, 1], [0, 1, 0])
    """
    if texts is not None and len(texts) != len(answers):
        raise ValueError(f"expected one text for each of {len(answers)} answers, got {len(texts)}")
    # Adding 0 turns -0.0 into 0.0, whose bytes differ. Each zero row is one by itself.
    values = (answers.detach().cpu().double() + 0.0).numpy()
    rows = [row.tobytes() if row.any() else index for index, row in enumerate(values)]
    given: list[list[Any]] = [rows] if texts is None else [rows, [" ".join(text.split()).casefold() for text in texts]]
    # Every answer is joined to the first with its embedding, and to the first with its text.
    firsts = []
    for known in given:
        first: dict[Any, int] = {}
        firsts.append([first.setdefault(value, index) for index, value in enumerate(known)])
    count = len(rows)
    joined = np.array(firsts).reshape(-1), np.tile(np.arange(count), len(firsts))
    _, label = connected_components(coo_array((np.ones(len(joined[0])), joined), shape=(count, count)), directed=False)
    _, candidates, target = np.unique(label, return_index=True, return_inverse=True)
    # In the order in which they first appear.
    order = candidates.argsort()
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return torch.from_numpy(candidates[order]), torch.from_numpy(place[target])


def best_of_each(scores: Tensor, target: Tensor) -> Tensor:
    """Scores of candidates from those of the pairs' answers: the highest, where pairs with one candidate differ.

    Answers that are one to the embeddings may still have words of their own, of which any may be asked for.

    Args:
        scores: How well the answer of each pair fits each question.
        target: Index of each pair's answer among the candidates, of :func:`distinct_answers`.

    Shapes:
        - **scores:** ``[num_questions, num_pairs]``
        - **target:** ``[num_pairs]``
        - **output:** ``[num_questions, num_candidates]``

    Example:
        >>> best_of_each(torch.tensor([[1.0, 2.0, 5.0]]), torch.tensor([0, 1, 0]))
        tensor([[5., 2.]])
    """
    best = scores.new_empty(len(scores), int(target.max()) + 1)
    return best.scatter_reduce_(1, target.expand(len(scores), -1), scores, "amax", include_self=False)


def neighbourhood_cosine(x: Tensor, y: Tensor, *, k: int = 10, chunk_size: int = CHUNK_SIZE) -> Tensor:
    """Mean cosine of each ``x`` with its ``k`` nearest ``y``: the ``r`` of CSLS, large for a hub.

    Args:
        x: Vectors to be measured.
        y: Vectors of the other domain.
        k: Number of neighbours; all of ``y`` where there are fewer.
        chunk_size: Rows of the similarity matrix held at a time.

    Shapes:
        - **x:** ``[num_x, width]``
        - **y:** ``[num_y, width]``
        - **output:** ``[num_x]``

    Raises:
        ValueError: If ``k`` is not positive.
    """
    if k < 1:
        raise ValueError(f"CSLS needs k >= 1 neighbours, got {k}")
    k = min(k, len(y))
    return torch.cat([chunk.topk(k, dim=1).values.mean(1) for _, chunk in _cosine_chunks(x, y, chunk_size)])


def csls(predictions: Tensor, answers: Tensor, *, k: int = 10) -> Tensor:
    r"""Cross-domain similarity local scaling of all predictions with all answers.

    (Conneau et al. 2018, `arXiv 1710.04087 <https://arxiv.org/abs/1710.04087>`_, equation 2, with their k = 10.)

    .. math::
        \mathrm{CSLS}(p, a) = 2 \cos(p, a) - r_A(p) - r_P(a)

    where :math:`r_A(p)` is the mean cosine of the prediction with its k nearest answers and :math:`r_P(a)` that of the
    answer with its k nearest predictions: answers that are near to everything lose. It looks at all held-out questions
    at once, so it tells how far hubs are at fault, not what a single question on its own would retrieve.

    Args:
        predictions: Predicted answer embeddings.
        answers: Candidate answer embeddings.
        k: Number of neighbours.

    Shapes:
        - **predictions:** ``[num_pairs, width]``
        - **answers:** ``[num_candidates, width]``
        - **output:** ``[num_pairs, num_candidates]``, whole; :func:`ranks` never holds it
    """
    predictions, answers = alike(predictions, answers)
    similarity = F.normalize(predictions, dim=1) @ F.normalize(answers, dim=1).T
    near_answers = neighbourhood_cosine(predictions, answers, k=k)
    near_predictions = neighbourhood_cosine(answers, predictions, k=k)
    return 2 * similarity - near_answers[:, None] - near_predictions


def first_right(scores: Tensor, right: Tensor) -> Tensor:
    """Rank of the first right candidate in each row, 1 for the first place.

    Ties count half: the rank is 1 + the wrong candidates that score higher + half of those that score the same (to
    :data:`TIE`), which is the mean over all orders of the tied ones. So a tie for the first place is not a hit at 1,
    and a system that gives all candidates one score ranks in the middle. A right candidate whose score is not a number
    comes last; a wrong one's counts as higher, so that a broken system gains nothing by it.

    Shapes:
        - **scores**, **right:** ``[num_pairs, num_candidates]``
        - **output:** ``[num_pairs]``, multiples of one half; infinite where no candidate is right

    Example:
        >>> first_right(torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[False, True, True]]))
        tensor([2.])
    """
    best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
    higher = ((~(scores <= best + TIE)) & ~right).sum(1)
    same = (((scores - best).abs() <= TIE) & ~right).sum(1)
    return torch.where(right.any(1), 1 + higher + same / 2, torch.inf)


def ranks(
    predictions: Tensor,
    answers: Tensor,
    target: Tensor,
    *,
    csls_k: int | None = None,
    chunk_size: int = CHUNK_SIZE,
) -> Tensor:
    """Rank of each prediction's true answer among all candidates, 1 for the first.

    Ties count half, see :func:`first_right`.

    Args:
        predictions: Predicted answer embeddings.
        answers: Candidate answer embeddings, without duplicates: see :func:`distinct_answers`.
        target: Index of the true answer among the candidates.
        csls_k: Rank by :func:`csls` with this k instead of by cosine.
        chunk_size: Rows of the similarity matrix held at a time.

    Shapes:
        - **predictions:** ``[num_pairs, width]``
        - **answers:** ``[num_candidates, width]``
        - **target:** ``[num_pairs]``
        - **output:** ``[num_pairs]``, multiples of one half

    Raises:
        ValueError: If there is not one target for each prediction.
    """
    if target.shape != predictions.shape[:1]:
        raise ValueError(f"expected one target for each of {len(predictions)} predictions, got {list(target.shape)}")
    hubness = None
    if csls_k is not None:
        hubness = neighbourhood_cosine(answers, predictions, k=csls_k, chunk_size=chunk_size)
    found = []
    for rows, score in _cosine_chunks(predictions, answers, chunk_size):
        if hubness is not None:
            # The prediction's own r is the same for all candidates and does not change their order.
            score = 2 * score - hubness
        own = target[rows, None] == torch.arange(len(answers), device=target.device)
        found.append(first_right(score, own))
    return torch.cat(found)


def recall_at_k(ranks: Tensor, k: int) -> Tensor:
    """Whether the true answer is among the first ``k``: ``[num_pairs]``, 0 or 1.

    Example:
        >>> recall_at_k(torch.tensor([1.0, 5.0, 5.5]), 5)
        tensor([1., 1., 0.])
    """
    return (ranks <= k).to(torch.get_default_dtype())


def reciprocal_ranks(ranks: Tensor) -> Tensor:
    """One over the rank: ``[num_pairs]``, the mean of which is the mean reciprocal rank."""
    return ranks.to(torch.get_default_dtype()).reciprocal()


def chance_level(num_candidates: int) -> tuple[float, float]:
    r"""Recall at 1 and mean reciprocal rank of a random order: :math:`1 / N` and :math:`H_N / N`.

    Example:
        >>> chance_level(2)
        (0.5, 0.75)
    """
    return 1 / num_candidates, sum(1 / rank for rank in range(1, num_candidates + 1)) / num_candidates


def _centred(x: Tensor, mean: Tensor) -> Tensor:
    x, mean = alike(x, mean)
    centred = x - mean
    negligible = centred.norm(dim=1, keepdim=True) <= RELATIVE_EPS * x.norm(dim=1, keepdim=True)
    return centred.masked_fill(negligible, 0.0)


def _cosine_chunks(x: Tensor, y: Tensor, chunk_size: int) -> Iterator[tuple[slice, Tensor]]:
    x, y = (F.normalize(part, dim=1) for part in alike(x, y))
    for start in range(0, len(x), chunk_size):
        rows = slice(start, start + chunk_size)
        yield rows, x[rows] @ y.T
