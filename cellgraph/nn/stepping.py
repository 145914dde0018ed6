"""Stepping: the ways in which a cell's steps can be taken, and the choice of the fastest."""

from __future__ import annotations

import shutil
import warnings
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from cellgraph.cone import ConeStep, LightCone
from cellgraph.graph import Graph
from cellgraph.nn.trial import Ways
from cellgraph.ops import Backend, Case, NeighbourSum, candidates, check_backend
from cellgraph.ops.fused.build import find_compiler

if TYPE_CHECKING:
    from cellgraph.nn.cell import Cell


class Stepping(nn.Module):
    """What a cell knows of its steps but what they compute: on what backend, compiled or not, several at once or one.

    Args:
        lattice: The lattice, or other graph, that the cells sit on.
        backend: Backend of the neighbour sums, see :class:`~cellgraph.nn.NeighbourSum`.
    """

    def __init__(self, lattice: Graph, *, backend: str) -> None:
        super().__init__()
        self.lattice: Any = lattice
        self.neighbour_sum = NeighbourSum(lattice, backend=backend)
        self._ways: Ways | None = None
        self._taken = ""

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
        if self.device.type == "cpu" and not (find_compiler() or shutil.which("cl")):
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
            self._taken = ways.take(cast("Cell", self), x, cone=cone, context=context)
        finally:
            self._ways = ways

    @property
    def taken(self) -> str:
        """How the last steps were taken and what else was tried, in words; empty where nothing was chosen."""
        return self._taken

    @property
    def will_compile(self) -> bool:
        """Whether full rollouts run compiled, or will when there are any, as no operator of whole steps fits."""
        will = self._ways is not None and self._ways.will_compile(cast("Cell", self))
        return self._compiled_call_impl is not None or will

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
            update_mask: See :meth:`Cell.forward`, for all the cells.
            context: See :meth:`Cell.forward`, for all the cells; one for all samples where cells are lent.

        Returns:
            Both states after the step.
        """
        raise NotImplementedError

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
        """Take several steps at once, where :meth:`fuses` says so.

        Args:
            x: State, ``[batch, num_nodes, channels]``; with a cone that of its first own cells.
            masks: Update masks, ``[num_steps, batch, num_nodes, 1]``.
            num_steps: Number of steps.
            remat_every: Keep for backward the state at every so many steps only; at 0 that of every step.
                Activations within a step are always computed again.
            cone: The cells to compute, all of them by default.
            lent: With a cone, the state of its first lent cells, ``[num_lent, channels]``.

        Returns:
            The last state, with a cone that of its last own cells, and that of its last lent cells.
        """
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        # A copy is not compiled, as it is with every module, and keeps the backend.
        return {**super().__getstate__(), "_ways": None, "_taken": ""}

    def _check_backend(self, name: str) -> None:
        check_backend(name, self.case())
