"""The schedule: learning rates over the updates and over the groups of parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

# Decay pulls towards zero. Biases, norms and positions gain nothing from that, a temperature has its own range, and
# the transport starts as the map that carries the signal: zero would cut the lattice in two.
_UNDECAYED = re.compile(r"bias|norm|position|transport|log_scale")

# Stacks of matrices, one for each group of cells. Other weights of three axes are none: those of neighbours, filters.
_STACKED = re.compile(r"in_weight|out_weight")

DECAYS = ("cosine", "linear", "none")


def warmup_decay(step: int, *, warmup_steps: int, max_steps: int, floor: float = 0.0, decay: str = "cosine") -> float:
    r"""Factor of the learning rate at an update: a linear rise, then half a cosine (`Loshchilov and Hutter 2017
    <https://arxiv.org/abs/1608.03983>`_, without restarts), a line, or no change.

    .. math::
        f(t) = \begin{cases} (t + 1) / w & t < w \\
        f_\mathrm{min} + (1 - f_\mathrm{min}) \, d(\frac{t - w}{T - w}) & t \ge w \end{cases}
        \qquad d_\mathrm{cosine}(s) = \frac{1 + \cos \pi s}{2}, \quad d_\mathrm{linear}(s) = 1 - s

    Args:
        step: Number of the update, from 0.
        warmup_steps: Updates of the rise.
        max_steps: Updates of the whole schedule; the factor stays at ``floor`` after it.
        floor: Factor at the end.
        decay: ``"cosine"``, ``"linear"`` or ``"none"``.

    Example:
        >>> [round(warmup_decay(t, warmup_steps=2, max_steps=6), 3) for t in range(7)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if decay == "none":
        return 1.0
    done = min((step - warmup_steps) / max(max_steps - warmup_steps, 1), 1.0)
    left = 1 - done if decay == "linear" else (1 + math.cos(math.pi * done)) / 2
    return floor + (1 - floor) * left


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    multipliers: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Groups for an optimiser: by learning rate, and with or without weight decay.

    Parameters with one axis and those named after a bias, a norm, a position, a transport or a temperature do not
    decay. Of the others, those with two axes and a cell's stacks of matrices count as matrices: ``matrices`` of a group
    says so of each of its parameters.

    Args:
        parameters: Names and parameters; frozen ones are left out.
        lr: Learning rate.
        weight_decay: Weight decay.
        multipliers: Factors of the learning rate by the beginning of a name; the longest that fits counts. One of a
            frozen parameter has no effect.

    Raises:
        ValueError: If a multiplier is negative or fits no parameter.
    """
    multipliers, parameters = dict(multipliers or {}), list(parameters)
    check_multipliers(multipliers, [name for name, _ in parameters])
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        fitting = [prefix for prefix in multipliers if name.startswith(prefix)]
        multiplier = multipliers[max(fitting, key=len)] if fitting else 1.0
        decays = parameter.ndim > 1 and not _UNDECAYED.search(name.rpartition(".")[2])
        group = groups.setdefault(
            (multiplier, decays),
            {"params": [], "matrices": [], "lr": lr * multiplier, "weight_decay": weight_decay if decays else 0.0},
        )
        group["params"].append(parameter)
        stacked = parameter.ndim == 3 and _STACKED.fullmatch(name.rpartition(".")[2])
        group["matrices"].append(decays and (parameter.ndim == 2 or bool(stacked)))
    return list(groups.values())


def check_multipliers(multipliers: Mapping[str, float], names: Sequence[str]) -> None:
    """Refuse factors of the learning rate that are negative or of no parameter.

    Args:
        multipliers: Factors by the beginning of a name.
        names: Names of all the parameters.

    Raises:
        ValueError: If there is such a factor.
    """
    for prefix, factor in multipliers.items():
        if factor < 0:
            raise ValueError(f"lr_multipliers must not be negative, got {factor} for {prefix!r}")
        if not any(name.startswith(prefix) for name in names):
            head = prefix.partition(".")[0]
            near = [name for name in names if name.partition(".")[0] == head]
            there = near or dict.fromkeys(name.partition(".")[0] for name in names)
            raise ValueError(
                f"lr_multipliers must be by the beginning of a parameter's name, got {prefix!r}; "
                f"there are {', '.join(there)}"
            )
