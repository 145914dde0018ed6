"""Muon for stacks of matrices: those that a cell has of each group, in one tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from cellgraph.numbers import plain_numbers

#: Of the quintic iteration, steep at zero (Jordan et al. 2024), as PyTorch's Muon has them.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalised(x: Tensor) -> Tensor:
    r"""Each matrix with its singular values brought near one, in bfloat16 (`Jordan et al. 2024
    <https://kellerjordan.github.io/posts/muon/>`_).

    .. math:: X \leftarrow a X + (b A + c A^2) X, \qquad A = X X^\top

    Shapes:
        - **x**, **output:** ``[stack, m, n]``
    """
    a, b, c = COEFFICIENTS
    wide = x.size(-2) <= x.size(-1)
    y = (x if wide else x.mT).bfloat16()
    y = y / y.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = y @ y.mT
        # Rounded where PyTorch's rounds: five iterations make much of a bit of bfloat16.
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y if wide else y.mT


class StackedMuon(Optimizer):
    r"""What :class:`torch.optim.Muon` does for a matrix, with ``match_rms_adamw``, for each matrix of a stack.

    Args:
        params: Parameters ``[stack, m, n]``, or groups of them.
        lr: Learning rate.
        weight_decay: Weight decay.
        momentum: Averaging factor of the gradients, looked ahead by Nesterov's rule.

    Raises:
        ValueError: If a parameter is no stack of matrices.

    Example:
        >>> stack = torch.nn.Parameter(torch.zeros(2, 3, 4))
        >>> stack.grad = torch.randn(2, 3, 4)
        >>> StackedMuon([stack], lr=0.1).step()
        >>> bool((stack.flatten(1).norm(dim=1) < 0.1).all())  # 0.1 * 0.2 * sqrt(4) * about sqrt(3)
        True
    """

    @plain_numbers
    def __init__(self, params: Any, *, lr: float, weight_decay: float = 0.1, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 3:
                    raise ValueError(f"a stack of matrices must be [stack, m, n], got {list(p.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step, after the closure, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                mean = state["momentum_buffer"].lerp_(p.grad, 1 - momentum)
                update = orthogonalised(p.grad.lerp(mean, momentum))
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(update, alpha=-lr * 0.2 * max(p.shape[1:]) ** 0.5)
        return loss
