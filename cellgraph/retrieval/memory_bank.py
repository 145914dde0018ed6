"""The memory bank: the training answers as negatives, and the temperature of their comparison."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.numbers import plain_numbers
from cellgraph.precision import at_least_float32
from cellgraph.retrieval.contrast import MAX_SCALE

if TYPE_CHECKING:
    from cellgraph.retrieval.objectives import Predicted


class MemoryBank(nn.Module):
    """Compares predictions with answers, a model's queries with its keys: cosines times a learned scale, at most 100
    (`Radford et al. 2021 <https://arxiv.org/abs/2103.00020>`_), with the answers of a batch or with all that were given
    to :meth:`fit`.

    Args:
        temperature: The temperature at the start, one over the scale.
        learn_temperature: Whether it is learned.
        centred: Whether cosines are taken after subtracting the key of the mean of the answers given to :meth:`fit`.

    Raises:
        ValueError: If the temperature is too low.
    """

    centre: Tensor | None
    answers: Tensor | None

    @plain_numbers
    def __init__(self, *, temperature: float = 0.07, learn_temperature: bool = True, centred: bool = False) -> None:
        super().__init__()
        self.centred = centred
        if learn_temperature:
            self.log_scale = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("log_scale", torch.zeros(()))
        self.start_at(temperature)
        # Both follow from the training answers, which every run has: not in the checkpoint.
        self.register_buffer("centre", None, persistent=False)
        self.register_buffer("answers", None, persistent=False)

    @torch.no_grad()
    def fit(self, answer: Tensor, group: Tensor | None = None) -> None:
        """Take the mean of the training answers, and the answers themselves where they are to be negatives.

        Args:
            answer: All training answers, ``[num_answers, in_features]``.
            group: Number of each answer among the distinct ones, ``[num_answers]``; without it only the mean is taken.
        """
        answer = at_least_float32(answer)
        self.centre = answer.mean(0)
        if group is None:
            return
        distinct = answer.new_zeros(int(group.max()) + 1, answer.size(1))
        distinct[group] = answer
        self.answers = distinct

    @torch.no_grad()
    def start_at(self, temperature: float) -> None:
        """Set the temperature.

        Raises:
            ValueError: If it is too low.
        """
        if not temperature >= 1 / MAX_SCALE:
            raise ValueError(f"temperature must be at least {1 / MAX_SCALE}, got {temperature}")
        self.log_scale.fill_(-math.log(temperature))

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring the temperature back into its range."""
        self.log_scale.clamp_(max=math.log(MAX_SCALE))

    def temperature(self) -> Tensor:
        """The temperature now."""
        return torch.exp(-self.log_scale.detach())

    def logits(self, predicted: Predicted, answer: Tensor | None = None) -> Tensor:
        """Scaled similarities of predictions with answers, ``[rows, columns]``; with the whole bank by default.

        Raises:
            ValueError: If the bank is empty.
        """
        answer = self.answers if answer is None else answer
        if answer is None:
            raise ValueError("a bank of negatives needs the training answers: call fit first")
        query, key = at_least_float32(predicted.query), predicted.key(at_least_float32(answer))
        if self.centred:
            if self.centre is None:
                raise ValueError("centred=True needs the mean of the training answers: call fit first")
            centre = predicted.key(self.centre)
            query, key = query - centre, key - centre
        scale = self.log_scale.to(query.dtype).clamp(max=math.log(MAX_SCALE)).exp()
        return scale * F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).T.to(query.dtype)

    def extra_repr(self) -> str:
        return f"temperature={float(self.temperature()):.3g}, centred={self.centred}"
