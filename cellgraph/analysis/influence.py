"""Influence: how far a change in one cell is felt in another, by exact derivatives of the rollout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp, vmap

from cellgraph.analysis.layers import random_signs
from cellgraph.analysis.reach import colouring, in_reach
from cellgraph.analysis.states import advance, initial_state, new_network
from cellgraph.model import CellGraph

#: Values of the states pushed forward together: those of four samples of the default cube.
CHUNK_VALUES = 4 * 2475 * 64


@dataclass(frozen=True)
class Spread:
    r"""How a change in a source cell is felt in every cell at every step.

    Attributes:
        sources: Nodes of the sources, ``[num_sources]``.
        influence: Root mean square gain from the surface channels of source :math:`i` to the state of cell :math:`j`,

            .. math:: \lVert \partial x_j(t) / \partial x_i(0) \rVert_F / \sqrt{\mathrm{surface\_channels}} ,

            ``[num_steps + 1, num_sources, num_nodes]``: 1 where the change arrived as it was.
    """

    sources: Tensor
    influence: Tensor

    def arrival(self, share: float = 0.0) -> Tensor:
        """First step at which the influence is above ``share`` of the cell's largest, -1 where none ever arrives.

        With ``share=0`` it is the first influence at all: on a network whose weights are not zero the graph distance.

        Shapes:
            - **output:** ``[num_sources, num_nodes]``
        """
        largest = self.influence.amax(0)
        above = (self.influence > share * largest) & (largest > 0)
        return torch.where(above.any(0), above.to(torch.uint8).argmax(0), -1)

    def peak(self) -> Tensor:
        """Step of the largest influence, -1 where there is none: ``[num_sources, num_nodes]``."""
        return torch.where(self.influence.amax(0) > 0, self.influence.argmax(0), -1)


@torch.no_grad()
def spread(model: CellGraph, question: Tensor, sources: Tensor) -> Spread:
    """Follow a change in some input cells through the lattice, exactly: one forward derivative a surface channel.

    Args:
        model: The network, in evaluation mode.
        question: One question embedding, ``[in_features]``: the network is not linear, so the influence is one at
            this question.
        sources: Nodes of the input surface, ``[num_sources]``.

    Raises:
        ValueError: If a source is not on the input surface.
    """
    strangers = [int(node) for node in sources if not model.input_surface.mask[node]]
    if strangers:
        raise ValueError(f"sources must be cells of the input surface, got the nodes {strangers}")
    width = model.input_surface.channels
    model = _differentiable(model)
    tangents = [_one(model, node, channel) for node in sources for channel in range(width)]
    squares = _zeros(model, model.num_steps[1] + 1, len(sources), model.lattice.num_nodes)
    for first, steps in _pushed(model, question, tangents):
        for step, pushed in enumerate(steps):
            for number, square in enumerate(pushed.square().sum(-1), start=first):
                squares[step, number // width] += square
    return Spread(sources, (squares / width).sqrt())


@torch.no_grad()
def influence(
    model: CellGraph, question: Tensor, sources: Tensor | None = None, *, less: CellGraph | None = None
) -> Tensor:
    r"""Influence of input cells on the cells that the answer is read off: the Jacobian, cell by cell.

    .. math:: \lVert \partial y_j / \partial s_i \rVert_F / \sqrt{\mathrm{surface\_channels}}

    of what is read, y: the output surface, or all the channels of the cells that a readout takes, divided by the
    conveyor's amplitude. Input cells of which no output cell can hear two within ``num_steps`` steps share a forward
    derivative, which is exact and far cheaper (Curtis, Powell and Reid 1974, "On the estimation of sparse Jacobian
    matrices").

    Args:
        model: The network, in evaluation mode. A new one has the identity here.
        question: One question embedding, ``[in_features]``.
        sources: Nodes of the input surface; all of them by default.
        less: A network on the same lattice whose Jacobian is subtracted first. With
            :func:`~cellgraph.analysis.without.without_update` of the network, what is left has come through a gated
            update.

    Shapes:
        - **output:** ``[num_sources, num_output_cells]``
    """
    networks = [_differentiable(each) for each in (model, less) if each is not None]
    model = networks[0]
    sources = model.input_surface.index if sources is None else sources
    targets, width, num_steps = model.read_index, model.input_surface.channels, model.num_steps[1]
    read = model.output_surface.channels if model.readout is None else model.readout.channels
    reach = in_reach(model, sources, num_steps)[:, targets]
    colours = colouring(reach)
    tangents = [
        torch.stack([_one(model, node, channel) for node in sources[colours == colour]]).sum(0)
        for colour in range(int(colours.max()) + 1)
        for channel in range(width)
    ]
    squares = _zeros(model, len(tangents), len(targets))
    for pushed in zip(*(_pushed(each, question, tangents) for each in networks), strict=True):
        first, (last, *others) = pushed[0][0], [_last(steps)[:, targets, :read] for _, steps in pushed]
        squares[first : first + len(last)] = (last - others[0] if others else last).square().sum(-1)
    by_colour = squares.unflatten(0, (-1, width)).sum(1)
    gain = model.conveyor.gain(num_steps)
    return torch.where(reach, (by_colour[colours] / width).sqrt() / gain, 0.0)


def inputs_heard(influence: Tensor) -> Tensor:
    r"""Effective number of input cells that each output cell hears: the participation ratio of the squared influence.

    .. math:: \Big(\sum_i J_{ij}^2\Big)^2 \Big/ \sum_i J_{ij}^4

    n where n input cells are heard alike and no other.

    Shapes:
        - **influence:** ``[num_inputs, num_outputs]``
        - **output:** ``[num_outputs]``; 0 for a cell that hears nothing

    Example:
        >>> inputs_heard(torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
        tensor([1., 2., 0.], dtype=torch.float64)
    """
    power = influence.double().square()
    return torch.where(power.sum(0) > 0, power.sum(0).square() / power.square().sum(0), 0.0)


@torch.no_grad()
def direction_influence(
    model: CellGraph, question: Tensor, *, probes: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    r"""How strongly the cells hear each direction at each step: the Jacobian of one step, edge by edge.

    .. math:: \sqrt{\operatorname{mean}_i \lVert \partial x_i(t + 1) / \partial x_{i + o_k}(t) \rVert_F^2 / C}

    over the cells :math:`i` that have a neighbour in direction :math:`k`; C is the number of channels. 1 is a
    neighbour's state taken over as it is.

    Args:
        model: The network, in evaluation mode.
        question: One question embedding, ``[in_features]``.
        probes: Estimate the squared norms from so many random sign vectors a cell (Hutchinson 1990), without bias;
            by default they are exact, from one derivative a channel.
        generator: Source of the random signs.

    Shapes:
        - **output:** ``[num_steps, num_directions + 1]``, the cell's own state last
    """
    model = _differentiable(model)
    lattice, channels = model.lattice, model.cell.channels
    nodes = torch.arange(lattice.num_nodes)
    colours = colouring(in_reach(model, nodes, 1))
    source = torch.cat([lattice.edge_index[0], nodes])
    target = torch.cat([lattice.edge_index[1], nodes])
    direction = torch.cat([lattice.edge_direction, torch.full_like(nodes, lattice.num_directions)])
    counts = torch.bincount(direction, minlength=lattice.num_directions + 1)
    rows = []
    x = initial_state(model, question[None])
    for step in range(model.num_steps[1]):
        total = x.new_zeros(lattice.num_directions + 1)
        signs = torch.eye(channels, dtype=x.dtype)[:, None].expand(-1, lattice.num_nodes, -1)
        if probes is not None:
            signs = random_signs(x, probes, lattice.num_nodes, channels, generator=generator) * probes**-0.5
        count = int(colours.max()) + 1
        for some in torch.arange(len(signs) * count).split(_together(model)):
            mine = colours == (some % count)[:, None]
            squares = _push(model, x, step, signs[some // count] * mine[..., None]).square().sum(2)
            # Of those that a cell hears one at most has a colour: what the cell feels comes from it.
            total.index_add_(0, direction, torch.where(mine[:, source], squares[:, target], 0.0).sum(0))
        rows.append((total / counts.clamp(min=1) / channels).sqrt())
        x = advance(model, x, step)
    return torch.stack(rows)


def receptive_radius(influence: Tensor, distance: Tensor) -> Tensor:
    r"""Effective receptive field of each output cell: root mean square distance, weighted by squared influence.

    .. math:: r_j = \sqrt{\sum_i J_{ij}^2 d_{ij}^2 / \sum_i J_{ij}^2}

    (The idea of Luo et al. 2016, `arXiv 1701.04128 <https://arxiv.org/abs/1701.04128>`_: most of what is in reach
    hardly counts.)

    Shapes:
        - **influence**, **distance:** ``[num_inputs, num_outputs]``
        - **output:** ``[num_outputs]``, in the unit of the distance; NaN for a cell that hears nothing
    """
    weight = influence.double().square()
    return ((weight * distance.square()).sum(0) / weight.sum(0)).sqrt()


def _differentiable(model: CellGraph) -> CellGraph:
    """The network by a backend that forward derivatives pass through, whatever its own."""
    plain = new_network(model, backend="stencil")
    plain.load_state_dict(model.state_dict())
    return plain


def _one(model: CellGraph, node: Tensor, channel: int) -> Tensor:
    tangent = _zeros(model, model.lattice.num_nodes, model.cell.channels)
    tangent[node, channel] = 1.0
    return tangent


def _pushed(model: CellGraph, question: Tensor, tangents: list[Tensor]) -> Iterator[tuple[int, Iterator[Tensor]]]:
    """Some tangents at a time: the number of the first, and them after 0, 1, ... steps."""
    x = initial_state(model, question[None])
    states = [x]
    for step in range(model.num_steps[1]):
        states.append(advance(model, states[-1], step))
    together = _together(model)
    for first in range(0, len(tangents), together):
        yield first, _steps(model, states, torch.stack(tangents[first : first + together]))


def _together(model: CellGraph) -> int:
    """How many tangents are pushed forward together: the more, the smaller the lattice."""
    return max(4, CHUNK_VALUES // (model.lattice.num_nodes * model.cell.channels))


def _steps(model: CellGraph, states: list[Tensor], tangents: Tensor) -> Iterator[Tensor]:
    yield tangents
    for step, x in enumerate(states[:-1]):
        tangents = _push(model, x, step, tangents)
        yield tangents


def _push(model: CellGraph, x: Tensor, step: int, tangents: Tensor) -> Tensor:
    """Derivative of one step at ``x``, ``[1, num_nodes, channels]``, along each of ``[n, num_nodes, channels]``."""

    def along(tangent: Tensor) -> Tensor:
        return jvp(lambda state: advance(model, state, step), (x,), (tangent[None],))[1][0]

    # What is drawn is the same for all of them.
    return vmap(along, randomness="same")(tangents)


def _last(steps: Iterator[Tensor]) -> Tensor:
    *_, last = steps
    return last


def _zeros(model: CellGraph, *shape: int) -> Tensor:
    """Zeros of the kind that states are."""
    return torch.zeros(shape, dtype=model.cell.dtype, device=model.cell.device)
