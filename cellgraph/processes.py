"""The processes that train one model together: which one this is, which rows are its share, and what all have.

They are started by torchrun, ``torchrun --nproc-per-node 2 -m cellgraph train ...``. All of them walk through the same
program; of every batch each has a share of the rows, and what is drawn at random is drawn for all rows and then shared,
so that the batches, the noise and the losses are those of one process.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

Result = TypeVar("Result")

#: While the first process embeds, trains the first stage or validates, the others wait, however long. One that is lost
#: is noticed by its connection, not by this.
PATIENCE = datetime.timedelta(days=7)

#: What the backends say when another process has gone.
_GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "remote process exited",
    "ncclRemoteError",
)

#: How many are within ``alone``; and the rows of the batch at hand, all processes' together.
_alone = 0
_total: int | None = None


class LostProcessError(ConnectionError):
    """One of the processes that train together has gone, so that the others cannot go on."""


def launched() -> int:
    """How many processes torchrun started together; 1 without it."""
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        return 1
    return int(os.environ["WORLD_SIZE"])


def join() -> None:
    """Meet the other processes that torchrun started, where it started several and that has not been done yet."""
    if launched() > 1 and not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "cpu:gloo", timeout=PATIENCE)


def check_device(kind: str) -> None:
    """Refuse a type of device that the processes cannot train on together.

    Raises:
        ValueError: If there is no way to exchange gradients, or fewer devices than processes on this machine.
    """
    if world() == 1:
        return
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"several processes train together on CPUs or on CUDA devices, got {kind!r}")
    if kind == "cuda" and torch.cuda.device_count() < on_this_machine():
        here = torch.cuda.device_count()
        raise ValueError(f"{on_this_machine()} processes on this machine need a CUDA device each, there are {here}")


def world() -> int:
    """How many processes train together; 1 where this one is by itself, or :func:`alone`."""
    return 1 if _alone or not dist.is_available() or not dist.is_initialized() else dist.get_world_size()


def rank() -> int:
    """Number of this process among them; the first one, 0, is the only one that writes."""
    return dist.get_rank() if world() > 1 else 0


def on_this_machine() -> int:
    """How many of them run on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if world() > 1 else 1


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within, this process works by itself, whatever the others do."""
    global _alone
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


def first_then_others(work: Callable[[], Result]) -> Result:
    """What a piece of work comes to, which finds what it left behind when it is done again: the first process does it
    by itself while the others wait, then they do.

    Raises:
        SystemExit: In the others, where it failed in the first, which says why.
    """
    if world() == 1:
        return work()
    result: Any = None
    if rank() == 0:
        failed = True
        try:
            with alone():
                result = work()
            failed = False
        finally:
            broadcast(failed)
        return result
    if broadcast(None):
        leave()
    with alone():
        return work()


def leave() -> NoReturn:
    """End this process once the first one has, which says why: torchrun ends all where one of them fails."""
    with contextlib.suppress(RuntimeError):
        broadcast(None)
    raise SystemExit(1)


def by_first(work: Callable[[], Result]) -> Result:
    """What a piece of work comes to in the first process, which does it by itself and tells the others."""
    if world() == 1:
        return work()
    result: Any = None
    if rank() == 0:
        with alone():
            result = work()
    return broadcast(result)


def broadcast(value: Any) -> Any:
    """What the first process has, in all of them: plain types."""
    if world() == 1:
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]


def all_have(value: Any) -> list[Any]:
    """What every process has, in their order: plain types and tensors on the CPU."""
    if world() == 1:
        return [value]
    held: list[Any] = [None] * world()
    dist.all_gather_object(held, value)
    return held


def check_shares(total: int) -> None:
    """Refuse a batch that cannot be shared.

    Raises:
        ValueError: If it has fewer rows than there are processes.
    """
    if total < world():
        raise ValueError(f"{world()} processes cannot share a batch of {total}: start fewer of them")


def share(total: int, number: int | None = None) -> slice:
    """The rows of a batch that are a process's: parts one after the other that differ in size by one at most.

    Args:
        total: How many rows there are.
        number: The process; this one by default.
    """
    number = rank() if number is None else number
    size, more = divmod(total, world())
    start = number * size + min(number, more)
    return slice(start, start + size + (number < more))


@contextlib.contextmanager
def sharing(total: int) -> Iterator[None]:
    """Within, the rows at hand are this process's :func:`share` of a batch of so many."""
    global _total
    before, _total = _total, total if world() > 1 else None
    try:
        yield
    finally:
        _total = before


def drawn(
    draw: Callable[..., Tensor], shape: Sequence[int], *, dim: int = 0, like: Tensor | None = None, **options: Any
) -> Tensor:
    """Random numbers for the rows at hand, and the same for each row however many processes share the batch.

    Args:
        draw: :func:`torch.rand`, :func:`torch.randn` or the like.
        shape: The shape for the rows at hand.
        dim: The axis of the rows.
        like: A tensor of the device and the dtype that are wanted.
        options: Of ``draw``.
    """
    if like is not None:
        options |= {"device": like.device, "dtype": like.dtype}
    if _total is None or shape[dim] != _length(share(_total)):
        return draw(*shape, **options)
    whole = draw(*shape[:dim], _total, *shape[dim + 1 :], **options)
    return whole[(slice(None),) * dim + (share(_total),)]


def gathered(rows: Tensor) -> Tensor:
    """The rows that all processes have of a batch, in their order, with gradient; outside of :func:`sharing` those
    that are given.

    Every process is taken to make the same loss of all the rows. Its gradient comes back to each one's own rows times
    the number of processes, as gradients of parameters are averaged over them afterwards.

    Shapes:
        - **rows:** ``[rows, ...]``, of as many rows as each process has
        - **output:** ``[all_rows, ...]``
    """
    return rows if _total is None else _Gather.apply(rows)


@contextlib.contextmanager
def noticed(kept: Callable[[], str]) -> Iterator[None]:
    """Within, it is told in one line that another process has gone.

    Args:
        kept: Tells what there is to go on from.

    Raises:
        LostProcessError: Where one has.
    """
    try:
        yield
    except RuntimeError as error:
        count = max(world(), launched())
        if count == 1 or not any(words in str(error) for words in _GONE):
            raise
        told = f"one of the {count} processes that train together has gone: the others stop; {kept()}"
        raise LostProcessError(told) from error


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        own = torch.tensor([len(rows)], device=rows.device)
        counts = [torch.empty_like(own) for _ in range(world())]
        dist.all_gather(counts, own)
        ctx.sizes = [int(count) for count in counts]
        longest = max(ctx.sizes)
        # Collectives take equal shapes.
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in ctx.sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, ctx.sizes, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.split(ctx.sizes)[rank()] * world()


def _length(part: slice) -> int:
    return part.stop - part.start
