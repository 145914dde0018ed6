"""Functional transforms: whether one is under way, which operators of our own know nothing of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def is_transformed(*tensors: Tensor) -> bool:
    """Whether a transform of :mod:`torch.func` or forward-mode differentiation is under way.

    Through an operator of one's own torch lets tangents get lost without a word.

    Args:
        tensors: Gradients that may come in batches (``is_grads_batched`` of :func:`torch.autograd.grad`), which shows
            in nothing else.
    """
    if torch.compiler.is_compiling():
        return False
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return True
    return any(map(torch._C._functorch.is_legacy_batchedtensor, tensors))


def refuse_transforms(operator: str) -> None:
    """Raise where an operator would drop tangents.

    Raises:
        NotImplementedError: Under a transform.
    """
    if is_transformed():
        raise NotImplementedError(
            f"{operator} takes part in no functional transform and no forward-mode differentiation: "
            "sum by backend 'scatter', 'stencil' or 'conv' there"
        )
