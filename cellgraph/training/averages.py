"""Averages: weights that are validated and kept in place of those that are trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import lightning
import torch
from torch import Tensor

from cellgraph.training.optimizer import schedule_free_average


class Averages(lightning.Callback, ABC):
    """Puts averages in the place of a model's trained weights while it is validated; the checkpoint holds both.

    The weights are put back as they were, to the bit, so that how often they are validated changes nothing else.
    """

    def __init__(self) -> None:
        #: What is trained, by name.
        self.weights: dict[str, Tensor] = {}
        self._own: list[Tensor] | None = None

    @abstractmethod
    def averages(self) -> dict[str, Tensor]:
        """The averages now, by the names of the weights."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Note what is trained."""
        self.weights = {name: p.detach() for name, p in pl_module.model.named_parameters() if p.requires_grad}

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Put the averages in place of the weights."""
        if self.weights:
            averages = self.averages()
            self._own = [weight.clone() for weight in self.weights.values()]
            torch._foreach_copy_([*self.weights.values()], [averages[name] for name in self.weights])

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Put the weights back."""
        if self._own is not None:
            torch._foreach_copy_([*self.weights.values()], self._own)
            self._own = None

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Leave the weights in the model."""
        self.on_validation_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The averages by name."""
        return {"average": self.averages()}


class ScheduleFree(Averages):
    r"""The average of a schedule-free optimiser, see :func:`~cellgraph.training.optimizer.schedule_free_average`.

    It follows from what the optimiser keeps: nothing of it is taken from a checkpoint.
    """

    def __init__(self) -> None:
        super().__init__()
        self._optimizer: torch.optim.Optimizer | None = None
        self._parameters: dict[str, torch.nn.Parameter] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Note what is trained, and by which optimiser."""
        super().on_train_start(trainer, pl_module)
        self._optimizer = trainer.optimizers[0]
        self._parameters = {name: p for name, p in pl_module.model.named_parameters() if p.requires_grad}

    def averages(self) -> dict[str, Tensor]:
        """The averages now, by the names of the weights."""
        if self._optimizer is None:
            return {}
        found = schedule_free_average(self._optimizer)
        return {name: found[parameter] for name, parameter in self._parameters.items()}
