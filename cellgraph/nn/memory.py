"""The memory: the last channels of a state, which outlive a rollout."""

from __future__ import annotations

import torch
from torch import Tensor


def memory_of(x: Tensor, memory_channels: int) -> Tensor | None:
    """The memory in a state, its last channels; ``None`` without any.

    Shapes:
        - **x:** ``[..., channels]``
        - **output:** ``[..., memory_channels]``
    """
    return x[..., x.size(-1) - memory_channels :] if memory_channels else None


def with_memory(x: Tensor, memory: Tensor | None) -> Tensor:
    """A state with another memory in its last channels, in the dtype of the state; itself where there is none.

    Shapes:
        - **x**, **output:** ``[..., channels]``
        - **memory:** ``[..., memory_channels]``
    """
    if memory is None:
        return x
    return torch.cat([x[..., : x.size(-1) - memory.size(-1)], memory.to(x)], dim=-1)
