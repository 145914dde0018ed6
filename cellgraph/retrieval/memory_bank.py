"""The memory bank: the training answers as negatives, and the temperature of their comparison."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.nn.blocks import mapped, mean_row
from cellgraph.numbers import plain_numbers
from cellgraph.precision import at_least_float32
from cellgraph.retrieval.contrast import MAX_SCALE

#: Most answers of a bank by default: with 384 features, keys of so many take 5 GFLOP an update.
BANK_ANSWERS = 16_384

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
        most: Most answers that it holds; of more, so many are drawn, once, and a prediction is compared with these and
            the answers of its batch.

    Attributes:
        answers: The distinct answers that it holds, ``[num_answers, in_features]``.
        numbers: Their numbers among all distinct ones, ``[num_answers]``, where they are not all.

    Raises:
        ValueError: If the temperature is too low, or ``most`` is not positive.
    """

    centre: Tensor | None
    answers: Tensor | None
    numbers: Tensor | None

    @plain_numbers
    def __init__(
        self,
        *,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        centred: bool = False,
        most: int = BANK_ANSWERS,
    ) -> None:
        super().__init__()
        if most < 1:
            raise ValueError(f"a bank must be able to hold an answer, got most={most}")
        self.centred, self.most = centred, most
        if learn_temperature:
            self.log_scale = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("log_scale", torch.zeros(()))
        self.start_at(temperature)
        # Both follow from the training answers, which every run has: not in the checkpoint.
        self.register_buffer("centre", None, persistent=False)
        self.register_buffer("answers", None, persistent=False)
        self.register_buffer("numbers", None, persistent=False)

    @torch.no_grad()
    def fit(self, answer: Any, group: Tensor) -> None:
        """Take the mean of the training answers, and the answers themselves, which are to be negatives.

        Args:
            answer: All training answers, ``[num_answers, in_features]``, in memory or on the disk.
            group: Number of each answer among the distinct ones, ``[num_answers]``.
        """
        self.centre_on(answer)
        self.numbers = None
        answer = mapped(answer, at_least_float32)
        # Where each distinct answer stands, the last time.
        place = group.new_zeros(int(group.max()) + 1)
        place[group] = torch.arange(len(group), device=group.device)
        if len(place) > self.most:
            drawn = torch.randperm(len(place), generator=torch.Generator().manual_seed(0))[: self.most]
            self.numbers = drawn.sort().values.to(group.device)
            place = place[self.numbers]
        self.answers = answer[place]

    @torch.no_grad()
    def centre_on(self, answer: Any) -> None:
        """Take the mean of the training answers; what the bank holds for another term stays."""
        self.centre = mean_row(mapped(answer, at_least_float32))

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
