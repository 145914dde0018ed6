"""The gated cell: one small gMLP on every node of the lattice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.cone import ConeStep
from cellgraph.graph import Graph
from cellgraph.nn.cell import Cell
from cellgraph.nn.partial import activate, advance
from cellgraph.nn.rebuilding import hands_on
from cellgraph.nn.sharing import linear, of_nodes
from cellgraph.nn.transported import set_shift
from cellgraph.nn.whole_steps import WholeSteps
from cellgraph.numbers import plain_numbers

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from cellgraph.nn.cell import CellOptions

SHARING = ("shared", "layer", "cell")
#: What a subclass with a step of its own has put another in the place of.
STEP = ("forward", "perceive", "update")


class GMLPCell(WholeSteps):
    r"""The gated multi-layer perceptron of `"Pay Attention to MLPs" <https://arxiv.org/abs/2105.08050>`_ (section 2)
    with a cell's neighbourhood as its tokens, and a learned linear transport beside it.

    .. math::
        h_i &= \mathrm{Norm}(x_i + p_i) \\
        (u_i, v_i) &= \mathrm{split}(\mathrm{GELU}(W_{in} h_i)) \\
        s_i &= b + \sum_k w_k \, \mathrm{Norm}(v)_{i + o_k} \\
        t_i &= \sum_k a_k \odot x_{i + o_k} \\
        x_i &\leftarrow x_i + m_i \, (t_i + W_{out}(u_i \odot s_i))

    Only the centre token's output of the spatial gating unit is needed, so the unit becomes one weighted neighbour
    sum; :math:`w_k` has one value a head and direction, :math:`a_k` one a channel and direction, and both sums include
    the centre. :math:`w` starts near zero, :math:`b` at one (the paper's initialisation) and :math:`W_{out}` at zero:
    unless told otherwise a new cell only transports, see :meth:`set_conveyor`.

    Args:
        lattice: The lattice the cells sit on.
        channels: Channels of the state, the memory included.
        hidden: Width of each half of the gated block.
        heads: Number of groups of hidden channels with spatial weights of their own.
        sharing: ``"shared"``: one set of weights for all cells, ``"layer"``: one for each index along the first axis,
            ``"cell"``: one for each cell. The positions :math:`p` are always each cell's own.
        gate_std: Standard deviation that :math:`w` starts with. At the paper's 0.02 a new gate is deaf to its
            neighbours and only the transport brings anything; at ``(K + 1) ** -0.5`` what it hears is as large as
            what a cell has itself.
        out_std: Standard deviation that :math:`W_{out}` starts with, times ``hidden ** 0.5``. At zero a new cell only
            transports; at one its change is as large as its state, for networks whose start does not depend on it.
        norm_transport: Whether the transport moves the state divided by its root mean square over the channels,
            instead of the state. A learned transport of the state is a linear recurrence, which long rollouts let grow
            exponentially; with this a step's change does not grow with the state, and with ``step_size`` =
            ``num_steps ** -0.5`` changes that are independent add up to the size of one. There is no conveyor then.
        conveyor: An offset of the lattice whose neighbour's state a new cell takes over, at ``conveyor_rate``, see
            :meth:`set_conveyor`; ``None`` leaves the transport at zero.
        conveyor_rate: The share of the state that moves in a step.
        options: Those of every :class:`Cell`. The memory is not transported at the start; a linear map of the context
            is added to the positions.

    Shapes:
        - **x:** ``[batch, num_nodes, channels]``
        - **output:** ``[batch, num_nodes, channels]``, in the dtype of ``x``

    Raises:
        ValueError: If a width is not positive, heads do not divide ``hidden``, or a name or rate is out of range.

    Example:
        >>> from cellgraph import Lattice
        >>> cell = GMLPCell(Lattice((11, 15, 15)))
        >>> cell(torch.zeros(2, 2475, 64)).shape
        torch.Size([2, 2475, 64])
        >>> cell.parameter_counts()
        {'gmlp': 25464, 'transport': 448, 'positions': 158400}
    """

    layer: Tensor

    @plain_numbers
    @hands_on(Cell.__init__)
    def __init__(
        self,
        lattice: Graph,
        channels: int = 64,
        *,
        hidden: int = 128,
        heads: int = 8,
        sharing: str = "shared",
        gate_std: float = 0.02,
        out_std: float = 0.0,
        norm_transport: bool = False,
        conveyor: Sequence[int] | None = None,
        conveyor_rate: float = 0.25,
        **options: Unpack[CellOptions],
    ) -> None:
        super().__init__(lattice, channels, **options)
        if min(channels, hidden, heads) < 1 or hidden % heads:
            raise ValueError(
                "channels, hidden and heads must be positive and heads divide hidden, "
                f"got {channels}, {hidden}, {heads}"
            )
        if sharing not in SHARING:
            raise ValueError(f"sharing must be one of {SHARING}, got {sharing!r}")
        if min(gate_std, out_std) < 0:
            raise ValueError(f"gate_std and out_std must not be negative, got {gate_std} and {out_std}")
        self.hidden, self.heads, self.sharing = hidden, heads, sharing
        self.gate_std, self.out_std, self.norm_transport = gate_std, out_std, norm_transport
        self.conveyor, self.conveyor_rate = None if conveyor is None else tuple(conveyor), conveyor_rate
        if self.conveyor is not None and self.conveyor not in getattr(lattice, "offsets", ()):
            raise ValueError(f"conveyor must be an offset of the lattice, got {self.conveyor} for {lattice}")

        groups = {"shared": 1, "layer": lattice.num_layers, "cell": lattice.num_nodes}[sharing]
        taps = lattice.num_directions + 1
        self.position = nn.Parameter(torch.empty(lattice.num_nodes, channels))
        self.norm_weight = nn.Parameter(torch.ones(groups, channels))
        self.norm_bias = nn.Parameter(torch.zeros(groups, channels))
        self.in_weight = nn.Parameter(torch.empty(groups, 2 * hidden, channels))
        self.in_bias = nn.Parameter(torch.zeros(groups, 2 * hidden))
        self.gate_norm_weight = nn.Parameter(torch.ones(groups, hidden))
        self.gate_norm_bias = nn.Parameter(torch.zeros(groups, hidden))
        self.gate_weight = nn.Parameter(torch.empty(taps, groups, heads))
        self.gate_bias = nn.Parameter(torch.ones(groups, hidden))
        self.out_weight = nn.Parameter(torch.zeros(groups, channels, hidden))
        self.out_bias = nn.Parameter(torch.zeros(groups, channels))
        self.transport = nn.Parameter(torch.zeros(taps, groups, channels))
        if self.context_channels:
            self.context_weight = nn.Parameter(torch.empty(channels, self.context_channels))
        self.register_buffer("layer", lattice.layer, persistent=False)
        self.cells_per_layer = torch.bincount(lattice.layer, minlength=lattice.num_layers).tolist()
        self.reset_parameters()
        self._check_backend(self.backend)

    def reset_parameters(self) -> None:
        """Draw the random weights anew; the transport is left at zero, or at the conveyor."""
        nn.init.normal_(self.position, std=0.5)
        nn.init.uniform_(self.in_weight, -(self.channels**-0.5), self.channels**-0.5)
        nn.init.normal_(self.gate_weight, std=self.gate_std)
        if self.out_std:
            nn.init.normal_(self.out_weight, std=self.out_std * self.hidden**-0.5)
        else:
            nn.init.zeros_(self.out_weight)
        nn.init.zeros_(self.transport)
        if self.conveyor is not None:
            self.set_conveyor(self.lattice.offsets.index(self.conveyor), self.conveyor_rate)
        if self.context_channels:
            nn.init.normal_(self.context_weight, std=self.context_channels**-0.5)

    def set_conveyor(self, direction: int | None, rate: float) -> None:
        """Let the transport shift the state along one direction, everything but the memory.

        Each step a cell gives up the share ``rate`` of its state and takes over as much of the state of the neighbour
        at ``direction``; ``None`` mixes with all the neighbours alike.

        Raises:
            ValueError: If the transport moves the normalised state, which is no shift.
        """
        if self.norm_transport:
            raise ValueError("a conveyor shifts the state itself: norm_transport must be off")
        set_shift(self.transport, direction, rate, num_channels=self.free_channels)

    def perceive(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The gated half of each cell, the gate that its neighbours set, and what the transport brings.

        Shapes:
            - **output:** twice ``[batch, num_nodes, hidden]``, and ``[batch, num_nodes, channels]``
        """
        _, u, v = activate(self, x, context)
        gate_weight = of_nodes(self, self.gate_weight, dim=1).repeat_interleave(self.hidden // self.heads, dim=-1)
        gate = of_nodes(self, self.gate_bias) + self.neighbour_sum(v, gate_weight)
        if self.norm_transport:
            x = F.rms_norm(x, x.shape[-1:])
        return u, gate, self.neighbour_sum(x, of_nodes(self, self.transport, dim=1))

    def update(self, x: Tensor, perceived: tuple[Tensor, Tensor, Tensor], context: Tensor | None = None) -> Tensor:
        """The gated change, with the transport."""
        u, gate, moved = perceived
        return linear(self, u * gate.to(u.dtype), self.out_weight, self.out_bias) + moved

    @property
    def wide_gate_weight(self) -> Tensor:
        """The gate's weights by hidden channel, ``[num_directions + 1, groups, hidden]``."""
        return self.gate_weight.repeat_interleave(self.hidden // self.heads, dim=-1)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.has_its_step = all(getattr(cls, name) is getattr(GMLPCell, name) for name in STEP)

    @property
    def fits_cone(self) -> bool:
        """Whether :meth:`step_in_cone` takes the cell's step."""
        return self.has_its_step and self.dynamics.is_plain

    def step_in_cone(
        self,
        own: Tensor,
        lent: Tensor,
        tables: tuple[ConeStep, ConeStep],
        update_mask: Tensor | None = None,
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One step of the cells of a light cone, see :meth:`Cell.step_in_cone`."""
        ours, others = tables
        lent_before = activate(self, lent, context, others.source)
        before = activate(self, own, context, ours.source).beside(lent_before.rows(ours.lender))
        share = self.dynamics.share(None if update_mask is None else update_mask.index_select(1, ours.target))
        return advance(self, before, ours, share), advance(self, lent_before, others, self.dynamics.share())

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the gMLP part, of the transport and of the learned positions."""
        total = sum(p.numel() for p in self.parameters())
        transport, positions = self.transport.numel(), self.position.numel()
        return {"gmlp": total - transport - positions, "transport": transport, "positions": positions}
