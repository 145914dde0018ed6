"""Update: from what a cell perceives to how its state changes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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


class BoundedUpdate(MLPUpdate):
    r"""The update of a perceptron, cut so that the state stays between two bounds, as in `"Lenia: Biology of Artificial
    Life" <https://arxiv.org/abs/1812.05433>`_ ("Lenia", the clip of its update rule).

    .. math:: \Delta x_i = \mathrm{clip}(x_i + \mathrm{MLP}(z_i, c_i), a, b) - x_i

    A cell that aims beyond a bound comes to lie on it, at once but for rounding and exactly after another step,
    whatever small errors its neighbours have: so it can stand at a bound, or run on from bound to bound, without an
    error that grows. Where the cut took something away, the gradient passes if following it leads back between the
    bounds, and is zero otherwise. As that is no derivative, it cannot be differentiated again: ``create_graph`` ends in
    a ``RuntimeError``, as do functional transforms.

    Args:
        in_channels, channels, hidden, context_channels, zero_init: See :class:`MLPUpdate`.
        least: The lower bound :math:`a`.
        most: The upper bound :math:`b`.

    Shapes:
        - As of :class:`MLPUpdate`.

    Raises:
        ValueError: If the bounds are not in order.

    Example:
        >>> update = BoundedUpdate(1, 1, hidden=4)  # a new one only brings the state between its bounds
        >>> x = torch.tensor([[[-3.0], [0.5]]])
        >>> x + update(x, x)
        tensor([[[-1.0000],
                 [ 0.5000]]], grad_fn=<AddBackward0>)
    """

    @plain_numbers
    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        hidden: int = 128,
        context_channels: int = 0,
        zero_init: bool = True,
        least: float = -1.0,
        most: float = 1.0,
    ) -> None:
        if not least < most:
            raise ValueError(f"least must be less than most, got {least} and {most}")
        super().__init__(in_channels, channels, hidden=hidden, context_channels=context_channels, zero_init=zero_init)
        self.least, self.most = least, most

    def forward(self, x: Tensor, perceived: Tensor, context: Tensor | None = None) -> Tensor:
        """The change of the state."""
        return _Clip.apply(x + super().forward(x, perceived, context), self.least, self.most) - x

    def extra_repr(self) -> str:
        return f"least={self.least}, most={self.most}"


class _Clip(torch.autograd.Function):
    """A clip through which what lies outside can come back in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, least: float, most: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = least, most
        return x.clamp(least, most)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        least, most = ctx.bounds
        # Descent goes against the gradient.
        stuck = ((x > most) & (grad < 0)) | ((x < least) & (grad > 0))
        return grad.masked_fill(stuck, 0.0), None, None


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
