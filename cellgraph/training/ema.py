"""EMA: an exponential moving average of the weights, which is what is validated and kept."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor

from cellgraph.numbers import plain_numbers
from cellgraph.training.averages import Averages


class EMA(Averages):
    r"""Averages the model's trained weights over the updates.

    .. math:: \bar w \leftarrow \bar w + (1 - d_t)(w - \bar w), \qquad d_t = \min(d, (1 + t) / (10 + t))

    The decay :math:`d_t` grows with the number of updates :math:`t`, so that a short run does not end at the average of
    its beginning (`TensorFlow's ExponentialMovingAverage
    <https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage>`_ with ``num_updates``).

    Lightning's :class:`~lightning.pytorch.callbacks.WeightAveraging` is another average: it starts from the weights
    after the first update, copies the whole module, buffers included, and calls ``configure_model`` before its time.

    Args:
        decay: The decay :math:`d`.

    Raises:
        ValueError: If the decay is not between 0 and 1.
    """

    @plain_numbers
    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        if not 0 < decay < 1:
            raise ValueError(f"decay must lie between 0 and 1, got {decay}")
        self.decay = decay
        self.updates = 0
        self.average: dict[str, Tensor] = {}

    def averages(self) -> dict[str, Tensor]:
        """The averages now, by the names of the weights."""
        return self.average

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start from the weights, or go on with the averages of the checkpoint."""
        super().on_train_start(trainer, pl_module)
        if self.average and self.average.keys() != self.weights.keys():
            raise ValueError("the averages in the checkpoint are of another model's weights")
        self.average = {
            name: self.average.get(name, weight).to(weight.device, copy=True) for name, weight in self.weights.items()
        }

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any) -> None:
        """Average, once an update however many batches it accumulates."""
        if trainer.global_step > self.updates:
            self.updates = trainer.global_step
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            torch._foreach_lerp_([*self.average.values()], [*self.weights.values()], 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """The averages by name, and of how many updates."""
        return {"updates": self.updates, **super().state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.updates, self.average = state_dict["updates"], state_dict["average"]
