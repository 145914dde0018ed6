"""Penalties: what keeps an automaton's states bounded and at rest, each a number a sample."""

from __future__ import annotations

from torch import Tensor


def overflow(x: Tensor, bound: float = 1.0) -> Tensor:
    r"""How far states lie outside their bounds, as in the reference notebook of `"Self-Organising Textures"
    <https://distill.pub/selforg/2021/textures/>`_ (Niklasson et al. 2021), there as a sum.

    .. math:: \frac{1}{N C} \sum_{i, c} \bigl| x_{ic} - \mathrm{clip}(x_{ic}, -b, b) \bigr|

    Shapes:
        - **x:** ``[size, num_nodes, channels]``
        - **output:** ``[size]``

    Example:
        >>> import torch
        >>> overflow(torch.tensor([[[0.5, -3.0]]]))
        tensor([1.])
    """
    return (x - x.clamp(-bound, bound)).abs().flatten(1).mean(1)


def drift(x: Tensor, later: Tensor) -> Tensor:
    r"""How much states change in further steps, zero at a fixed point: what is asked of an attractor (Mordvintsev et
    al. 2020, `"Growing Neural Cellular Automata" <https://distill.pub/2020/growing-ca/>`_), asked directly.

    .. math:: \frac{1}{N C} \sum_{i, c} (x'_{ic} - x_{ic})^2

    Shapes:
        - **x:** ``[size, num_nodes, channels]``
        - **later:** ``[size, num_nodes, channels]``
        - **output:** ``[size]``

    Example:
        >>> import torch
        >>> drift(torch.zeros(1, 1, 2), torch.tensor([[[1.0, -2.0]]]))
        tensor([2.5000])
    """
    return (later - x).square().flatten(1).mean(1)
