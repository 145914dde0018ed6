"""Automata for grids: a cell, where its states start and how they are read, with weights for each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.automata.tasks.arc2d.grids import COLOURS
from cellgraph.automata.tasks.arc2d.layout import GridLayout
from cellgraph.automata.tasks.arc2d.walk import walk
from cellgraph.nn import NCACell
from cellgraph.numbers import plain_numbers


class GridReadout(nn.Module):
    r"""Where states start and how colours are read in them.

    .. math:: x^0_i = W_s c_i + b_s, \quad \mathrm{logits}_i = W_r \, \mathrm{Norm}(x_i) + b_r + k \, c_i

    with the colour :math:`c_i` of the cell as a one-hot vector: a new automaton keeps the colours that are there.

    Args:
        channels: Channels of the state.
        keep: The factor :math:`k` at the start.
    """

    @plain_numbers
    def __init__(self, channels: int, *, keep: float = 2.0) -> None:
        super().__init__()
        self.start = nn.Linear(COLOURS, channels)
        self.colour = nn.Linear(channels, COLOURS)
        self.keep = nn.Parameter(torch.tensor(keep))


@dataclass(frozen=True)
class GridAutomata:
    """Automata of one kind, one for each row of a layout.

    Attributes:
        cell: The cell, for what it is made of.
        weights: The weights of cell (``cell.``) and readout (``readout.``) by name, each ``[rows, *shape]``.
        vector: What the cells of each row are told beside their colour, ``[rows, vector_channels]``.
        half: Whether products are taken in bfloat16.
    """

    cell: NCACell
    weights: Mapping[str, Tensor]
    vector: Tensor
    half: bool = False

    @classmethod
    def alike(cls, cell: NCACell, readout: GridReadout, vector: Tensor, *, half: bool = False) -> GridAutomata:
        """Automata that share the weights of a cell and a readout: training them trains these.

        Args:
            cell: The cell.
            readout: The readout.
            vector: What the cells of each row are told, ``[rows, vector_channels]``.
            half: Whether products are taken in bfloat16.
        """
        parts = {"cell": cell, "readout": readout}
        named = {f"{part}.{name}": p for part, module in parts.items() for name, p in module.named_parameters()}
        return cls(cell, {name: p.expand(len(vector), *p.shape) for name, p in named.items()}, vector, half)

    def parameters(self) -> dict[str, Tensor]:
        """All that can be learned, by name."""
        return {**self.weights, "vector": self.vector}

    def with_parameters(self, given: Mapping[str, Tensor]) -> GridAutomata:
        """The same automata with others."""
        weights = {name: p for name, p in given.items() if name != "vector"}
        return GridAutomata(self.cell, weights, given["vector"], self.half)

    def start(self, layout: GridLayout) -> Tensor:
        """States at the start, ``[rows, cells, channels]``."""
        return self._linear("readout.start", colours_of(layout))

    def context(self, layout: GridLayout) -> Tensor:
        """What cells are told at every step, ``[rows, cells, 10 + vector_channels]``."""
        colours = colours_of(layout)
        told = self.vector[:, None].expand(-1, colours.size(1), -1).to(colours.dtype)
        return torch.cat([colours, told], dim=-1)

    def walk(self, layout: GridLayout, x: Tensor, context: Tensor, num_steps: int) -> list[Tensor]:
        """States before the first step and after each, from some."""
        named = {name.removeprefix("cell."): p for name, p in self.weights.items() if name.startswith("cell.")}
        return walk(self.cell, named, layout, x, context, num_steps=num_steps, half=self.half)

    def logits(self, x: Tensor, layout: GridLayout) -> Tensor:
        """Logarithms of the colours' odds, ``[rows, cells, 10]``, in states."""
        kept = self.weights["readout.keep"][:, None, None] * colours_of(layout)
        return self._linear("readout.colour", F.rms_norm(x, x.shape[-1:])) + kept

    def answer(self, layout: GridLayout, num_steps: int, last: int = 1) -> list[Tensor]:
        """The logits after each of the last steps."""
        states = self.walk(layout, self.start(layout), self.context(layout), num_steps)
        return [self.logits(x, layout) for x in states[-last:]]

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return torch.baddbmm(self.weights[f"{name}.bias"][:, None], x, self.weights[f"{name}.weight"].transpose(1, 2))


def colours_of(layout: GridLayout) -> Tensor:
    """One-hot colours of a layout's cells, ``[rows, cells, 10]``, zero where there is none."""
    return F.one_hot(layout.source.clamp(min=0), COLOURS).float() * layout.inside[..., None]


def grid_loss(logits: Tensor, layout: GridLayout, *, balance: float = 0.5) -> Tensor:
    """Cross-entropy of each row's cells, ``[rows]``.

    Args:
        logits: As read after a step.
        layout: The grids.
        balance: Weight of the mean of two means, over the cells that are to change and over those that are not; the
            rest has the mean over all cells.
    """
    inside, changed = layout.inside, layout.inside & (layout.source != layout.target)
    losses = F.cross_entropy(logits.transpose(1, 2).float(), layout.target.clamp(min=0), reduction="none")

    def mean(of: Tensor) -> Tensor:
        return (losses * of).sum(1) / of.sum(1).clamp(min=1)

    return (1 - balance) * mean(inside) + balance * (mean(changed) + mean(inside & ~changed)) / 2
