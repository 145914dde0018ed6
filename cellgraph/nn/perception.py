"""Perception: what a cell takes in of its neighbourhood."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cellgraph.graph import Graph
from cellgraph.lattice import Lattice
from cellgraph.numbers import plain_numbers

FILTERS = ("identity", "gradient", "laplacian")

#: The weighted sum over neighbourhoods that a cell lends its perception.
Sum = Callable[[Tensor, Tensor], Tensor]


class StencilPerception(nn.Module):
    r"""Several weighted neighbour sums of every channel.

    .. math::
        z_{i,f} = \sum_k a_{f,k} \odot x_{i + o_k}

    over the offsets and the centre; the channels themselves come first.

    Args:
        lattice: The lattice or other graph.
        channels: Channels of the state.
        num_filters: How many sums of each channel.
        weight: Weights to start with, ``[num_directions + 1, num_filters]`` for all channels alike; random by default,
            so small that a sum of independent neighbours has variance 1.
        trainable: Whether they are learned.

    Shapes:
        - **x:** ``[batch, num_nodes, channels]``
        - **output:** ``[batch, num_nodes, out_channels]``

    Raises:
        ValueError: If there is no filter, or the weights do not fit.
    """

    weight: Tensor

    @plain_numbers
    def __init__(
        self,
        lattice: Graph,
        channels: int,
        *,
        num_filters: int = 2,
        weight: Tensor | Sequence[Sequence[float]] | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        taps = lattice.num_directions + 1
        if num_filters < 1:
            raise ValueError(f"num_filters must be positive, got {num_filters}")
        if weight is None:
            start = torch.randn(taps, 1, num_filters * channels) / taps**0.5
        else:
            given = torch.as_tensor(weight, dtype=torch.get_default_dtype())
            if list(given.shape) != [taps, num_filters]:
                raise ValueError(f"weight must be {[taps, num_filters]}, got {list(given.shape)}")
            start = given.repeat_interleave(channels, dim=1)[:, None]
        self.num_filters = num_filters
        #: Width of what is perceived.
        self.out_channels = (1 + num_filters) * channels
        if trainable:
            self.weight = nn.Parameter(start)
        else:
            self.register_buffer("weight", start)

    def forward(self, x: Tensor, neighbour_sum: Sum) -> Tensor:
        """Perceive by means of a cell's neighbour sum."""
        around = neighbour_sum(x.repeat(1, 1, self.num_filters), self.weight)
        return torch.cat([x, around.to(x.dtype)], dim=-1)

    def extra_repr(self) -> str:
        return f"num_filters={self.num_filters}, trainable={isinstance(self.weight, nn.Parameter)}"


class PooledPerception(StencilPerception):
    r"""A learned stencil, and beside it the maxima of the first channels over all cells, as in `"PointNet"
    <https://arxiv.org/abs/1612.00593>`_ (section 4.2, the aggregation), at every step.

    .. math::
        z_i = \bigl[ x_i, \sum_k a_k \odot x_{i + o_k}, \max_j x_{j, 1 \dots m} \bigr]

    So a cell can compare what it has with all others, however far they are. It is no longer local: where a lattice
    is computed in parts, cells that perceive so are refused.

    Args:
        lattice: The lattice or other graph.
        channels: Channels of the state.
        pooled: How many channels have their maximum perceived, :math:`m`; all by default.
        num_filters: See :class:`StencilPerception`.

    Raises:
        ValueError: If there is no filter, or there are fewer channels than are to be pooled.
    """

    #: A cell hears all others in one step.
    hears_all = True

    @plain_numbers
    def __init__(self, lattice: Graph, channels: int, *, pooled: int | None = None, num_filters: int = 1) -> None:
        pooled = channels if pooled is None else pooled
        if not 1 <= pooled <= channels:
            raise ValueError(f"pooled must be 1 to {channels}, the number of channels, got {pooled}")
        super().__init__(lattice, channels, num_filters=num_filters)
        self.pooled = pooled
        self.out_channels += pooled

    def forward(self, x: Tensor, neighbour_sum: Sum) -> Tensor:
        """Perceive by means of a cell's neighbour sum."""
        most = x[..., : self.pooled].amax(1, keepdim=True).expand(-1, x.size(1), -1)
        return torch.cat([super().forward(x, neighbour_sum), most], dim=-1)

    def extra_repr(self) -> str:
        return f"pooled={self.pooled}, {super().extra_repr()}"


