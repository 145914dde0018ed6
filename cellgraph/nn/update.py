"""Update: from what a cell perceives to how its state changes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.numbers import plain_numbers


class MLPUpdate(nn.Module):
    r"""The update of `"Growing Neural Cellular Automata" <https://distill.pub/2020/growing-ca/>`_ ("Update rule"): one
    hidden layer, and a last one that starts at zero, so that a new cell does nothing.

    .. math::
        \Delta x_i = W_2 \, \mathrm{ReLU}(W_1 z_i + W_c c_i + b_1) + b_2

    Args:
        in_channels: Width of what is perceived, :math:`z`.
        channels: Channels of the state.
        hidden: Width of the hidden layer.
        context_channels: Width of the context :math:`c`.
        zero_init: Whether the last layer starts at zero.

    Shapes:
        - **perceived:** ``[batch, num_nodes, in_channels]``
        - **x**, **output:** ``[batch, num_nodes, channels]``
        - **context:** ``[batch or 1, num_nodes or 1, context_channels]``

    Raises:
        ValueError: If ``hidden`` is not positive.
    """

    @plain_numbers
    def __init__(
        self, in_channels: int, channels: int, *, hidden: int = 128, context_channels: int = 0, zero_init: bool = True
    ) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"hidden must be positive, got {hidden}")
        self.inner = nn.Linear(in_channels, hidden)
        self.context = nn.Linear(context_channels, hidden, bias=False) if context_channels else None
        self.outer = nn.Linear(hidden, channels)
        if zero_init:
            nn.init.zeros_(self.outer.weight)
            nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor, perceived: Tensor, context: Tensor | None = None) -> Tensor:
        """The change of the state."""
        h = self.inner(perceived)
        if self.context is not None and context is not None:
            h = h + self.context(context)
        return self.outer(F.relu(h))


class GRUUpdate(nn.Module):
    r"""A gated recurrent unit (`Cho et al. 2014 <https://arxiv.org/abs/1406.1078>`_) whose hidden state is the cell's.

    .. math::
        \Delta x_i = \mathrm{GRU}([z_i, c_i], x_i) - x_i

    The state stays between -1 and 1 where it starts there.

    Args:
        in_channels: Width of what is perceived.
        channels: Channels of the state.
        context_channels: Width of the context.
        keep: The update gate's bias at the start: how far a new cell keeps its state, before the sigmoid.

    Shapes:
        - As of :class:`MLPUpdate`.
    """

    @plain_numbers
    def __init__(self, in_channels: int, channels: int, *, context_channels: int = 0, keep: float = 2.0) -> None:
        super().__init__()
        self.gru = nn.GRUCell(in_channels + context_channels, channels)
        with torch.no_grad():
            self.gru.bias_hh[channels : 2 * channels] += keep

    def forward(self, x: Tensor, perceived: Tensor, context: Tensor | None = None) -> Tensor:
        """The change of the state."""
        if context is not None:
            perceived = torch.cat([perceived, context.expand(*perceived.shape[:2], -1).to(perceived.dtype)], dim=-1)
        return self.gru(perceived.flatten(0, 1), x.flatten(0, 1)).unflatten(0, x.shape[:2]) - x
