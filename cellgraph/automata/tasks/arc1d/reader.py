"""The reader: a small automaton that runs on a demonstration, and what it makes of several."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.automata.resizing import on_lattice
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE, appearance, numbered
from cellgraph.lattice import Lattice
from cellgraph.nn import Cell, NCACell
from cellgraph.numbers import plain_numbers
from cellgraph.unroll import rollout

SYMBOLS = OUTSIDE + 1


class DemonstrationReader(nn.Module):
    r"""Reads pairs of rows: an automaton whose cells are given both of a pair, and a vector for several pairs together.

    .. math::
        r = W_2 \, \mathrm{ReLU}\Bigl(W_1 \frac{1}{D} \sum_d [\mathrm{mean}_i \, h_{d,i}, \max_i h_{d,i}]\Bigr), \quad
        h_{d,i} = \mathrm{ReLU}(W_h \, \mathrm{Norm}(x_{d,i}))

    The cells see colours as numbers of their appearance in the pair, and whether both rows agree: no state and no
    vector depends on which colours they are.

    Args:
        lattice: The lattice, which is as wide as the widest row.
        out_features: Width of the vector.
        channels: Channels of the state.
        hidden: Hidden width of the cell.
        num_steps: Steps on a pair.
        step_size: The factor of all updates.
        pooled: How many channels have their maximum over a pair perceived, see
            :class:`~cellgraph.nn.PooledPerception`; at 0 cells hear their neighbours alone.

    Raises:
        ValueError: If a width or the number of steps is not positive.
    """

    @plain_numbers
    def __init__(
        self,
        lattice: Lattice,
        out_features: int,
        *,
        channels: int = 48,
        hidden: int = 128,
        num_steps: int = 8,
        step_size: float = 0.25,
        pooled: int = 0,
    ) -> None:
        super().__init__()
        if min(out_features, channels, hidden, num_steps) < 1:
            raise ValueError(
                "a reader's widths and steps must be positive, "
                f"got {out_features}, {channels}, {hidden} and {num_steps} steps"
            )
        self.num_steps, self.channels = num_steps, channels
        told = 2 * SYMBOLS + 1
        perception = {"name": "pooled", "pooled": pooled} if pooled else {"name": "stencil"}
        self.cell = NCACell(
            lattice,
            channels,
            perception={**perception, "num_filters": 1},
            update={"name": "mlp", "hidden": hidden},
            norm="rms",
            step_size=step_size,
            context_channels=told,
        )
        self.start = nn.Linear(told, channels)
        self.features = nn.Linear(channels, 64)
        self.vector = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, out_features))

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Read pairs, each by itself.

        Args:
            pairs: Colours, ``[size, 2, width]``, no wider than the lattice.

        Returns:
            The normalised states of their cells, ``[size, width, channels]``, and a summary of each, ``[size, 128]``.
        """
        source, target = pairs.unbind(1)
        numbers = appearance(source, target)
        source, target = numbered(source, numbers), numbered(target, numbers)
        parts = [F.one_hot(source, SYMBOLS), F.one_hot(target, SYMBOLS), (source == target)[..., None]]
        told = torch.cat(parts, dim=-1).to(self.start.weight.dtype)
        cell = cut_to(self.cell, source.size(1))
        x = rollout(cell, self.start(told), num_steps=self.num_steps, context=told).x
        x = F.rms_norm(x, x.shape[-1:])
        inside = (source != OUTSIDE)[..., None]
        features = F.relu(self.features(x)) * inside
        return x, torch.cat([features.sum(1) / inside.sum(1).clamp(min=1), features.amax(1)], dim=-1)

    def together(self, summaries: Tensor, present: Tensor) -> Tensor:
        """What several pairs say, ``[size, out_features]``.

        Args:
            summaries: Of each, ``[size, num_pairs, 128]``.
            present: Which of them there are, ``[size, num_pairs]``.
        """
        weight = present.to(summaries.dtype)[..., None]
        return self.vector((summaries * weight).sum(1) / weight.sum(1))


def cut_to(cell: Cell, width: int) -> Cell:
    """A cell with the same weights on the first cells of its lattice, the cell itself where that is all of it."""
    lattice = cell.lattice
    return cell if width == lattice.num_nodes else on_lattice(cell, Lattice((width,), lattice.offsets))
