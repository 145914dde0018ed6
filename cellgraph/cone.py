"""The light cone: which cells a rollout has to compute, and which of them are alike in all samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cellgraph.graph import Graph
from cellgraph.numbers import plain_numbers


@dataclass(frozen=True)
class ConeStep:
    """The tables of one step, for the cells that may differ by sample (own) or for those that do not (lent).

    Sources are the walker's cells before the step and behind them, for own cells, those lent cells that are heard;
    targets are its cells after the step.

    Attributes:
        source: Nodes of the walker's cells before the step, ``[num_own_sources]``.
        target: Nodes of its cells after the step, ``[num_targets]``.
        lender: Rows of the lent sources among the lent cells before the step, ``[num_lent_sources]``.
        centre: The source that is each target itself, ``[num_targets]``.
        edge_index: Sources and targets of the edges between them, ``[2, num_edges]``, sorted by target.
        edge: The graph's numbers of those edges, ``[num_edges]``.
        heard: The source that each target hears from each direction, the centre last, ``[num_directions + 1,
            num_targets]``; -1 where there is none. ``None`` on graphs where a cell hears several from one direction.
        hears: The target that hears each source in each direction, ``[num_directions + 1, num_sources]``, likewise.
        first_centre: Sources before this one are the centre of no target of any walker.
    """

    source: Tensor
    target: Tensor
    lender: Tensor
    centre: Tensor
    edge_index: Tensor
    edge: Tensor
    heard: Tensor | None
    hears: Tensor | None
    first_centre: int

    def to(self, device: torch.device) -> ConeStep:
        """The tables on a device."""
        moved: dict[str, Any] = {
            key: value.to(device) for key, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


class LightCone:
    r"""The cells of a rollout that can reach its answer, step by step.

    Of :math:`T` steps from the source cells to the target cells, after step :math:`t` only cells within :math:`t` hops
    of a source depend on the sample, and only those within :math:`T - t` hops of a target can still change the answer.
    Cells of the second kind are computed and no others; those that no sample has reached yet evolve alike in all
    samples, so they are computed once and lent to every sample. Both are exact, for outputs and gradients.

    Args:
        graph: The graph of the cells.
        target: Node mask of the cells whose last states are wanted.
        num_steps: Number of steps T.
        source: Node mask of the cells whose first states differ by sample; all of them by default.

    Raises:
        ValueError: If a mask does not fit, no cell is wanted, or the number of steps is negative.

    Example:
        >>> from cellgraph import Lattice
        >>> lattice = Lattice((11, 15, 15))
        >>> cone = LightCone(lattice, lattice.face("back"), 10, source=lattice.face("front"))
        >>> [len(nodes) // 225 for nodes in cone.own], [len(nodes) // 225 for nodes in cone.lent]
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    """

    @plain_numbers
    def __init__(self, graph: Graph, target: Tensor, num_steps: int, *, source: Tensor | None = None) -> None:
        target = graph.node_mask(target, "target")
        source = None if source is None else graph.node_mask(source, "source")
        if not target.any():
            raise ValueError(f"target needs at least one of the {graph.num_nodes} cells, the mask has none")
        if num_steps < 0:
            raise ValueError(f"num_steps must not be negative, got {num_steps}")
        self.graph, self.target, self.source, self.num_steps = graph, target, source, num_steps
        reached = _hops(graph, source) if source is not None else torch.zeros(graph.num_nodes, dtype=torch.long)
        left = _hops(Graph(graph.edge_index.flip(0), graph.num_nodes), target)
        heard = [left <= num_steps - step for step in range(num_steps + 2)]
        self._steps_on: dict[torch.device, list[tuple[ConeStep, ConeStep]]] = {}
        #: Nodes of the cells that may differ by sample, after each number of steps from 0 to T.
        self.own: list[Tensor] = []
        #: Nodes of the cells that are computed and alike in all samples.
        self.lent: list[Tensor] = []
        #: How many of the first of each were heard for the last time, by others.
        self.leaving: list[tuple[int, int]] = []
        for step in range(num_steps + 1):
            stays = heard[step + 1] if step < num_steps else torch.zeros_like(target)
            parts = []
            for among in (reached <= step, reached > step):
                wanted = heard[step] & among
                parts.append(((wanted & ~stays).nonzero().squeeze(1), (wanted & stays).nonzero().squeeze(1)))
            self.own.append(torch.cat(parts[0]))
            self.lent.append(torch.cat(parts[1]))
            self.leaving.append((len(parts[0][0]), len(parts[1][0])) if step < num_steps else (0, 0))

    @property
    def lends(self) -> bool:
        """Whether some cells are alike in all samples."""
        return any(map(len, self.lent))

    @cached_property
    def share(self) -> float:
        """Share of the full rollout's cell updates that are computed for every sample."""
        return sum(map(len, self.own[1:])) / max(1, self.num_steps * self.graph.num_nodes)

    @cached_property
    def steps(self) -> list[tuple[ConeStep, ConeStep]]:
        """The tables of each step, of the own cells and of the lent ones."""
        return [(self._step(step, True), self._step(step, False)) for step in range(1, self.num_steps + 1)]

    def steps_on(self, device: torch.device) -> list[tuple[ConeStep, ConeStep]]:
        """:attr:`steps` with their tables on a device."""
        if device not in self._steps_on:
            self._steps_on[device] = [(own.to(device), lent.to(device)) for own, lent in self.steps]
        return self._steps_on[device]

    @cached_property
    def order(self) -> Tensor:
        """Where each target cell, in node order, is found among the last own cells and, behind them, the lent ones."""
        last = torch.cat([self.own[-1], self.lent[-1]])
        return torch.argsort(last)

    def _step(self, step: int, own: bool) -> ConeStep:
        source, target = ((self.own if own else self.lent)[at] for at in (step - 1, step))
        row = torch.full((self.graph.num_nodes,), -1)
        into = row.index_put((target,), torch.arange(len(target)))
        row[source] = torch.arange(len(source))
        edge = (into[self.graph.edge_index[1]] >= 0).nonzero().squeeze(1)
        edge_index = self.graph.edge_index[:, edge]
        lender = torch.empty(0, dtype=torch.long)
        if own:
            wanted = torch.cat([edge_index[0], target])
            needed = torch.zeros(self.graph.num_nodes, dtype=torch.bool).index_fill(0, wanted, True)
            lender = needed[self.lent[step - 1]].nonzero().squeeze(1)
            row[self.lent[step - 1][lender]] = len(source) + torch.arange(len(lender))
        rows = torch.stack([row[edge_index[0]], into[edge_index[1]]])
        order = torch.argsort(rows[1], stable=True)
        rows, edge = rows[:, order], edge[order]
        heard: Tensor | None = None
        hears: Tensor | None = None
        if self._one_each:
            direction, directions = self.graph.edge_direction[edge], self.graph.num_directions + 1
            heard = torch.full((directions, len(target)), -1)
            heard[direction, rows[1]], heard[-1] = rows[0], row[target]
            hears = torch.full((directions, len(source) + len(lender)), -1)
            hears[direction, rows[0]], hears[-1, row[target]] = rows[1], torch.arange(len(target))
        first = self.leaving[step - 1][0 if own else 1]
        return ConeStep(source, target, lender, row[target], rows, edge, heard, hears, first)

    @cached_property
    def _one_each(self) -> bool:
        """Whether no cell hears, or is heard by, two others in one direction, all with the same factor."""
        kinds = (self.graph.edge_direction + self.graph.num_directions * end for end in self.graph.edge_index)
        return self.graph.edge_weight is None and all(len(kind.unique()) == len(kind) for kind in kinds)

    def __repr__(self) -> str:
        return f"LightCone(num_steps={self.num_steps}, share={self.share:.2f})"


def _hops(graph: Graph, sources: Tensor) -> Tensor:
    """Graph distances, as far as can be where no path leads."""
    hops = graph.hops(sources)
    return torch.where(hops < 0, torch.iinfo(torch.long).max, hops)
