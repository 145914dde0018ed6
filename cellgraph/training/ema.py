"""EMA: an exponential moving average of the weights, which is what is validated and kept."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor

from cellgraph.numbers import plain_numbers


class EMA(lightning.Callback):
    r"""Averages the model's trained weights over the updates.

    .. math:: \bar w \leftarrow \bar w + (1 - d_t)(w - \bar w), \qquad d_t = \min(d, (1 + t) / (10 + t))

    The decay :math:`d_t` grows with the number of updates :math:`t`, so that a short run does not end at the average of
    its beginning (`TensorFlow's ExponentialMovingAverage
    <https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage>`_ with ``num_updates``). During
    validation the averages stand in the model; the checkpoint holds both.

    Lightning's :class:`~lightning.pytorch.callbacks.WeightAveraging` is another average: it starts from the weights
    after the first update, copies the whole module, buffers included, and calls ``configure_model`` before its time.

    Args:
        decay: The decay :math:`d`.

    Raises:
        ValueError: If the decay is not between 0 and 1.
    """

    @plain_numbers
    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must lie between 0 and 1, got {decay}")
        self.decay = decay
        self.updates = 0
        self.average: dict[str, Tensor] = {}
        self._weights: list[Tensor] = []
        self._own: list[Tensor] | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start from the weights, or go on with the averages of the checkpoint."""
        named = {name: p.detach() for name, p in pl_module.model.named_parameters() if p.requires_grad}
        if self.average and self.average.keys() != named.keys():
            raise ValueError("the averages in the checkpoint are of another model's weights")
        self.average = {
            name: self.average.get(name, weight).to(weight.device, copy=True) for name, weight in named.items()
        }
        self._weights = list(named.values())

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any) -> None:
        """Average, once an update however many batches it accumulates."""
        if trainer.global_step > self.updates:
            self.updates = trainer.global_step
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            torch._foreach_lerp_(list(self.average.values()), self._weights, 1 - decay)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Put the averages in place of the weights."""
        if self._weights:
            self._own = [weight.clone() for weight in self._weights]
            torch._foreach_copy_(self._weights, list(self.average.values()))

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Put the weights back."""
        if self._own is not None:
            torch._foreach_copy_(self._weights, self._own)
            self._own = None

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Leave the weights in the model."""
        self.on_validation_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The averages by name."""
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.updates, self.average = state_dict["updates"], state_dict["average"]
