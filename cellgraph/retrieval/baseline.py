"""The baseline: what all closed forms from question to answer have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Baseline(ABC):
    """A map from question embeddings to answer embeddings with a closed form.

    Shapes:
        - **question:** ``[num_pairs, question_width]``
        - **answer:** ``[num_pairs, answer_width]``
    """

    #: Fewest training pairs that determine the map.
    min_pairs = 1
    #: Whether questions and answers must share one width.
    square = False
    #: Settings of which the best on the training pairs is taken.
    trials = 0

    def __init__(self) -> None:
        self.question_width, self.answer_width = 0, 0

    @property
    def num_parameters(self) -> int:
        """How many fitted numbers the map stores."""
        self._check_fitted()
        return self._num_parameters()

    def fit(self, question: Tensor, answer: Tensor) -> Baseline:
        """Fit to training pairs.

        Raises:
            ValueError: If the embeddings do not pair up, have the wrong width or are not finite, or are too few.
        """
        name = type(self).__name__
        if question.dim() != 2 or answer.dim() != 2 or len(question) != len(answer):
            raise ValueError(
                f"{name} needs question and answer [num_pairs, width], got {list(question.shape)} "
                f"and {list(answer.shape)}"
            )
        if len(question) < self.min_pairs:
            raise ValueError(f"{name} needs at least {self.min_pairs} training pair(s), got {len(question)}")
        if self.square and question.size(1) != answer.size(1):
            raise ValueError(
                f"{name} needs questions and answers of one width, got {question.size(1)} and {answer.size(1)}"
            )
        if not (question.isfinite().all() and answer.isfinite().all()):
            raise ValueError(f"{name} needs finite embeddings, got NaN or infinity")
        self.question_width, self.answer_width = question.size(1), answer.size(1)
        self._fit(question.detach().double(), answer.detach().double())
        return self

    def predict(self, question: Tensor) -> Tensor:
        """Answer embeddings for question embeddings, ``[num_pairs, answer_width]`` in their dtype.

        Raises:
            ValueError: If nothing was fitted, or the width is another than in :meth:`fit`.
        """
        self._check_fitted()
        if question.dim() != 2 or question.size(1) != self.question_width:
            raise ValueError(
                f"{type(self).__name__} needs question [num_pairs, {self.question_width}], got {list(question.shape)}"
            )
        return self._predict(question.detach().double()).to(question.dtype)

    def _check_fitted(self) -> None:
        if not self.question_width:
            raise ValueError(f"{type(self).__name__} must be fitted first")

    @abstractmethod
    def _fit(self, question: Tensor, answer: Tensor) -> None: ...

    @abstractmethod
    def _predict(self, question: Tensor) -> Tensor: ...

    @abstractmethod
    def _num_parameters(self) -> int: ...
