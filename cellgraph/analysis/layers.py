"""Layers: how much one layer of cells moves another, step by step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cellgraph.nn import Cell
from cellgraph.nn.memory import memory_of
from cellgraph.unroll import rollout


def layer_influence(
    cell: Cell,
    x: Tensor,
    layer: Tensor,
    *,
    num_steps: int,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Influence of layer on layer at each step of a rollout: norms of the blocks of the step's Jacobian.

    .. math::
        J_{t,a,b} = \sqrt{\frac{1}{|b|} \left\lVert
            \frac{\partial x_{t+1}[b]}{\partial x_t[a]} \right\rVert_F^2}

    where :math:`|b|` is the number of values in layer b. A layer that is taken over unchanged has 1. The states are
    those that the rollout of ``x`` goes through, and each step is differentiated backward, by whatever backend.

    Args:
        cell: The cell, in evaluation mode.
        x: One state to start from, its memory included.
        layer: Layer of each cell, from 0 on: ``lattice.layer``, or any other grouping.
        num_steps: Number of steps.
        probes: Estimate the squared norms from so many random sign vectors a layer, without bias (Hutchinson 1990,
            `doi 10.1080/03610919008812866 <https://doi.org/10.1080/03610919008812866>`_); by default they are exact,
            from one derivative a value of the state.
        generator: Source of the random signs.

    Shapes:
        - **x:** ``[1, num_nodes, channels]``
        - **layer:** ``[num_nodes]``, integer
        - **output:** ``[num_steps, num_layers, num_layers]``, from layer a to layer b

    Raises:
        ValueError: If there is not exactly one state, or the layers are not one for each of its cells.

    Example:
        >>> from cellgraph import GMLPCell, Lattice
        >>> cell = GMLPCell(Lattice((3, 2, 2)), channels=2, hidden=4, heads=1)
        >>> cell.set_conveyor(cell.lattice.offsets.index((-1, 0, 0)), 1.0)
        >>> layer_influence(cell, torch.randn(1, 12, 2), cell.lattice.layer, num_steps=1).round(decimals=4)
        tensor([[[0., 1., 0.],
                 [0., 0., 1.],
                 [0., 0., 0.]]])
    """
    if x.dim() != 3 or x.size(0) != 1:
        raise ValueError(f"expected one state [1, num_nodes, channels], got {list(x.shape)}")
    if layer.shape != x.shape[1:2]:
        raise ValueError(f"layer must have one index for each of the {x.size(1)} cells, got {list(layer.shape)}")
    num_layers = int(layer.max()) + 1
    values = torch.bincount(layer, minlength=num_layers) * x.size(-1)
    rows = []
    for _ in range(num_steps):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            after = rollout(cell, x, memory_of(x, cell.memory_channels), num_steps=1).x
        squares = x.new_zeros(num_layers, num_layers)
        for target, probe in _probes(x, layer, num_layers, probes, generator):
            (gradient,) = torch.autograd.grad(after, x, probe, retain_graph=True)
            squares[:, target].index_add_(0, layer, gradient[0].square().sum(-1))
        rows.append((squares / values).sqrt())
        x = after
    return torch.stack(rows)


def _probes(
    x: Tensor, layer: Tensor, num_layers: int, probes: int | None, generator: torch.Generator | None
) -> Iterator[tuple[int, Tensor]]:
    """Vectors on one layer each, and its number: the squares of their products with a matrix add up to its norm."""
    if probes is None:
        for index in range(x.numel()):
            unit = torch.zeros_like(x)
            unit.view(-1)[index] = 1.0
            yield int(layer[index // x.size(-1)]), unit
        return
    for target in range(num_layers):
        mine = (layer == target)[None, :, None]
        for _ in range(probes):
            yield target, torch.where(mine, random_signs(x, *x.shape, generator=generator) * probes**-0.5, 0.0)


def random_signs(like: Tensor, *shape: int, generator: torch.Generator | None) -> Tensor:
    """Ones of either sign, of the dtype and on the device of a tensor."""
    return (2 * torch.randint(2, shape, generator=generator, device=like.device) - 1).to(like.dtype)
