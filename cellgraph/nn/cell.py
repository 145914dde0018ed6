"""The cell: what every small shared network on a node has in common."""

from __future__ import annotations

import copy
import inspect
import shutil
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from cellgraph.cone import ConeStep, LightCone
from cellgraph.graph import Graph
from cellgraph.nn.trial import Ways
from cellgraph.numbers import plain_numbers
from cellgraph.ops import AUTO, Backend, Case, NeighbourSum, candidates, check_backend

if TYPE_CHECKING:
    from typing_extensions import Self

ORDERS = ("synchronous", "sequential")


class Cell(nn.Module):
    r"""A small network that sits on every node: it perceives the neighbourhood and says how its state changes.

    .. math::
        z_i &= \mathrm{perceive}(x)_i \\
        x_i &\leftarrow x_i + m_i \, \epsilon \, \mathrm{update}(x, z)_i

    A cell of your own is a subclass with the two halves of an update, :meth:`perceive` and :meth:`update`; it has a
    ``neighbour_sum``, a :class:`~cellgraph.nn.NeighbourSum`, for the first. Rollouts, checkpointing, compilation,
    random updates, pools and pictures come with it.

    Args:
        lattice: The lattice, or other graph, that the cells sit on.
        channels: Channels of the state, the memory included.
        memory_channels: How many channels, the last ones, outlive a rollout.
        context_channels: Width of what cells are given beside their state, see :meth:`forward`.
        step_size: The factor :math:`\epsilon` of all changes.
        fire_rate: Probability :math:`m_i = 1` that a cell updates at a step in training (asynchronous updates,
            `Mordvintsev et al. 2020 <https://distill.pub/2020/growing-ca/>`_, "Stochastic cell update"); in evaluation
            every cell takes the expected update, :math:`m_i` = ``fire_rate``.
        always_random: Whether updates are random in evaluation too.
        order: ``"synchronous"``: all cells update at once; ``"sequential"``: within a step, classes of cells that do
            not hear one another update one after the other, so that each sees what those before it have become (fully
            asynchronous, in the fixed order of a `graph colouring <https://en.wikipedia.org/wiki/Graph_coloring>`_).
        alive_channel: The channel that says whether a cell lives: one is dead, and its state zero, unless it or a
            neighbour is above ``alive_threshold`` both before and after the update (the same source, "Living cell
            masking"); ``None`` keeps all alive.
        alive_threshold: That threshold.
        backend: Backend of the neighbour sums, see :class:`~cellgraph.nn.NeighbourSum`.

    Shapes:
        - **x:** ``[batch, num_nodes, channels]``
        - **output:** ``[batch, num_nodes, channels]``, in the dtype of ``x``

    Raises:
        ValueError: If a width, rate, channel or name is out of range.

    Example:
        >>> class Heat(Cell):
        ...     def perceive(self, x, context=None):
        ...         weight = x.new_ones(self.lattice.num_directions + 1, 1, self.channels)
        ...         return self.neighbour_sum(x, weight) / len(weight)
        ...
        ...     def update(self, x, perceived, context=None):
        ...         return perceived - x
        >>> from cellgraph import Lattice
        >>> Heat(Lattice((3,), boundary="periodic"), 1)(torch.tensor([[[3.0], [0.0], [0.0]]])).flatten()
        tensor([1., 1., 1.])
    """

    colour_masks: Tensor

    #: The kinds of cells that are known, by name: the library's by the class's, all others with their module's before
    #: it. What is saved names its kind, and is built again where that kind was defined or imported.
    kinds: ClassVar[dict[str, type[Cell]]] = {}

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        Cell.kinds[cls.kind()] = cls

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """Note the arguments, so that the cell can be built again."""
        cell = super().__new__(cls)
        object.__setattr__(cell, "_arguments", (arguments, options))
        return cell

    @classmethod
    def kind(cls) -> str:
        """The name of this kind of cell among :attr:`kinds`."""
        return cls.__name__ if cls.__module__.startswith("cellgraph.") else f"{cls.__module__}.{cls.__qualname__}"

    @plain_numbers
    def __init__(
        self,
        lattice: Graph,
        channels: int,
        *,
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
        super().__init__()
        self.lattice: Any = lattice
        self.neighbour_sum = NeighbourSum(lattice, backend=backend)
        if channels < 1:
            raise ValueError(f"channels must be positive, got {channels}")
        if not 0 <= memory_channels < channels:
            raise ValueError(f"memory_channels must leave a channel of the {channels} free, got {memory_channels}")
        if context_channels < 0:
            raise ValueError(f"context_channels must not be negative, got {context_channels}")
        if not 0.0 < fire_rate <= 1.0:
            raise ValueError(f"fire_rate must be in (0, 1], got {fire_rate}")
        if order not in ORDERS:
            raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
        if alive_channel is not None and not 0 <= alive_channel < channels:
            raise ValueError(f"alive_channel must be one of the {channels} channels, got {alive_channel}")
        self.channels, self.memory_channels, self.context_channels = channels, memory_channels, context_channels
        self.step_size, self.fire_rate, self.always_random = step_size, fire_rate, always_random
        self.order, self.alive_channel, self.alive_threshold = order, alive_channel, alive_threshold
        self._ways: Ways | None = None
        self._taken = ""
        if order == "sequential":
            colours = lattice.colours()
            masks = colours == torch.arange(int(colours.max()) + 1)[:, None]
            self.register_buffer("colour_masks", masks[:, :, None], persistent=False)

    def perceive(self, x: Tensor, context: Tensor | None = None) -> Any:
        """What the cells take in of their neighbours.

        Args:
            x: State, ``[batch, num_nodes, channels]``.
            context: See :meth:`forward`.

        Returns:
            Whatever :meth:`update` wants.
        """
        raise NotImplementedError

    def update(self, x: Tensor, perceived: Any, context: Tensor | None = None) -> Tensor:
        """The change of the state, ``[batch, num_nodes, channels]``.

        Args:
            x: State, ``[batch, num_nodes, channels]``.
            perceived: What :meth:`perceive` returned.
            context: See :meth:`forward`.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, update_mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """One step of all the cells.

        Args:
            x: State of the cells, ``[batch, num_nodes, channels]``.
            update_mask: Which cells update, ``[batch, num_nodes, 1]``; all of them, at the expected
                ``fire_rate``, when absent.
            context: What cells are given beside their state and do not change: a goal or task for all of them,
                ``[batch, 1, context_channels]``, or a substrate or a clamped input, one for each,
                ``[batch or 1, num_nodes, context_channels]``.
        """
        if not torch.compiler.is_compiling():
            self._check_context(x, context)
            self.settle(x, context=context is not None)
        for share in self._shares(x, update_mask):
            change = self.update(x, self.perceive(x, context), context)
            after = x + (change * share).to(x.dtype)
            x = after if self.alive_channel is None else after * (self.alive(x) & self.alive(after))
        return x

    def alive(self, x: Tensor) -> Tensor:
        """Whether each cell, or a neighbour, is above the threshold, ``[batch, num_nodes, 1]``."""
        own = (x.detach()[..., self.alive_channel] > self.alive_threshold).to(x.dtype)
        source, target = self.edge_index
        return (own.index_add(1, target, own[:, source]) > 0)[..., None]

    @property
    def edge_index(self) -> Tensor:
        """Sources and targets of the edges, ``[2, num_edges]``, on the cell's device."""
        return self.neighbour_sum.edge_index

    @property
    def edge_direction(self) -> Tensor:
        """Direction of each edge, ``[num_edges]``, on the cell's device."""
        return self.neighbour_sum.edge_direction

    @property
    def edge_weight(self) -> Tensor | None:
        """Fixed factor of what each edge carries, ``[num_edges]``, on the cell's device; or ``None``."""
        return self.neighbour_sum.edge_weight

    @property
    def device(self) -> torch.device:
        """Where the cell is, whether or not it has parameters."""
        return self.edge_index.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters, and of states; PyTorch's default of a cell without any."""
        found = (parameter.dtype for parameter in self.parameters() if parameter.is_floating_point())
        return next(found, torch.get_default_dtype())

    @property
    def backend(self) -> str:
        """Name of the backend that was asked for, ``auto`` if none; setting it undoes any choice."""
        return self.neighbour_sum.backend

    @backend.setter
    def backend(self, name: str) -> None:
        self._check_backend(name)
        self.neighbour_sum.backend = name
        self._ways, self._taken, self._compiled_call_impl = None, "", None

    def case(self, x: Tensor | None = None) -> Case:
        """What the cell asks of a backend: with such a state, or with any."""
        return Case(self.lattice, dtype=None if x is None else x.dtype, device=None if x is None else x.device)

    def candidates(self, x: Tensor) -> list[Backend]:
        """The backends that can take a step from such a state, those first that should be the fastest.

        To have one in the place of ``auto``, set ``neighbour_sum.chosen``.
        """
        return [backend for backend in candidates(self.case(x)) if not backend.takes_steps]

    def compile_step(self, *, compiling: bool = True) -> None:
        """Make the step fast, in place: from here on ``auto`` is what is measured to be the fastest.

        That is tried when it is first used for a dtype, forward or in training, see :class:`~cellgraph.nn.trial.Trial`,
        and remembered on the machine, see :func:`~cellgraph.ops.choice.kept_choices`. A cell with a backend of its own
        choice keeps it, and is compiled with it where that is of use. Without a compiler a warning says so, and what
        needs none is tried.

        Args:
            compiling: Whether to try, or to take, what takes a minute or two to compile.
        """
        if self.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
            warnings.warn("a fast step needs a C++ compiler, found none: the step runs uncompiled", stacklevel=2)
            compiling = False
        self._ways, self._taken = Ways(compiling=compiling), ""

    def settle(self, x: Tensor, *, cone: LightCone | None = None, context: bool = False) -> None:
        """Take steps from such a state from here on in the fastest way, where :meth:`compile_step` was asked for that.

        Args:
            x: The state.
            cone: The cells to compute, all of them by default.
            context: Whether the cells are given a context.
        """
        if self._ways is None or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        if torch._C._are_functorch_transforms_active():
            return
        # What is tried takes steps itself.
        ways, self._ways = self._ways, None
        try:
            self._taken = ways.take(self, x, cone=cone, context=context)
        finally:
            self._ways = ways

    @property
    def taken(self) -> str:
        """How the last steps were taken and what else was tried, in words; empty where nothing was chosen."""
        return self._taken

    @property
    def will_compile(self) -> bool:
        """Whether full rollouts run compiled, or will when there are any, as no operator of whole steps fits."""
        return self._compiled_call_impl is not None or (self._ways is not None and self._ways.will_compile(self))

    def __getstate__(self) -> dict[str, Any]:
        # A copy is not compiled, as it is with every module, and keeps the backend.
        return {**super().__getstate__(), "_ways": None, "_taken": ""}

    @property
    def fits_cone(self) -> bool:
        """Whether :meth:`step_in_cone` takes the cell's step; a cell of one's own may say so and take it."""
        return False

    def step_in_cone(
        self,
        own: Tensor,
        lent: Tensor,
        tables: tuple[ConeStep, ConeStep],
        update_mask: Tensor | None = None,
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One step of the cells of a light cone, see :class:`~cellgraph.cone.LightCone`.

        Args:
            own: State of the cells that may differ by sample, ``[batch, num_own, channels]``.
            lent: State of those that do not, ``[1, num_lent, channels]``.
            tables: Those of the step for both.
            update_mask: See :meth:`forward`, for all the cells.
            context: See :meth:`forward`, for all the cells; one for all samples where cells are lent.

        Returns:
            Both states after the step.
        """
        raise NotImplementedError

    def use_fused(self) -> bool:
        """From here on leave whole rollouts to :meth:`walk` where that can be; whether it can."""
        return False

    def fuses(self, x: Tensor) -> bool:
        """Whether whole rollouts from such a state are left to :meth:`walk`."""
        return False

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
        """Take several steps at once, where :meth:`fuses` says so."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """The constructor's arguments but the lattice, as plain types.

        They are those that the cell was built with, and where it keeps one under the argument's name as it is now.
        """
        given = self._given().items()
        return {name: self._as_now(name, value) for name, value in given if not isinstance(value, (Graph, Cell))}

    def on(self, lattice: Graph) -> Self:
        """The same cell on another lattice.

        It is built with the same arguments and has a copy of the weights, on the same device and of the same dtype;
        weights that another lattice gives another shape, such as those of each node, are new.

        Args:
            lattice: A lattice with the same directions.

        Raises:
            ValueError: If the cell was not given its lattice, so that it cannot be given another.

        Example:
            >>> from cellgraph import GMLPCell, Lattice
            >>> cell = GMLPCell(Lattice((4, 4)), 8, hidden=8).on(Lattice((6, 6)))
            >>> cell.lattice.shape, cell.position.shape
            ((6, 6), torch.Size([36, 8]))
        """
        arguments: dict[str, Any] = {}
        moved = False
        for name, value in self._given().items():
            if value is self.lattice:
                arguments[name], moved = lattice, True
            elif isinstance(value, Cell):
                arguments[name], moved = value.on(lattice), True
            else:
                arguments[name] = copy.deepcopy(self._as_now(name, value))
        if not moved:
            raise ValueError(f"{type(self).__name__} made its lattice itself: it cannot be built on another")
        other = type(self)(**arguments).to(self.device, self.dtype).train(self.training)
        there, here = other.state_dict(), self.state_dict()
        same = {name for name, value in here.items() if name in there and there[name].shape == value.shape}
        other.load_state_dict({name: here[name] for name in same}, strict=False)
        trained = {name: parameter.requires_grad for name, parameter in self.named_parameters()}
        for name, parameter in other.named_parameters():
            parameter.requires_grad_(trained.get(name, True))
        return other

    def _given(self) -> dict[str, Any]:
        """The constructor's arguments by name, as they were given."""
        arguments, options = self._arguments
        bound = inspect.signature(type(self).__init__).bind(self, *arguments, **options)
        bound.apply_defaults()
        given: dict[str, Any] = {}
        for name, value in list(bound.arguments.items())[1:]:
            # What a cell hands on as **options are arguments like the others.
            passed_on = bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            given |= value if passed_on else {name: value}
        return given

    def _as_now(self, name: str, given: Any) -> Any:
        now = getattr(self, name, given)
        # Under an argument's name a cell may well keep the module that it has built by it.
        if isinstance(now, (Tensor, nn.Module)) or callable(now):
            now = given
        return list(now) if isinstance(now, tuple) else now

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters, by part of the cell."""
        return {"cell": sum(parameter.numel() for parameter in self.parameters())}

    def extra_repr(self) -> str:
        return f"{self.lattice}, " + ", ".join(f"{name}={value}" for name, value in self.config().items())

    @property
    def is_plain(self) -> bool:
        """Whether a step is no more than a change added at once: all update at once and nobody dies."""
        return self.order == "synchronous" and self.alive_channel is None

    def _check_backend(self, name: str) -> None:
        check_backend(name, self.case())

    def _shares(self, x: Tensor, update_mask: Tensor | None) -> Iterator[Tensor | float]:
        """What share of the change the cells take, for each part of a step."""
        share = (self.fire_rate if update_mask is None else update_mask) * self.step_size
        if self.order == "synchronous":
            yield share
        else:
            for mask in self.colour_masks:
                yield mask.to(x.dtype) * share

    def _check_context(self, x: Tensor, context: Tensor | None) -> None:
        if context is None:
            if self.context_channels:
                raise ValueError(f"context must be [batch, 1 or {x.size(1)}, {self.context_channels}], got none")
            return
        fits = context.dim() == 3 and context.size(0) in (1, x.size(0)) and context.size(1) in (1, x.size(1))
        if not fits or context.size(2) != self.context_channels:
            wanted = [x.size(0), f"1 or {x.size(1)}", self.context_channels]
            raise ValueError(f"context must be {wanted}, got {list(context.shape)}")
