"""Confidence: the probability that the nearest answer is a relevant one, learned on held-out pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cellgraph.files import write_json
from cellgraph.numbers import integer, named_numbers, number, numbers
from cellgraph.reading import read_json

#: Share of the answers given that are to be relevant; the others are "I do not know".
PRECISION = 0.8
#: A precision measured on fewer answers than this says nothing.
FEWEST_ANSWERED = 10
FEATURES = ("score of the first answer", "its lead over the second")


@dataclass(frozen=True)
class Confidence:
    """A logistic model of two features, and the probability from which on an answer counts as known.

    Attributes:
        weights: One for each of :data:`FEATURES`.
        bias: Of the logistic model.
        threshold: Least probability of a known answer; ``None`` where no threshold gave the precision.
        precision: The precision that the threshold was chosen for.
        num_questions: Held-out questions it was learned from.
        answered: Share of them at or above the threshold.
        equivalence: Cosine from which on an answer counted as equivalent to the true one.
    """

    weights: tuple[float, float]
    bias: float
    threshold: float | None
    precision: float
    num_questions: int
    answered: float
    equivalence: float

    @classmethod
    def fit(
        cls, features: Tensor, right: Tensor, *, precision: float = PRECISION, equivalence: float = 1.0
    ) -> Confidence:
        """Learn from held-out questions.

        The threshold is the lowest probability at which, among the questions at or above it, the share ``precision``
        was answered rightly.

        Args:
            features: From :func:`score_features`.
            right: Whether the nearest answer was a relevant one.
            precision: Share of the known answers that is to be relevant.
            equivalence: Cosine by which ``right`` was judged, for the record.

        Shapes:
            - **features:** ``[num_questions, 2]``
            - **right:** ``[num_questions]``, true or false

        Raises:
            ValueError: If there are no questions, the shapes differ, or the precision is no share.
        """
        check_precision(precision)
        if not len(features) or features.shape != (len(right), len(FEATURES)):
            raise ValueError(
                f"expected features [num_questions >= 1, {len(FEATURES)}] and as many judgements, "
                f"got {list(features.shape)} and {len(right)}"
            )
        weights, bias = _logistic(features.double().numpy(), right.bool().numpy())
        probability = torch.sigmoid(features.double() @ torch.tensor(weights, dtype=torch.double) + bias)
        threshold = _threshold(probability, right.bool(), precision)
        return cls(
            weights=weights,
            bias=bias,
            threshold=threshold,
            precision=precision,
            num_questions=len(right),
            answered=0.0 if threshold is None else float((probability >= threshold).double().mean()),
            equivalence=equivalence,
        )

    def probability(self, features: Tensor) -> Tensor:
        """Probability that the nearest answer is relevant, ``[num_questions]``, float64."""
        return torch.sigmoid(features.double() @ torch.tensor(self.weights, dtype=torch.double) + self.bias)

    def known(self, probability: Tensor) -> Tensor:
        """Which of the probabilities are high enough for an answer."""
        if self.threshold is None:
            return torch.zeros_like(probability, dtype=torch.bool)
        return probability >= self.threshold

    def save(self, path: Path) -> None:
        """Write a JSON file in one piece."""
        write_json(path, asdict(self) | {"features": FEATURES})

    @classmethod
    def load(cls, path: Path) -> Confidence:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: If the file is damaged.
            OSError: If it cannot be opened.
        """
        try:
            state = read_json(path)
            del state["features"]
            weights, threshold = numbers("weights", state.pop("weights")), state.pop("threshold")
            if len(weights) != len(FEATURES):
                raise ValueError(f"weights must be {len(FEATURES)} numbers, got {len(weights)}")
            return cls(
                weights=(weights[0], weights[1]),
                threshold=None if threshold is None else number("threshold", threshold),
                num_questions=integer("num_questions", state.pop("num_questions")),
                **named_numbers("confidence", state),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is damaged, remove it to have it made again: {error}") from None


def check_precision(precision: float) -> None:
    """Refuse what is no share of answers.

    Raises:
        ValueError: If it does not lie between 0 and 1.
    """
    if not 0 < number("precision", precision) < 1:
        raise ValueError(f"precision must lie between 0 and 1, got {precision}")


def score_features(scores: Tensor) -> Tensor:
    """The features of :class:`Confidence`, from the scores of the best answers, best first: cosines, or blended ones.

    Shapes:
        - **scores:** ``[num_questions, k >= 2]``
        - **output:** ``[num_questions, 2]``
    """
    return torch.stack([scores[:, 0], scores[:, 0] - scores[:, 1]], dim=1)


def reliability(probability: Tensor, right: Tensor, *, bins: int = 10) -> tuple[float, list[dict[str, Any]]]:
    r"""Expected calibration error, and the table behind it.

    (Naeini, Cooper and Hauskrecht 2015, `doi 10.1609/aaai.v29i1.9602 <https://doi.org/10.1609/aaai.v29i1.9602>`_;
    bins of equal width as in Guo et al. 2017, `arXiv 1706.04599 <https://arxiv.org/abs/1706.04599>`_. The error of
    torchmetrics comes without the table, and from a bin more: it has one for probabilities of exactly 1.)

    .. math::
        \mathrm{ECE} = \sum_b \frac{n_b}{n} \left| \overline{p}_b - \overline{r}_b \right|

    Args:
        probability: What was said of each question.
        right: Whether it came true.
        bins: Number of bins.

    Returns:
        The error, and for each bin that is not empty ``low``, ``high``, ``count``, mean ``confidence`` and ``right``.

    Example:
        >>> reliability(torch.tensor([0.75, 0.75, 0.25]), torch.tensor([True, False, False]))[0]
        0.25
    """
    probability, right = probability.double(), right.double()
    number = (probability * bins).floor().clamp(max=bins - 1).long()
    table = []
    for bin_number in number.unique().tolist():
        inside = number == bin_number
        said, came = float(probability[inside].mean()), float(right[inside].mean())
        edges = {"low": bin_number / bins, "high": (bin_number + 1) / bins}
        table.append(edges | {"count": int(inside.sum()), "confidence": said, "right": came})
    error = sum(row["count"] * abs(row["confidence"] - row["right"]) for row in table) / len(probability)
    return error, table


def _logistic(features: np.ndarray, right: np.ndarray) -> tuple[tuple[float, float], float]:
    """Weights and bias on the features as they are, from a fit on standardised ones."""
    if len(set(right.tolist())) == 1:
        # Nothing to separate: the rule of succession.
        share = (int(right.sum()) + 1) / (len(right) + 2)
        return (0.0, 0.0), math.log(share / (1 - share))
    from sklearn.linear_model import LogisticRegression

    mean, scale = features.mean(0), features.std(0)
    scale[scale == 0] = 1.0
    model = LogisticRegression().fit((features - mean) / scale, right)
    weights = model.coef_[0] / scale
    return (float(weights[0]), float(weights[1])), float(model.intercept_[0] - weights @ mean)


def _threshold(probability: Tensor, right: Tensor, precision: float) -> float | None:
    order = probability.argsort(descending=True)
    probability, right = probability[order], right[order].double()
    count = torch.arange(1, len(right) + 1)
    good = (right.cumsum(0) / count >= precision) & (count >= FEWEST_ANSWERED)
    # Equal probabilities are accepted together.
    good[:-1] &= probability[:-1] > probability[1:]
    accepted: Sequence[int] = good.nonzero().flatten().tolist()
    return float(probability[accepted[-1]]) if accepted else None
