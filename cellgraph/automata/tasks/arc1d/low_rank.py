"""Changes of low rank: the same cell, the linear layers of its update changed a little for each row of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cellgraph.automata.resizing import AnyCell, on_lattice
from cellgraph.nn import Cell


def layers(cell: Cell) -> dict[str, nn.Linear]:
    """The layers that are changed, by name.

    Raises:
        ValueError: If the cell's update has no linear layers.
    """
    updating = getattr(cell, "updating", None)
    found = dict(updating.named_children()) if updating is not None else {}
    found = {name: layer for name, layer in found.items() if type(layer) is nn.Linear}
    if not found:
        raise ValueError(
            "changes of low rank are of a cell whose update is put together from linear layers, NCACell with "
            f"update=mlp, got {type(cell).__name__} with {type(updating).__name__}"
        )
    return found


def unchanged(cell: Cell, rank: int, generator: torch.Generator) -> Tensor:
    r"""The numbers of a change that changes nothing yet, ``[num_numbers]``.

    They are, of each layer, :math:`A` and then :math:`B` of :func:`changed`. As in `Hu et al. 2021
    <https://arxiv.org/abs/2106.09685>`_ (section 4.1) :math:`A` is drawn and :math:`B` zero.

    Args:
        cell: The cell.
        rank: The rank of the changes.
        generator: Source of what is drawn.
    """
    numbers = []
    for layer in layers(cell).values():
        first = torch.randn(layer.in_features * rank, generator=generator) / layer.in_features**0.5
        numbers += [first, torch.zeros(rank * layer.out_features)]
    return torch.cat(numbers)


def changed(cell: AnyCell, numbers: Tensor) -> AnyCell:
    r"""A cell that shares a cell's weights, with changes of each row's own.

    .. math:: W z + B A z

    Args:
        cell: The cell.
        numbers: Of each row those of its change, ``[batch, num_numbers]``, see :func:`unchanged`.
    """
    other, start = on_lattice(cell, cell.lattice), 0
    linear = layers(other)
    rank = numbers.size(1) // sum(layer.in_features + layer.out_features for layer in linear.values())
    for name, layer in linear.items():
        sides = []
        for shape in ((layer.in_features, rank), (rank, layer.out_features)):
            count = shape[0] * shape[1]
            sides.append(numbers[:, start : start + count].unflatten(1, shape))
            start += count
        setattr(other.updating, name, _Changed(layer, *sides))
    return other


class _Changed(nn.Module):
    """A linear layer with what rows add to it, ``[batch, in_features, rank]`` and ``[batch, rank, out_features]``."""

    def __init__(self, layer: nn.Linear, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.layer, self.down, self.up = layer, down, up

    def forward(self, z: Tensor) -> Tensor:
        return self.layer(z) + z @ self.down.to(z) @ self.up.to(z)
