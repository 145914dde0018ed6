"""The split: a lattice in slabs along its depth, one for each process, and a cell on all of them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.func import functional_call

from cellgraph.lattice import Lattice
from cellgraph.nn import Cell
from cellgraph.numbers import plain_numbers
from cellgraph.parallel.halo import Exchange, Line, Sides, Total

#: Parameters with a row for each cell.
BY_NODE = ("position",)


class DepthSplit:
    """A lattice in slabs along its first axis, one for each process, none of which has to hold it whole.

    Args:
        shape: See :class:`~cellgraph.Lattice`, of the whole lattice, as the other arguments are.
        neighbourhood: Likewise.
        boundary: Likewise.
        mask: Likewise.
        mesh: A mesh of devices of one dimension, such as ``init_device_mesh("cpu", (4,))["depth"]``: its processes,
            in their order, have the slabs. By default, all processes, or this one where there are no others.

    Attributes:
        layers: The first layer of this process and the one after its last.
        nodes: The same in nodes of the whole lattice.

    Raises:
        ValueError: If a process would have no layer, a slab no cell, or the lattice is none.
    """

    @plain_numbers
    def __init__(
        self,
        shape: Sequence[int],
        neighbourhood: int | Sequence[Sequence[int]] | None = None,
        *,
        boundary: str | Sequence[str] = "open",
        mask: Any = None,
        mesh: DeviceMesh | None = None,
    ) -> None:
        self.shape, self.neighbourhood = tuple(shape), neighbourhood
        per_axis = (boundary,) * len(self.shape) if isinstance(boundary, str) else tuple(boundary)
        self.radius = Lattice([1] * len(self.shape), neighbourhood).radius
        # What is wrong with the axes is so on a lattice that is no larger than it must be.
        Lattice([min(size, 2 * self.radius + 1) for size in self.shape], neighbourhood, boundary=boundary)
        self.boundary = per_axis
        self.mask = None if mask is None else torch.as_tensor(mask, dtype=torch.bool)
        group = mesh.get_group() if mesh is not None else None
        together = dist.is_available() and dist.is_initialized()
        rank, size = (dist.get_rank(group), dist.get_world_size(group)) if together else (0, 1)
        self.line = Line(rank, size, per_axis[0] == "periodic", group)
        if self.shape[0] < size:
            raise ValueError(f"{size} processes need a layer each, the lattice {self.shape} has {self.shape[0]}")
        #: Where each process's layers begin, and where the last one's end.
        self.bounds = [number * self.shape[0] // size for number in range(size + 1)]
        # Every process looks at all slabs, so that all refuse together and none waits for another.
        if self.mask is not None:
            if tuple(self.mask.shape) != self.shape:
                raise ValueError(f"mask must have the shape of the lattice {self.shape}, got {tuple(self.mask.shape)}")
            empty = [f"{a} to {b - 1}" for a, b in itertools.pairwise(self.bounds) if not self.mask[a:b].any()]
            if empty:
                raise ValueError(
                    f"each of {size} processes needs a cell, the mask leaves none in layers {', '.join(empty)}"
                )
        self.layers = self.bounds[rank], self.bounds[rank + 1]
        self.nodes = self.rows(0, self.layers[0]), self.rows(0, self.layers[1])

    def rows(self, first: int, last: int) -> int:
        """How many cells the layers from one to before another have, counted around a periodic end."""
        if self.mask is not None:
            return int(self._layers_of(self.mask, first, last).sum())
        return (last - first) * int(torch.tensor(self.shape[1:]).prod())

    def lattice(self, first: int, last: int) -> Lattice:
        """The lattice of some layers, open at its ends."""
        mask = None if self.mask is None else self._layers_of(self.mask, first, last)
        boundary = ("open", *self.boundary[1:])
        return Lattice((last - first, *self.shape[1:]), self.neighbourhood, boundary=boundary, mask=mask)

    def exchange(self, width: int) -> Exchange:
        """An exchange of so many layers with both neighbours.

        Raises:
            ValueError: If a slab is thinner than that.
        """
        thinnest = min(end - begin for begin, end in zip(self.bounds, self.bounds[1:], strict=False))
        if thinnest < width:
            raise ValueError(
                f"cells hear {width} layers in a step, and of {self.line.size} slabs of the {self.shape[0]} layers the "
                f"thinnest has {thinnest}: start fewer processes"
            )
        first, last = self.layers
        before, after = self.line.before is not None, self.line.after is not None
        own = Sides(before * self.rows(first, first + width), after * self.rows(last - width, last))
        halo = Sides(before * self.rows(first - width, first), after * self.rows(last, last + width))
        return Exchange(self.line, own, halo)

    @property
    def has_lone_cells(self) -> bool:
        """Whether the slab of any process is a single cell."""
        return any(self.rows(*pair) == 1 for pair in itertools.pairwise(self.bounds))

    def own(self, x: Tensor, dim: int = 1) -> Tensor:
        """This process's rows of something that the whole lattice has a row for each cell of."""
        return x.narrow(dim, self.nodes[0], self.nodes[1] - self.nodes[0])

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes of a value such as a loss of one's own cells; its gradient is each one's own.

        All of them must walk backward from it, those without a part in the loss from zero times their states.
        """
        return value if self.line.size == 1 else Total.apply(value, self.line.group)

    def __repr__(self) -> str:
        first, last = self.layers
        return f"DepthSplit({self.shape}, layers {first} to {last} in process {self.line.rank} of {self.line.size})"

    def _layers_of(self, mask: Tensor, first: int, last: int) -> Tensor:
        return mask.index_select(0, torch.arange(first, last) % self.shape[0])


class SplitCell(nn.Module):
    """A cell on a lattice whose slabs are different processes'; forward and backward as on the whole.

    At every step each process sends its outermost layers to its neighbours and computes its slab as if it were alone,
    which is right for all but the outermost layers; those are computed once the neighbours' have come, each in a slab
    of three times the halo. A slab too thin for that is computed at once, after the exchange.

    The parameters are those of the cell on this process's slab, :attr:`cell`: all of them equal in all processes but
    the positions, of which each has its own. After a backward pass :meth:`reduce_gradients` adds up the others'.

    Args:
        split: The slabs.
        make: Makes the cell on a lattice, such as ``lambda lattice: GMLPCell(lattice, 16, hidden=32)``.
        overlap: Whether to compute while the halo travels, where a slab is thick enough.

    Shapes:
        - **x:** ``[batch, own nodes, channels]``

    Raises:
        ValueError: If the cell has weights of its own for each layer or cell, updates in sequence or hears all others;
            or a slab is thinner than what a cell hears in a step.

    Example:
        >>> from cellgraph import GMLPCell
        >>> split = DepthSplit((6, 3, 3))
        >>> cell = SplitCell(split, lambda lattice: GMLPCell(lattice, 8, hidden=8))
        >>> cell(torch.zeros(2, 54, 8), num_steps=3).shape
        torch.Size([2, 54, 8])
    """

    @plain_numbers
    def __init__(self, split: DepthSplit, make: Callable[[Lattice], Cell], *, overlap: bool = True) -> None:
        super().__init__()
        self.split = split
        first, last = split.layers
        self.cell = make(split.lattice(first, last))
        if self.cell.order != "synchronous" or self.cell.hears_all:
            raise ValueError("cells hear one another across all slabs: order must be synchronous and perception local")
        sharing = getattr(self.cell, "sharing", "shared")
        if sharing != "shared":
            raise ValueError(f"the cells of all slabs must have the same weights, got sharing={sharing!r}")
        # A cell that lives by its neighbours' new states hears two hops in a step.
        self.width = split.radius * (2 if self.cell.alive_channel is not None else 1)
        self.halo = split.exchange(self.width)
        before, after = (bool(rows) for rows in self.halo.halo)
        self.overlap = overlap and last - first > 2 * self.width
        width = self.width
        if self.overlap:
            slabs = [(first - width, first + 2 * width)] * before + [(last - 2 * width, last + width)] * after
        else:
            slabs = [(first - width * before, last + width * after)]
        # Not modules of this one: they compute with its parameters.
        self._parts = [_bare(make(split.lattice(*slab))) for slab in slabs]
        self._by_node = [name for name, _ in self.cell.named_parameters() if name.rpartition(".")[2] in BY_NODE]
        # What is no parameter and yet kept, such as a random stencil that does not learn.
        learned = dict(self.cell.named_parameters())
        self._kept = [name for name in self.cell.state_dict() if name not in learned]
        for part in self._parts:
            sizes = {name: p.shape for name, p in part.state_dict().items()}
            own = [n for n, p in self.cell.state_dict().items() if n not in self._by_node and sizes[n] != p.shape]
            if own:
                raise ValueError(f"of what each cell has for itself only {BY_NODE[0]} is split, got {', '.join(own)}")
        self._share_first()

    @torch.no_grad()
    def _share_first(self) -> None:
        """Every process starts with the first one's weights."""
        if self.split.line.size > 1:
            for tensor in [*dict(self._shared()).values(), *map(self.cell.get_buffer, self._kept)]:
                dist.broadcast(tensor.data, group=self.split.line.group, group_src=0)

    def load_whole(self, state: dict[str, Tensor]) -> None:
        """Take the state of the cell on the whole lattice."""
        own = {name: self.split.own(x, 0) if name in self._by_node else x for name, x in state.items()}
        self.cell.load_state_dict(own)

    def forward(
        self, x: Tensor, *, num_steps: int, masks: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """The state after some steps.

        Args:
            x: State of this process's cells.
            num_steps: Steps.
            masks: Which of its cells update at each step, ``[num_steps, batch, own nodes, 1]``; where cells update at
                random and there are none, every process draws for the whole lattice and takes its own. So cells of
                different slabs are independent, and the same number of the same generator as in one process, if all
                processes have it in the same state.
            context: See :meth:`Cell.forward <cellgraph.nn.Cell.forward>`, for this process's cells.
        """
        if masks is None and self.cell.updates_at_random:
            masks = self._drawn(x, num_steps)
        parameters = self._parameters_of_parts()
        for_all = context is not None and context.size(1) == 1
        if context is not None and for_all and self.split.has_lone_cells:
            # Or that of a slab's only cell, which its process cannot tell apart: all exchange it as their cells' own.
            context, for_all = context.expand(-1, x.size(1), -1), False
        around = None if context is None or for_all else self._around(context)
        for step in range(num_steps):
            x = self._step(x, parameters, None if masks is None else masks[step], context, around)
        return x

    def _drawn(self, x: Tensor, num_steps: int) -> Tensor:
        """Which of this process's cells update at each step; a step at a time, the whole lattice's are not kept."""
        split, draw = self.split, self.cell.dynamics.draw
        nodes = split.rows(0, split.shape[0])
        return torch.stack([split.own(draw(x, nodes, 1, None)[0]) for _ in range(num_steps)])

    def reduce_gradients(self) -> None:
        """Add up the gradients that all processes have of what they share."""
        if self.split.line.size > 1:
            for _, parameter in self._shared():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad, group=self.split.line.group)

    def _shared(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.cell.named_parameters() if name not in self._by_node]

    def _around(self, x: Tensor) -> list[Tensor]:
        """Something with a row for each cell, for each of the parts."""
        exchange = copy.copy(self.halo)
        return self._placed(x, *exchange.end(exchange.begin(x)))

    def _placed(self, x: Tensor, before: Tensor, after: Tensor) -> list[Tensor]:
        """The rows of each part: its own and the neighbours'."""
        if not self.overlap:
            return [torch.cat([before, x, after], dim=1)]
        first, last = self.split.layers
        near = self.split.rows(first, first + 2 * self.width)
        far = self.split.rows(last - 2 * self.width, last)
        placed = [torch.cat([before, x[:, :near]], dim=1)] if before.size(1) else []
        return placed + ([torch.cat([x[:, x.size(1) - far :], after], dim=1)] if after.size(1) else [])

    def _parameters_of_parts(self) -> list[dict[str, Tensor]]:
        named: dict[str, Tensor] = dict(self.cell.named_parameters())
        named |= {name: self.cell.get_buffer(name) for name in self._kept}
        around = {name: self._around(named[name][None]) for name in self._by_node}
        return [
            {name: around[name][number][0] if name in around else p for name, p in named.items()}
            for number in range(len(self._parts))
        ]

    def _step(
        self,
        x: Tensor,
        parameters: list[dict[str, Tensor]],
        mask: Tensor | None,
        context: Tensor | None,
        around: list[Tensor] | None,
    ) -> Tensor:
        # What a cell updates by goes with its state: cells that live by their neighbours look at it.
        sent = x if mask is None else torch.cat([x, mask.to(x.dtype)], dim=-1)
        exchange = copy.copy(self.halo)
        begun = exchange.begin(sent)
        inner = self.cell(x, mask, context) if self.overlap else None
        outer = []
        for number, rows in enumerate(self._placed(sent, *exchange.end(begun))):
            part, told = self._parts[number], context if around is None else around[number]
            given = (rows, None, told) if mask is None else (rows[..., :-1], rows[..., -1:], told)
            part.train(self.training)
            part.dynamics = self.cell.dynamics
            outer.append(functional_call(part.to(x.device), parameters[number], given))
        return self._joined(inner, outer)

    def _joined(self, inner: Tensor | None, outer: list[Tensor]) -> Tensor:
        """This process's cells: those far from its ends, and the middle of the parts around these."""
        (first, last), width, rows = self.split.layers, self.width, self.split.rows
        if inner is None:
            return outer[0].narrow(1, self.halo.halo.before, rows(first, last))
        begin = rows(first, first + width) if self.halo.halo.before else 0
        end = inner.size(1) - (rows(last - width, last) if self.halo.halo.after else 0)
        parts = [inner[:, begin:end]]
        if self.halo.halo.before:
            parts.insert(0, outer[0].narrow(1, self.halo.halo.before, begin))
        if self.halo.halo.after:
            far = rows(last - 2 * width, last - width)
            parts.append(outer[-1].narrow(1, far, inner.size(1) - end))
        return torch.cat(parts, dim=1)

    def extra_repr(self) -> str:
        return f"{self.split}, halo of {self.width}, overlap={self.overlap}"


def _bare(cell: Cell) -> Cell:
    """A cell without weights of its own: it is always called with others."""
    return cell.requires_grad_(False)
