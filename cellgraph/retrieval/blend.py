"""The blend: what a network finds and what shared words find, as one score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cellgraph.numbers import settle_numbers
from cellgraph.retrieval.metrics import TIE, first_right

#: Weights of the words that are tried.
WEIGHTS = tuple(step / 20 for step in range(21))


@dataclass(frozen=True)
class Blend:
    r"""The weighted sum of two scores of every answer, each standardised for each question.

    .. math::
        s_{ij} = (1 - w) \frac{c_{ij} - \bar c_i}{\sigma(c_i)} + w \frac{b_{ij} - \bar b_i}{\sigma(b_i)}

    where a score that is the same for all answers counts for nothing.

    Attributes:
        weight: w, that of the words; 0 is the network alone and 1 the words alone.

    Raises:
        ValueError: If it is not between 0 and 1.

    Shapes:
        - **cosines**, **words**, **output:** ``[num_questions, num_answers]``

    Example:
        >>> cosines, words = torch.tensor([[0.9, 0.8, 0.1]]), torch.tensor([[0.0, 6.0, 0.0]])
        >>> Blend(0.0)(cosines, words).argmax(), Blend(0.5)(cosines, words).argmax()
        (tensor(0), tensor(1))
    """

    weight: float

    def __post_init__(self) -> None:
        settle_numbers(self, kind="the blend's")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"the weight of a blend must be between 0 and 1, got {self.weight}")

    def __call__(self, cosines: Tensor, words: Tensor) -> Tensor:
        """The sum."""
        return (1 - self.weight) * _standardised(cosines) + self.weight * _standardised(words)

    @classmethod
    def fit(cls, cosines: Tensor, words: Tensor, target: Tensor, *, weights: Sequence[float] = WEIGHTS) -> Blend:
        """The one of the best mean reciprocal rank on held-out questions; of equal ones that with the fewest words.

        Args:
            cosines: What the network says.
            words: What the words say.
            target: Which answer is right, ``[num_questions]``.
            weights: What is tried, in rising order.
        """
        right = torch.zeros_like(cosines, dtype=torch.bool).scatter(1, target[:, None], True)
        network, lexical = _standardised(cosines), _standardised(words)

        def figure(weight: float) -> float:
            ranks = first_right((1 - weight) * network + weight * lexical, right)
            return float((1 / ranks).mean())

        return cls(max(weights, key=figure))


def _standardised(scores: Tensor) -> Tensor:
    spread = scores.std(1, keepdim=True, correction=0)
    return torch.where(spread > TIE, (scores - scores.mean(1, keepdim=True)) / spread, 0.0)
