"""Trajectories: growth, saturation, dead cells, fixed points and oscillation."""

from __future__ import annotations

import torch
from torch import Tensor


def growth_rate(trajectory: Tensor) -> Tensor:
    r"""Factor by which the state's root mean square grew at each step.

    .. math:: g_t = \lVert x_{t+1} \rVert / \lVert x_t \rVert

    Args:
        trajectory: States before the first step and after each.

    Shapes:
        - **trajectory:** ``[num_steps + 1, batch, num_nodes, channels]``
        - **output:** ``[num_steps, batch]``; infinite out of nothing, NaN from nothing to nothing

    Example:
        >>> growth_rate(torch.tensor([1.0, 2.0, 6.0]).reshape(3, 1, 1, 1)).flatten()
        tensor([2., 3.])
    """
    size = _checked(trajectory).double().flatten(2).norm(dim=2)
    return (size[1:] / size[:-1]).to(trajectory.dtype)


def saturated_share(trajectory: Tensor, *, bound: float = 1.0) -> Tensor:
    """Share of the values that lie at or beyond the bound, not finite ones included.

    Shapes:
        - **trajectory:** ``[num_steps + 1, batch, num_nodes, channels]``
        - **output:** ``[num_steps + 1, batch]``

    Example:
        >>> saturated_share(torch.tensor([0.5, -1.0]).reshape(2, 1, 1, 1)).flatten()
        tensor([0., 1.])
    """
    inside = _checked(trajectory).abs() < bound
    return 1.0 - inside.flatten(2).float().mean(2)


def dead_cells(trajectory: Tensor, *, tolerance: float = 0.0) -> Tensor:
    """Cells whose state never moved from where it started.

    Args:
        trajectory: States before the first step and after each.
        tolerance: The most that a value may move and still count as standing.

    Shapes:
        - **trajectory:** ``[num_steps + 1, batch, num_nodes, channels]``
        - **output:** ``[batch, num_nodes]``, boolean

    Example:
        >>> dead_cells(torch.tensor([[0.0, 1.0], [0.0, 2.0]]).reshape(2, 1, 2, 1))
        tensor([[ True, False]])
    """
    return ((_checked(trajectory) - trajectory[0]).abs() <= tolerance).all(-1).all(0)


def settling_step(trajectory: Tensor, *, tolerance: float = 1e-4) -> Tensor:
    """The step after which no value moves any more: a fixed point.

    Args:
        trajectory: States before the first step and after each.
        tolerance: The most that a value may move at a step and still count as standing.

    Shapes:
        - **trajectory:** ``[num_steps + 1, batch, num_nodes, channels]``
        - **output:** ``[batch]``, integer; -1 where the last step still moved

    Example:
        >>> settling_step(torch.tensor([0.0, 1.0, 2.0, 2.0, 2.0]).reshape(5, 1, 1, 1))
        tensor([2])
    """
    # A comparison that a NaN fails: a state that is not finite has not settled.
    moves = ~(_checked(trajectory).diff(dim=0).abs() <= tolerance).flatten(2).all(2)
    after = torch.arange(1, len(moves) + 1, device=moves.device)[:, None]
    last = (moves * after).amax(0)
    return torch.where(moves[-1], -1, last)


def period(trajectory: Tensor, *, tolerance: float = 1e-4) -> Tensor:
    """Length of the cycle in which a trajectory ends: 1 at a fixed point, more for an oscillation.

    A cycle counts once the trajectory has gone round it twice, so the longest that can be found has half as many steps
    as the trajectory has states.

    Args:
        trajectory: States before the first step and after each.
        tolerance: The most that values may differ from those one cycle earlier.

    Shapes:
        - **trajectory:** ``[num_steps + 1, batch, num_nodes, channels]``
        - **output:** ``[batch]``, integer; 0 where the trajectory does not end in a cycle

    Example:
        >>> period(torch.tensor([5.0, 0.0, 1.0, 0.0, 1.0]).reshape(5, 1, 1, 1))
        tensor([2])
    """
    longest = len(_checked(trajectory)) // 2
    found = torch.zeros(trajectory.size(1), dtype=torch.long, device=trajectory.device)
    for length in range(longest, 0, -1):
        end, before = trajectory[-length:], trajectory[-2 * length : -length]
        repeats = ((end - before).abs() <= tolerance).flatten(2).all(2).all(0)
        found = torch.where(repeats, length, found)
    return found


def trajectory_summary(trajectory: Tensor, *, bound: float = 1.0, tolerance: float = 1e-4) -> dict[str, float]:
    """The figures of this module, averaged over the batch.

    ``growth`` is the geometric mean over the steps, ``saturated`` is of the last state, ``settled`` and ``oscillating``
    are shares of the batch.

    Args:
        trajectory: States before the first step and after each, ``[num_steps + 1, batch, num_nodes, channels]``.
        bound: See :func:`saturated_share`.
        tolerance: See :func:`settling_step`, :func:`period` and :func:`dead_cells`.
    """
    cycles = period(trajectory, tolerance=tolerance)
    return {
        "growth": float(growth_rate(trajectory).log().mean().exp()),
        "saturated": float(saturated_share(trajectory[-1:], bound=bound).mean()),
        "dead": float(dead_cells(trajectory, tolerance=tolerance).float().mean()),
        "settled": float((settling_step(trajectory, tolerance=tolerance) >= 0).float().mean()),
        "oscillating": float((cycles > 1).float().mean()),
    }


def _checked(trajectory: Tensor) -> Tensor:
    if trajectory.dim() != 4:
        raise ValueError(
            f"trajectory must be [num_steps + 1, batch, num_nodes, channels], got {list(trajectory.shape)}"
        )
    return trajectory.detach()
