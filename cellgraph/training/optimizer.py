"""The optimisers: AdamW, also with states of eight bits or without a schedule, and Muon for matrices beside it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from cellgraph.training.stacked_muon import StackedMuon

#: Of a matrix, whose update by Muon is as large as one by AdamW (Liu et al. 2025, arXiv 2502.16982, section 2.2).
ADJUSTMENT = "match_rms_adamw"

#: What an optimiser needs that PyTorch has not.
PACKAGES = {"adamw_8bit": "bitsandbytes", "schedule_free": "schedulefree"}


def check_optimizer(name: str) -> None:
    """Refuse an optimiser whose package is not installed.

    Raises:
        ValueError: If it is not.
    """
    package = PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        raise _missing(name)


def _missing(name: str) -> ValueError:
    return ValueError(f"optimizer={name!r} needs {PACKAGES[name]}: pip install 'cellgraph[lean]'")


def make_optimizer(
    name: str, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], fused: bool
) -> Optimizer:
    """An optimiser by its name.

    Args:
        name: One of :data:`OPTIMIZERS`.
        groups: Groups of parameters, see :func:`~cellgraph.training.schedule.parameter_groups`; without ``matrices``
            all parameters with two axes count as matrices.
        lr: Learning rate.
        betas: AdamW's averaging factors.
        fused: Whether AdamW may take all its steps in one kernel.

    Raises:
        ValueError: If there is no such optimiser, or its package is not installed.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {tuple(OPTIMIZERS)}, got {name!r}")
    if name != "muon":
        groups = [_without_mark(group) for group in groups]
    return OPTIMIZERS[name](groups, lr, betas, fused)


def _adamw(groups: Any, lr: float, betas: tuple[float, float], fused: bool) -> Optimizer:
    return AdamW(groups, lr=lr, betas=betas, fused=fused)


def _adamw_8bit(groups: Any, lr: float, betas: tuple[float, float], fused: bool) -> Optimizer:
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise _missing("adamw_8bit") from None
    return AdamW8bit(groups, lr=lr, betas=betas)


def _schedule_free(groups: Any, lr: float, betas: tuple[float, float], fused: bool) -> Optimizer:
    try:
        from schedulefree import AdamWScheduleFree
    except ImportError:
        raise _missing("schedule_free") from None
    optimizer = AdamWScheduleFree(groups, lr=lr, betas=betas)
    # It stays in this mode: to go into the other and back rounds the weights.
    optimizer.train()
    return optimizer


def schedule_free_average(optimizer: Optimizer) -> dict[nn.Parameter, Tensor]:
    r"""What a schedule-free optimiser is to be judged by, computed beside the weights :math:`y` that it trains.

    `Defazio et al. 2024 <https://arxiv.org/abs/2405.15682>`_ take gradients at :math:`y` between a sequence
    :math:`z` of steps and its average :math:`x`, which is what they validate:

    .. math:: y = (1 - \beta_1) z + \beta_1 x \quad \Rightarrow \quad x = y + (1 - 1 / \beta_1)(z - y)

    Args:
        optimizer: One of the package schedulefree, in the mode of training.

    Returns:
        The average of each parameter; one that has had no gradient yet is its own.
    """
    averages = {}
    for group in optimizer.param_groups:
        beyond = 1 - 1 / group["betas"][0]
        for parameter in group["params"]:
            z = optimizer.state.get(parameter, {}).get("z")
            y = parameter.detach()
            averages[parameter] = y.clone() if z is None else torch.lerp(y, z, beyond)
    return averages


def _muon(groups: Any, lr: float, betas: tuple[float, float], fused: bool) -> Optimizer:
    matrices: list[dict[str, Any]] = []
    stacks: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for group in groups:
        parameters = list(group["params"])
        marks = group.get("matrices", [p.ndim == 2 for p in parameters])
        for kind, axes in ((matrices, 2), (stacks, 3), (others, 0)):
            chosen = [p for p, matrix in zip(parameters, marks, strict=True) if (p.ndim if matrix else 0) == axes]
            if chosen:
                kind.append({**_without_mark(group), "params": chosen})
    parts: list[Optimizer] = []
    if matrices:
        parts.append(Muon(matrices, lr=lr, adjust_lr_fn=ADJUSTMENT))
    if stacks:
        parts.append(StackedMuon(stacks, lr=lr))
    if others:
        parts.append(AdamW(others, lr=lr, betas=betas, fused=fused))
    return parts[0] if len(parts) == 1 else Joined(parts)


def _without_mark(group: dict[str, Any]) -> dict[str, Any]:
    """A group as the optimisers of PyTorch and others know it, and as their states have had it."""
    return {key: value for key, value in group.items() if key != "matrices"}


class Joined(Optimizer):
    """Several optimisers of different parameters as one.

    Args:
        parts: The optimisers.

    Example:
        >>> first, second = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
        >>> joined = Joined([torch.optim.SGD([first], lr=0.5), torch.optim.SGD([second], lr=0.1)])
        >>> first.grad = second.grad = torch.ones(1)
        >>> joined.step()
        >>> first.item(), round(second.item(), 3)
        (0.5, 0.9)
    """

    def __init__(self, parts: Iterable[Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._gather()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all of them, after the closure, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        self._gather()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of each."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back.

        Raises:
            ValueError: If it is of another optimiser.
        """
        states = state_dict.get("parts")
        if not isinstance(states, list) or len(states) != len(self.parts):
            raise ValueError(f"expected the state of {len(self.parts)} joined optimisers, got that of another one")
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
        self._gather()

    def _gather(self) -> None:
        """Groups and states of all are those of each: a schedule sets rates here."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self.state.clear()
        for part in self.parts:
            self.state.update(part.state)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": _adamw,
    "adamw_8bit": _adamw_8bit,
    "muon": _muon,
    "schedule_free": _schedule_free,
}
