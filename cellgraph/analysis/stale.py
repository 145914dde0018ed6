"""Stale graphs: a memory that was not detached, and the step it came from."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

#: Key of the steps' names in the metadata of autograd's nodes.
KEY = "cellgraph.analysis.step"


@dataclass(frozen=True)
class StaleGraph:
    """A step that was given a state whose graph has already been walked backward.

    Updates are counted by their backward passes, steps within an update, both from 0.

    Attributes:
        update: Update of the step that got the state.
        step: That step.
        from_update: Update whose graph the state still carries.
        from_step: The step in it that made the state.
    """

    update: int
    step: int
    from_update: int
    from_step: int

    def __str__(self) -> str:
        return (
            f"the state given to step {self.step} of update {self.update} still carries the graph of step "
            f"{self.from_step} of update {self.from_update}: detach the memory between updates"
        )


@dataclass
class _Step:
    update: int
    step: int
    spent: bool = False


class StaleGraphs:
    """Warns when a state takes the graph of one update into the next, before autograd says "backward through the graph
    a second time" without saying where.

    Each step leaves its name on the autograd node of its output. Where a step's input leads back to a named node that
    a backward pass has been through already, something was carried over.

    Args:
        cell: The module that takes the steps, one at a call. Where it takes whole rollouts in one piece, fused, nothing
            can be seen, and a warning says so.

    Raises:
        ValueError: If the cell is compiled: its steps cannot be told apart.

    Example:
        >>> cell = nn.Linear(2, 2)
        >>> memory = torch.zeros(2)
        >>> with warnings.catch_warnings(), StaleGraphs(cell) as carried:
        ...     warnings.simplefilter("ignore")
        ...     memory = cell(cell(memory))
        ...     memory.sum().backward()
        ...     memory = cell(memory)
        >>> carried.found
        [StaleGraph(update=1, step=0, from_update=0, from_step=1)]
    """

    def __init__(self, cell: nn.Module) -> None:
        if cell._compiled_call_impl is not None:
            raise ValueError(f"expected a cell that is not compiled, got a compiled {type(cell).__name__}")
        self.cell = cell
        #: What was carried over, in order.
        self.found: list[StaleGraph] = []

    def __enter__(self) -> StaleGraphs:
        self.found.clear()
        self._update, self._step, self._seen = 0, 0, False
        self._hooks = [
            self.cell.register_forward_pre_hook(self._before),
            self.cell.register_forward_hook(self._after),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        if not self._seen:
            warnings.warn("no step was seen: the cell was not called, or took its rollouts in one piece", stacklevel=2)

    def _before(self, cell: nn.Module, args: tuple[Any, ...]) -> None:
        self._seen = True
        if _in_backward() or not isinstance(args[0], Tensor):
            return
        spent = [step for step in _nearest_steps(args[0]) if step.spent]
        if spent:
            last = max(spent, key=lambda step: (step.update, step.step))
            self.found.append(StaleGraph(self._update, self._step, last.update, last.step))
            warnings.warn(str(self.found[-1]), stacklevel=2)

    def _after(self, cell: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        # A checkpointed step runs again in the backward pass: it has been counted.
        if _in_backward():
            return
        if isinstance(output, Tensor) and output.grad_fn is not None:
            step = _Step(self._update, self._step)
            _metadata(output.grad_fn)[KEY] = step
            output.grad_fn.register_prehook(lambda gradients: self._spend(step))
        self._step += 1

    def _spend(self, step: _Step) -> None:
        step.spent = True
        if step.update == self._update:
            self._update, self._step = self._update + 1, 0


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def _metadata(node: Node) -> dict[str, Any]:
    # torch declares a method where there is a dictionary.
    return cast(dict[str, Any], node.metadata)


def _nearest_steps(x: Tensor) -> list[_Step]:
    """The steps that a tensor was computed from without another step between."""
    waiting, seen, steps = [x.grad_fn], set(), []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if KEY in _metadata(node):
            steps.append(_metadata(node)[KEY])
        else:
            waiting += [before for before, _ in node.next_functions]
    return steps