class FilterPerception(StencilPerception):
    r"""The state, its gradient and its Laplacian by fixed filters, as in `"Growing Neural Cellular Automata"
    <https://distill.pub/2020/growing-ca/>`_ ("Perception"; in two dimensions with eight neighbours the gradient is
    Sobel's).

    A neighbour that moves along :math:`n` of the :math:`d` axes has weight :math:`2^{d - n}`. The gradient along an
    axis is exact on a linear state, the Laplacian on a quadratic one.

    Args:
        lattice: A lattice of radius one.
        channels: Channels of the state.
        filters: ``"gradient"``, ``"laplacian"`` or both; the state itself, ``"identity"``, is always there.

    Raises:
        ValueError: If a filter is unknown, or the lattice no lattice of radius one, or its offsets are not the
            same on both sides and along all axes.

    Example:
        >>> perceive = FilterPerception(Lattice((5, 5), 8), 1)
        >>> (perceive.weight[:8, 0, 0] * 8).int().tolist()  # Sobel, along the first axis
        [-1, -2, -1, 0, 0, 1, 2, 1]
    """

    @plain_numbers
    def __init__(self, lattice: Graph, channels: int, *, filters: Sequence[str] = ("gradient", "laplacian")) -> None:
        unknown = sorted(set(filters) - set(FILTERS))
        if unknown or not set(filters) - {"identity"}:
            raise ValueError(f"filters must be some of {FILTERS} beside the identity, got {list(filters)}")
        if not isinstance(lattice, Lattice) or lattice.radius != 1:
            raise ValueError(f"the filters need a lattice of radius one, got {lattice}")
        offsets = torch.tensor(lattice.offsets, dtype=torch.get_default_dtype())
        strength = 2.0 ** (lattice.dim - offsets.abs().sum(1))
        along = (strength[:, None] * offsets.square()).sum(0)
        if (strength @ offsets).any() or not along.all() or (along != along[0]).any():
            raise ValueError(
                "the filters need neighbours on both sides of each axis, and alike along all axes, "
                f"got offsets {list(lattice.offsets)}"
            )
        columns = []
        if "gradient" in filters:
            for axis in offsets.T:
                column = strength * axis
                columns.append(torch.cat([column / (column * axis).sum(), torch.zeros(1)]))
        if "laplacian" in filters:
            # The sum of squares along each axis is alike; on x^2 / 2 the Laplacian is 1.
            column = 2.0 * strength / (strength * offsets[:, 0].square()).sum()
            columns.append(torch.cat([column, -column.sum(0, keepdim=True)]))
        self.filters = tuple(filters)
        weight = torch.stack(columns, dim=1)
        super().__init__(lattice, channels, num_filters=weight.size(1), weight=weight, trainable=False)


class AttentionPerception(nn.Module):
    r"""Attention of every cell over its neighbourhood (`"Stand-Alone Self-Attention in Vision Models"
    <https://arxiv.org/abs/1906.05909>`_, section 3.1), the state first.

    .. math::
        z_i = W_o \sum_k \mathrm{softmax}_k \left( q_i \cdot k_{i + o_k} / \sqrt{d} + r_k \right) v_{i + o_k}

    over the offsets and the centre, in several heads; :math:`r_k` is learned for each direction and head. What an edge
    with a weight carries is multiplied by it.

    Args:
        lattice: The lattice or other graph.
        channels: Channels of the state.
        heads: Number of heads.
        width: Width of all heads together.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    source: Tensor
    target: Tensor
    direction: Tensor
    factor: Tensor | None

    @plain_numbers
    def __init__(self, lattice: Graph, channels: int, *, heads: int = 4, width: int = 32) -> None:
        super().__init__()
        if heads < 1 or width < 1 or width % heads:
            raise ValueError(f"heads must be positive and divide the width, got {heads} and {width}")
        self.heads, self.width = heads, width
        self.out_channels = 2 * channels
        self.query_key_value = nn.Linear(channels, 3 * width)
        self.out = nn.Linear(width, channels)
        self.bias = nn.Parameter(torch.zeros(lattice.num_directions + 1, heads))
        own = torch.arange(lattice.num_nodes)
        centre = torch.full_like(own, lattice.num_directions)
        self.register_buffer("source", torch.cat([lattice.edge_index[0], own]), persistent=False)
        self.register_buffer("target", torch.cat([lattice.edge_index[1], own]), persistent=False)
        self.register_buffer("direction", torch.cat([lattice.edge_direction, centre]), persistent=False)
        factor = lattice.edge_weight
        factor = None if factor is None else torch.cat([factor, factor.new_ones(lattice.num_nodes)])[:, None, None]
        self.register_buffer("factor", factor, persistent=False)

    def forward(self, x: Tensor, neighbour_sum: Sum) -> Tensor:
        """Perceive; the neighbour sum goes unused."""
        # PyTorch Geometric takes seconds to import, and other cells do without.
        from torch_geometric.utils import scatter, softmax

        query, key, value = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        alike = (query[:, self.target] * key[:, self.source]).sum(-1) / math.sqrt(self.width // self.heads)
        share = softmax(alike + self.bias[self.direction], self.target, num_nodes=x.size(1), dim=1)
        carried = share[..., None] * value[:, self.source]
        carried = (carried if self.factor is None else carried * self.factor.to(carried.dtype)).flatten(2)
        heard = scatter(carried, self.target, dim=1, dim_size=x.size(1))
        return torch.cat([x, self.out(heard).to(x.dtype)], dim=-1)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, width={self.width}"
