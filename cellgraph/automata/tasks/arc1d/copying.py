"""The copying: colours of a row's cells, the row's own by number or what a like cell of a demonstration has become."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.automata.tasks.arc1d.pairs import COLOURS
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE, appearance
from cellgraph.numbers import plain_numbers

#: The least probability of a colour: the loss of what cannot be known stays finite.
LEAST = 1e-7


class CopyingReadout(nn.Module):
    r"""Reads colours from cells that know colours by their number in their row alone (the mixture of
    `"Get To The Point" <https://arxiv.org/abs/1704.04368>`_, section 2.2).

    .. math::
        P_i(c) = g_i \, \mathrm{softmax}(W x_i)_{n(c)} + (1 - g_i) \sum_j a_{ij} \, [t_j = c], \quad
        a_i = \mathrm{softmax}_j \left( Q x_i \cdot K y_j / \sqrt{d} \right)

    where :math:`n(c)` is a colour's number in the row, the first term is of the row's colours and the background alone,
    :math:`y_j` the state of a demonstration's cell and :math:`t_j`
    the colour that it has become. Colours renamed everywhere are colours renamed in the answer, by construction.

    Args:
        channels: Channels of the row's states.
        key_channels: Channels of the states of the demonstrations' cells.
        width: Width of queries and keys.
    """

    @plain_numbers
    def __init__(self, channels: int, key_channels: int, *, width: int = 32) -> None:
        super().__init__()
        self.own = nn.Linear(channels, COLOURS)
        self.gate = nn.Linear(channels, 1)
        self.query = nn.Linear(channels, width)
        self.key = nn.Linear(key_channels, width)
        # A row's own colours first.
        nn.init.ones_(self.gate.bias)

    def forward(self, x: Tensor, rows: Tensor, keys: Tensor, colours: Tensor) -> Tensor:
        """Logarithms of the colours' probabilities, ``[size, width, 10]``.

        Args:
            x: Normalised states of the rows, ``[size, width, channels]``.
            rows: Their colours, ``[size, width]``.
            keys: States of the demonstrations' cells, ``[size, num_keys, key_channels]``.
            colours: What those have become, ``[size, num_keys]``; beyond a row it is no colour.
        """
        own = self.own(x)
        own = own.gather(2, appearance(rows)[:, None].expand_as(own))
        here = (rows[..., None] == torch.arange(COLOURS, device=rows.device)).any(1)
        here[:, 0] = True
        own = own.masked_fill(~here[:, None], -torch.inf).softmax(-1)
        alike = self.query(x) @ self.key(keys).transpose(1, 2) / math.sqrt(self.query.out_features)
        alike = alike.masked_fill((colours == OUTSIDE)[:, None], -torch.inf)
        copied = alike.softmax(-1) @ F.one_hot(colours, OUTSIDE + 1)[..., :COLOURS].to(alike.dtype)
        gate = self.gate(x).sigmoid()
        return (gate * own + (1 - gate) * copied).clamp(min=LEAST).log()
