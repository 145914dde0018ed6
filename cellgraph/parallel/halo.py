"""The halo: the outermost rows of neighbouring processes, exchanged while something else is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Line:
    """Processes in a row, each with a neighbour before and one after it, but at open ends.

    Attributes:
        rank: Number of this process in the row.
        size: How many there are.
        periodic: Whether the last one is before the first.
        group: The group of PyTorch's that they are; all processes by default.
    """

    rank: int
    size: int
    periodic: bool = False
    group: Any = None

    @property
    def before(self) -> int | None:
        """The process before this one, ``None`` at an open end."""
        return self._at(self.rank - 1)

    @property
    def after(self) -> int | None:
        """The process after this one."""
        return self._at(self.rank + 1)

    def _at(self, rank: int) -> int | None:
        return rank % self.size if self.periodic or 0 <= rank < self.size else None


class Sides(NamedTuple):
    """Numbers of rows: those that go to a neighbour, or come from it; 0 where there is none."""

    before: int
    after: int


class Exchange:
    """One exchange of outermost rows with both neighbours, forward and, of their gradients, backward.

    Every process begins it, computes what needs no halo, and ends it: the rows travel in between. Backward it is the
    same the other way round: gradients of the halo set out as soon as they are known, are on their way while the
    gradient of what was computed in between is taken, and are added to those of the rows that had been sent. All
    processes walk backward, those on whose cells nothing depends with a gradient of zero.

    Args:
        line: Where this process is.
        own: How many of its first rows go to the neighbour before, and of its last ones to that after it.
        halo: How many come from the neighbour before, and from that after it.

    Example:
        >>> ring = Exchange(Line(0, 1, periodic=True), Sides(1, 1), Sides(1, 1))
        >>> x = torch.tensor([[[1.0], [2.0], [3.0]]])
        >>> before, after = ring.end(ring.begin(x))
        >>> before.item(), after.item()
        (3.0, 1.0)
    """

    def __init__(self, line: Line, own: Sides, halo: Sides) -> None:
        self.line, self.own, self.halo = line, own, halo
        self._works: list[Any] = []
        self._sent: tuple[Tensor, ...] = ()
        self._received: tuple[Tensor, Tensor] | None = None

    def begin(self, x: Tensor) -> Tensor:
        """Send the outermost rows of ``x``, ``[batch, rows, channels]``; what comes back is to be given to
        :meth:`end`."""
        rows = x.size(1)
        first, last = x.narrow(1, 0, self.own.before), x.narrow(1, rows - self.own.after, self.own.after)
        # Every process takes part backward, whether or not its own first state has a gradient.
        mark = x.new_zeros(()).requires_grad_(torch.is_grad_enabled())
        return _Begin.apply(self, first, last, mark)

    def end(self, begun: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of the neighbours before and after, ``[batch, halo rows, channels]``, of no rows at open ends."""
        return _End.apply(self, begun)

    def start(self, first: Tensor, last: Tensor, sizes: Sides) -> None:
        """Send two blocks of rows, and take two of these sizes."""
        received = tuple(first.new_empty(first.size(0), size, first.size(2)) for size in sizes)
        before, after, group = self.line.before, self.line.after, self.line.group
        self._sent = first, last = first.contiguous(), last.contiguous()
        self._received = received[0], received[1]
        if self.line.size == 1:
            if before is not None:
                received[0].copy_(last)
                received[1].copy_(first)
            return
        # Of two neighbours that are one process, messages come in the order in which they were sent: what goes to the
        # neighbour before is the first, so what comes from that after is.
        told: list[tuple[Any, Tensor, int | None]] = [(dist.isend, first, before), (dist.isend, last, after)]
        told += [(dist.irecv, received[1], after), (dist.irecv, received[0], before)]
        exchanged = [
            dist.P2POp(operation, block, group=group, group_peer=peer)
            for operation, block, peer in told
            if peer is not None and block.numel()
        ]
        self._works = dist.batch_isend_irecv(exchanged) if exchanged else []

    def finish(self) -> tuple[Tensor, Tensor]:
        """What has come."""
        for work in self._works:
            work.wait()
        assert self._received is not None
        received, self._works, self._sent, self._received = self._received, [], (), None
        return received


class _Begin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exchange: Exchange, first: Tensor, last: Tensor, mark: Tensor) -> Tensor:
        ctx.exchange = exchange
        exchange.start(first, last, exchange.halo)
        return first.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor, None]:
        return None, *ctx.exchange.finish(), None


class _End(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exchange: Exchange, begun: Tensor) -> tuple[Tensor, Tensor]:
        ctx.exchange = exchange
        return exchange.finish()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, before: Tensor, after: Tensor) -> tuple[None, Tensor]:
        ctx.exchange.start(before, after, ctx.exchange.own)
        return None, before.new_zeros(())


class Total(torch.autograd.Function):
    """The sum over processes of what each has; its gradient is everybody's."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: Any) -> Tensor:
        total = value.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
