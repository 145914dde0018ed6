"""The gated cell: one small gMLP on every node of the lattice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.cone import ConeStep, LightCone
from cellgraph.graph import Graph
from cellgraph.nn.cell import Cell
from cellgraph.nn.partial import activate, advance
from cellgraph.nn.transported import set_shift
from cellgraph.numbers import plain_numbers
from cellgraph.ops import AUTO, Backend, Case, candidates, find_backend, fitting_backends
from cellgraph.ops.fused import FusedSteps
from cellgraph.ops.transforms import is_transformed

SHARING = ("shared", "layer", "cell")


class GMLPCell(Cell):
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
    the centre. :math:`W_{out}` starts at zero, :math:`w` near zero and :math:`b` at one (the paper's initialisation),
    so a new cell only transports: see :meth:`set_conveyor`.

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
        norm_transport: Whether the transport moves the state divided by its root mean square over the channels,
            instead of the state. A learned transport of the state is a linear recurrence, which long rollouts let grow
            exponentially; with this a step's change does not grow with the state, and with ``step_size`` =
            ``num_steps ** -0.5`` changes that are independent add up to the size of one. There is no conveyor then.
        conveyor: An offset of the lattice whose neighbour's state a new cell takes over, at ``conveyor_rate``, see
            :meth:`set_conveyor`; ``None`` leaves the transport at zero.
        conveyor_rate: The share of the state that moves in a step.
        memory_channels: See :class:`Cell`. The memory is not transported at the start.
        context_channels: See :class:`Cell`; a linear map of the context is added to the positions.
        step_size, fire_rate, always_random, order, alive_channel, alive_threshold, backend: See :class:`Cell`.

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
    def __init__(
        self,
        lattice: Graph,
        channels: int = 64,
        *,
        hidden: int = 128,
        heads: int = 8,
        sharing: str = "shared",
        gate_std: float = 0.02,
        norm_transport: bool = False,
        conveyor: Sequence[int] | None = None,
        conveyor_rate: float = 0.25,
        memory_channels: int = 0,
        context_channels: int = 0,
        step_size: float = 1.0,
        fire_rate: float = 1.0,
        always_random: bool = False,
        order: str = "synchronous",
        alive_channel: int | None = None,
        alive_threshold: float = 0.1,
        backend: str = AUTO,
    ) -> None:
        super().__init__(
            lattice,
            channels,
            memory_channels=memory_channels,
            context_channels=context_channels,
            step_size=step_size,
            fire_rate=fire_rate,
            always_random=always_random,
            order=order,
            alive_channel=alive_channel,
            alive_threshold=alive_threshold,
            backend=backend,
        )
        if min(channels, hidden, heads) < 1 or hidden % heads:
            raise ValueError(
                "channels, hidden and heads must be positive and heads divide hidden, "
                f"got {channels}, {hidden}, {heads}"
            )
        if sharing not in SHARING:
            raise ValueError(f"sharing must be one of {SHARING}, got {sharing!r}")
        if gate_std < 0:
            raise ValueError(f"gate_std must not be negative, got {gate_std}")
        self.hidden, self.heads, self.sharing = hidden, heads, sharing
        self.gate_std, self.norm_transport = gate_std, norm_transport
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
        if context_channels:
            self.context_weight = nn.Parameter(torch.empty(channels, context_channels))
        self.register_buffer("layer", lattice.layer, persistent=False)
        self.cells_per_layer = torch.bincount(lattice.layer, minlength=lattice.num_layers).tolist()
        self.reset_parameters()
        self._steps: FusedSteps | None = None
        self._check_backend(backend)

    def reset_parameters(self) -> None:
        """Draw the random weights anew; the transport is left at zero, or at the conveyor."""
        nn.init.normal_(self.position, std=0.5)
        nn.init.uniform_(self.in_weight, -(self.channels**-0.5), self.channels**-0.5)
        nn.init.normal_(self.gate_weight, std=self.gate_std)
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
        set_shift(self.transport, direction, rate, num_channels=self.channels - self.memory_channels)

    def perceive(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The gated half of each cell, the gate that its neighbours set, and what the transport brings.

        Shapes:
            - **output:** twice ``[batch, num_nodes, hidden]``, and ``[batch, num_nodes, channels]``
        """
        u, v = self._uv(x, context).chunk(2, dim=-1)
        v = self._norm(v, self.gate_norm_weight, self.gate_norm_bias)
        gate_weight = self._per_node(self.gate_weight, 1).repeat_interleave(self.hidden // self.heads, dim=-1)
        gate = self._per_node(self.gate_bias) + self.neighbour_sum(v, gate_weight)
        if self.norm_transport:
            x = F.rms_norm(x, x.shape[-1:])
        return u, gate, self.neighbour_sum(x, self._per_node(self.transport, 1))

    def update(self, x: Tensor, perceived: tuple[Tensor, Tensor, Tensor], context: Tensor | None = None) -> Tensor:
        """The gated change, with the transport."""
        u, gate, moved = perceived
        return self._linear(u * gate.to(u.dtype), self.out_weight, self.out_bias) + moved

    def forward(self, x: Tensor, update_mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """One step of all the cells at once, see :meth:`Cell.forward`."""
        if not torch.compiler.is_compiling():
            self.settle(x, context=context is not None)
        if context is None and self.fuses(x) and not (update_mask is not None and update_mask.requires_grad):
            return self.walk(x, None if update_mask is None else update_mask[None], num_steps=1)[0]
        gated_step = self.neighbour_sum.running.gated_step(self.channels, self.hidden) if self.is_standard else None
        if gated_step is not None:
            return self._gated_step(gated_step, x, update_mask, context)
        return super().forward(x, update_mask, context)

    @property
    def is_standard(self) -> bool:
        """Whether a step is one that operators of whole steps compute: plain, with weights that all cells share and a
        transport of the state itself."""
        return self.sharing == "shared" and self.is_plain and not self.norm_transport

    def case(self, x: Tensor | None = None) -> Case:
        """What the cell asks of a backend, see :meth:`Cell.case`."""
        return replace(super().case(x), shared=self.sharing == "shared")

    def candidates(self, x: Tensor) -> list[Backend]:
        """The backends that can take a step from such a state, see :meth:`Cell.candidates`."""
        stepping = self.is_standard and FusedSteps.fits(x, self.channels, self.hidden)
        return [backend for backend in candidates(self.case(x)) if stepping or not backend.takes_steps]

    def use_fused(self) -> bool:
        """From here on take steps by the fused operator wherever it fits, see :meth:`fuses`, whether or not it is the
        fastest (see :meth:`compile_step`), unless another backend was asked for; whether that can be.

        It computes the same function in a compiled C++ library, built at its first use on a machine. Without a
        compiler a warning says so and nothing changes.
        """
        if self.backend == AUTO and self.is_standard:
            stepping = next((backend for backend in fitting_backends(self.case()) if backend.takes_steps), None)
            if stepping is not None and stepping.load():
                self.neighbour_sum.chosen, self._ways = stepping, None
        return self.is_standard and self.neighbour_sum.chosen.takes_steps

    def fuses(self, x: Tensor) -> bool:
        """Whether steps from such a state are taken by the fused operator."""
        chosen = self.neighbour_sum.chosen
        fits = chosen.takes_steps and self.is_standard and FusedSteps.fits(x, self.channels, self.hidden)
        return fits and not is_transformed() and chosen.load()

    def walk(
        self,
        x: Tensor,
        masks: Tensor | None,
        *,
        num_steps: int,
        remat_every: int = 0,
        cone: LightCone | None = None,
        lent: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Take several steps by the fused operator.

        Args:
            x: State for which :meth:`fuses` is true, ``[batch, num_nodes, channels]``; with a cone that of its first
                own cells.
            masks: Update masks, ``[num_steps, batch, num_nodes, 1]``.
            num_steps: Number of steps.
            remat_every: Keep for backward the state at every so many steps only; at 0 that of every step.
                Activations within a step are always computed again.
            cone: The cells to compute, all of them by default.
            lent: With a cone, the state of its first lent cells, ``[num_lent, channels]``.

        Returns:
            The last state, with a cone that of its last own cells, and that of its last lent cells.
        """
        if self._steps is None:
            self._steps = FusedSteps(self.lattice)
        gate_weight = self.gate_weight[:, 0].repeat_interleave(self.hidden // self.heads, dim=-1)
        parameters = [
            self.position,
            *(self.norm_weight[0], self.norm_bias[0], self.in_weight[0], self.in_bias[0]),
            *(self.gate_norm_weight[0], self.gate_norm_bias[0], gate_weight, self.gate_bias[0]),
            *(self.out_weight[0], self.out_bias[0], self.transport[:, 0]),
        ]
        if masks is not None and self.step_size != 1.0:
            masks = masks * self.step_size
        return self._steps.walk(
            x,
            masks,
            parameters,
            share=self.step_size * self.fire_rate,
            num_steps=num_steps,
            every=remat_every or 1,
            cone=cone,
            lent=lent,
        )

    @property
    def fits_cone(self) -> bool:
        """Whether :meth:`step_in_cone` takes the cell's step."""
        return self.is_plain

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
        lent_before = activate(self, lent, others.source, context)
        before = activate(self, own, ours.source, context).beside(lent_before.rows(ours.lender))
        rate = self.fire_rate * self.step_size
        share = rate if update_mask is None else update_mask.index_select(1, ours.target) * self.step_size
        return advance(self, before, ours, share), advance(self, lent_before, others, rate)

    def _gated_step(
        self, step: Callable[..., Tensor], x: Tensor, update_mask: Tensor | None, context: Tensor | None
    ) -> Tensor:
        uv = self._uv(x, context)
        # A rate is folded into the weights, which are small; only a mask has to reach the kernel.
        rate = self.step_size * (self.fire_rate if update_mask is None else 1.0)
        return step(
            uv,
            x,
            self.gate_norm_weight[0],
            self.gate_norm_bias[0],
            self.gate_weight.repeat_interleave(self.hidden // self.heads, dim=-1),
            self.gate_bias[0],
            (rate * self.out_weight[0]).to(uv.dtype),
            rate * self.out_bias[0],
            rate * self.transport,
            update_mask,
            self.neighbour_sum.neighbours,
        )

    def _uv(self, x: Tensor, context: Tensor | None) -> Tensor:
        h = x + self.position
        if context is not None:
            h = h + F.linear(context, self.context_weight)
        h = self._norm(h, self.norm_weight, self.norm_bias)
        return F.gelu(self._linear(h, self.in_weight, self.in_bias))

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the gMLP part, of the transport and of the learned positions."""
        total = sum(p.numel() for p in self.parameters())
        transport, positions = self.transport.numel(), self.position.numel()
        return {"gmlp": total - transport - positions, "transport": transport, "positions": positions}

    def _check_backend(self, name: str) -> None:
        super()._check_backend(name)
        if name == AUTO or not find_backend(name).takes_steps:
            return
        if not self.is_standard:
            raise ValueError(
                f"backend {name!r} takes plain steps only, got norm_transport={self.norm_transport}, "
                f"order={self.order!r}, alive_channel={self.alive_channel}"
            )
        if not find_backend(name).load():
            raise ValueError(f"backend {name!r} could not be built here")

    def _per_node(self, parameter: Tensor, dim: int = 0) -> Tensor:
        """A parameter of the groups as one of the nodes (or of all of them: size 1) along ``dim``."""
        return parameter.index_select(dim, self.layer) if self.sharing == "layer" else parameter

    def _norm(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if self.sharing == "shared":
            return F.layer_norm(x, x.shape[-1:], weight[0], bias[0])
        x = F.layer_norm(x, x.shape[-1:])
        return (x * self._per_node(weight) + self._per_node(bias)).to(x.dtype)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if self.sharing == "shared":
            return F.linear(x, weight[0], bias[0])
        if self.sharing == "layer":
            layers = x.split(self.cells_per_layer, dim=1)
            return torch.cat([F.linear(*part) for part in zip(layers, weight, bias, strict=True)], dim=1)
        return torch.bmm(x.transpose(0, 1), weight.transpose(1, 2)).transpose(0, 1) + bias
