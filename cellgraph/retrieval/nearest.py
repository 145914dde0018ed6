"""Nearest answers: what a prediction would say, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.retrieval.metrics import distinct_answers, ranks


@dataclass(frozen=True)
class NearestAnswers:
    """The held-out answers nearest to the prediction for one question.

    Attributes:
        question: Text of the question.
        answer: Text of the true answer.
        rank: Rank of the true answer among the distinct held-out answers, 1 for the first.
        nearest: Texts of the nearest answers with their cosines, nearest first.
    """

    question: str
    answer: str
    rank: float
    nearest: list[tuple[str, float]]


def nearest_answers(
    predictions: Tensor,
    answers: Tensor,
    questions: Sequence[str],
    answer_texts: Sequence[str],
    *,
    num_questions: int = 3,
    k: int = 3,
    indices: Sequence[int] | None = None,
) -> list[NearestAnswers]:
    """Find the held-out answers nearest to a few predictions, by the raw cosine.

    Args:
        predictions: Predicted answer embeddings of the held-out pairs, or a network's queries.
        answers: Their true answer embeddings, or a network's keys of them.
        questions: Texts of the questions.
        answer_texts: Texts of the answers.
        num_questions: How many questions to show: evenly spaced over the held-out pairs, so that nobody picked them.
        k: Answers for each question.
        indices: Show these pairs instead.

    Shapes:
        - **predictions**, **answers:** ``[num_pairs, width]``

    Raises:
        ValueError: If the lengths differ, there are no pairs, or an index is out of range.
    """
    lengths = [len(predictions), len(answers), len(questions), len(answer_texts)]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise ValueError(
            f"expected as many predictions, answers, questions and answer texts, at least 1, got {lengths}"
        )
    if indices is None:
        shown = min(num_questions, len(questions))
        indices = [(2 * i + 1) * len(questions) // (2 * shown) for i in range(shown)]
    if any(not 0 <= i < len(questions) for i in indices):
        raise ValueError(f"indices must lie between 0 and {len(questions) - 1}, got {list(indices)}")
    if not indices:
        return []
    predictions, answers = predictions.detach().float().cpu(), answers.detach().float().cpu()
    candidates, target = distinct_answers(answers, answer_texts)
    chosen = torch.tensor(list(indices))
    place = ranks(predictions[chosen], answers[candidates], target[chosen])
    score = F.normalize(predictions[chosen], dim=1) @ F.normalize(answers[candidates], dim=1).T
    best = score.topk(min(k, len(candidates)), dim=1)
    return [
        NearestAnswers(
            question=questions[index],
            answer=answer_texts[index],
            rank=float(place[row]),
            nearest=[
                (answer_texts[int(candidates[column])], float(value))
                for value, column in zip(best.values[row], best.indices[row], strict=True)
            ],
        )
        for row, index in enumerate(indices)
    ]
