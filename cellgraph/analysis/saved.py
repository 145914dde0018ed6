"""Saved tensors: what autograd holds until the backward pass, step by step."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

#: Packages whose lines are not where a user would look for what keeps a tensor.
INNER = ("torch", "torch_geometric")


@dataclass(frozen=True)
class SavedTensor:
    """A tensor that autograd holds for the backward pass.

    Attributes:
        step: Number of steps that the cell had finished when it was kept.
        shape: Shape it was kept in.
        dtype: Its type.
        num_bytes: Bytes that stay allocated for it: its whole storage, even where it is a small view.
        place: Module, line and function that computed with it.
    """

    step: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    num_bytes: int
    place: str


class SavedTensors:
    """Lists the tensors that a forward pass keeps for its backward pass, by
    `saved tensor hooks <https://docs.pytorch.org/docs/stable/autograd.html#saved-tensors-hooks-doc>`_.

    A storage counts once, at the first step that keeps it, and the module's own parameters and buffers do not count:
    they are there anyway. Steps are told apart where the cell is called step by step; a rollout in one piece, fused or
    compiled, is booked on step 0 as a whole. Use it around one forward pass.

    Args:
        cell: The module that takes the steps.

    Example:
        >>> from cellgraph import GMLPCell, Lattice, rollout
        >>> cell = GMLPCell(Lattice((4, 4)), channels=8, hidden=8)
        >>> with SavedTensors(cell) as kept:
        ...     run = rollout(cell, torch.randn(1, 16, 8), num_steps=3)
        >>> len(kept.bytes_per_step())
        3
    """

    def __init__(self, cell: nn.Module) -> None:
        self.cell = cell
        #: What was kept, in order.
        self.tensors: list[SavedTensor] = []

    def __enter__(self) -> SavedTensors:
        self.tensors.clear()
        self._steps = 0
        self._seen = {t.untyped_storage().data_ptr() for t in (*self.cell.parameters(), *self.cell.buffers())}
        self._counter = None if _is_compiled(self.cell) else self.cell.register_forward_hook(self._count)
        self._hooks = saved_tensors_hooks(self._pack, lambda kept: kept)
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)
        if self._counter is not None:
            self._counter.remove()

    def bytes_per_step(self) -> list[int]:
        """Bytes kept in each step."""
        total = Counter[int]()
        for tensor in self.tensors:
            total[tensor.step] += tensor.num_bytes
        return [total[step] for step in range(max(total, default=-1) + 1)]

    def bytes_per_place(self) -> dict[str, int]:
        """Bytes kept by each line of the program, the greediest first."""
        total = Counter[str]()
        for tensor in self.tensors:
            total[tensor.place] += tensor.num_bytes
        return dict(total.most_common())

    def __str__(self) -> str:
        steps = self.bytes_per_step()
        most = max(steps, default=0)
        heading = f"{sum(steps):,} bytes kept for backward in {len(steps)} steps, at most {most:,} a step"
        return "\n".join([heading, *(f"{size:>15,}  {place}" for place, size in self.bytes_per_place().items())])

    def _count(self, cell: nn.Module, args: tuple[object, ...], output: object) -> None:
        self._steps += 1

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            kept = SavedTensor(self._steps, tuple(tensor.shape), tensor.dtype, storage.nbytes(), _place())
            self.tensors.append(kept)
        # An operation that keeps its own output would be kept by it, too, and both for ever.
        return tensor.detach()


def _is_compiled(cell: nn.Module) -> bool:
    # A hook on a compiled module would be compiled with it.
    return cell._compiled_call_impl is not None


def _place() -> str:
    frame = sys._getframe(2)
    while _is_inner(str(frame.f_globals.get("__name__"))) and frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_globals.get('__name__')}:{frame.f_lineno} {frame.f_code.co_name}"


def _is_inner(module: str) -> bool:
    return module == __name__ or module.partition(".")[0] in INNER
