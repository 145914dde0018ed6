"""The batch: samples of an automaton's task."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Samples of a task.

    Attributes:
        x: States at the start, ``[size, num_nodes, channels]``.
        target: What the loss compares with, ``[size, ...]``, in any form the task likes.
        context: What every cell is told at every step, ``[size, 1 or num_nodes, context_channels]``: a task or goal
            vector (1), an input that is clamped or a substrate of the cells (``num_nodes``).
        kind: Number of each sample's kind, ``[size]``, where the task has several.
    """

    x: Tensor
    target: Tensor | None = None
    context: Tensor | None = None
    kind: Tensor | None = None

    def __len__(self) -> int:
        return self.x.size(0)

    def tensors(self) -> dict[str, Tensor]:
        """What there is, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in named.items() if isinstance(tensor, Tensor)}

    def to(self, device: torch.device | str) -> Batch:
        """The samples on a device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def select(self, index: Tensor) -> Batch:
        """Some of the samples."""
        return replace(self, **{name: tensor[index.to(tensor.device)] for name, tensor in self.tensors().items()})
