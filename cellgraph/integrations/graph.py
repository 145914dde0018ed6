"""Graph: networks' states as :class:`torch_geometric.data.Data`, with the lattice as the graph, and back."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from cellgraph.lattice import BOUNDARIES, NEIGHBOURHOODS, Lattice
from cellgraph.model import CellGraph, CellGraphOutput
from cellgraph.nn.perception import AttentionPerception


def to_data(model: CellGraph, output: CellGraphOutput, *, edge_influence: Tensor | None = None) -> list[Data]:
    """The samples of a batch as graphs, one each: what a PyG loader, transform or explainer takes.

    Args:
        model: The network.
        output: What it returned.
        edge_influence: A number an edge and sample, ``[batch, num_edges]``, e.g. from :func:`edge_influence`.

    Returns:
        Graphs with ``edge_index``, ``edge_direction`` and ``pos`` of :meth:`~cellgraph.Lattice.to_data`, ``grid_shape``
        ``[1, dim]``, the final states as ``x`` ``[num_nodes, channels]``, ``trajectory``
        ``[num_nodes, num_steps + 1, channels]`` and ``memory`` ``[num_nodes, memory_channels]`` where the output has
        them, the node masks ``input_mask`` and ``output_mask``, ``embedding``, ``surface`` and ``query`` as rows
        ``[1, width]``, ``num_steps``, and ``edge_attr`` ``[num_edges, 1]`` where influences are given; all on
        the device of the states.

    Raises:
        ValueError: If the output has no states, or a shape does not fit.
    """
    lattice = model.lattice
    if output.states is None:
        raise ValueError("a graph needs the states of the cells, the output has none: call with states=True")
    batch = len(output.states)
    if edge_influence is not None and edge_influence.shape != (batch, lattice.num_edges):
        raise ValueError(f"edge_influence must be [{batch}, {lattice.num_edges}], got {list(edge_influence.shape)}")
    graphs = []
    for row in range(batch):
        data = lattice.to_data()
        data.grid_shape = torch.tensor([lattice.shape])
        data.input_mask, data.output_mask = model.input_surface.mask, model.output_surface.mask
        data.x = output.states[row]
        for name in ("embedding", "surface", "query"):
            data[name] = getattr(output, name)[row : row + 1]
        data.num_steps = output.num_steps
        if output.memory is not None:
            data.memory = output.memory[row]
        if output.trajectory is not None:
            data.trajectory = output.trajectory[:, row].transpose(0, 1)
        if edge_influence is not None:
            data.edge_attr = edge_influence[row].unsqueeze(1)
        # PyG takes a graph whose parts are on different devices and fails where they meet.
        graphs.append(data.to(output.states.device))
    return graphs


def from_data(data: Data | Sequence[Data]) -> CellGraphOutput:
    """What :func:`to_data` was given, from a graph, a batch of a PyG loader, or several graphs.

    Raises:
        ValueError: If an attribute is missing, or the graphs are not of one lattice and number of steps.
    """
    graphs = data.to_data_list() if isinstance(data, Batch) else [data] if isinstance(data, Data) else list(data)
    missing = [name for name in ("x", "embedding", "surface", "num_steps") if any(name not in g for g in graphs)]
    if missing or not graphs:
        raise ValueError(f"expected graphs that to_data made, got {len(graphs)} of them without {missing}")
    if len({(g.num_nodes, int(g.num_steps)) for g in graphs}) > 1:
        raise ValueError("expected graphs of one lattice and one number of steps, got different ones")

    def stacked(name: str) -> Tensor | None:
        return torch.stack([g[name] for g in graphs]) if all(name in g for g in graphs) else None

    trajectory = stacked("trajectory")
    return CellGraphOutput(
        embedding=torch.cat([g.embedding for g in graphs]),
        surface=torch.cat([g.surface for g in graphs]),
        query=torch.cat([g.query if "query" in g else g.embedding for g in graphs]),
        states=stacked("x"),
        memory=stacked("memory"),
        num_steps=int(graphs[0].num_steps),
        trajectory=None if trajectory is None else trajectory.permute(2, 0, 1, 3),
    )


def lattice_from_data(data: Data) -> Lattice:
    """The lattice that a graph with integer positions is.

    Args:
        data: A graph with ``pos`` ``[num_nodes, dim]`` in C order and ``edge_index``; the size of the full grid is
            ``grid_shape`` ``[1, dim]`` where it has one, else the least that holds the positions.

    Raises:
        ValueError: If the positions are no cells of a grid in C order, or the edges are of no neighbourhood and
            boundary: a lattice is a grid, other graphs do not fit in.
    """
    if data.pos is None or data.edge_index is None:
        raise ValueError("expected a graph with pos and edge_index, got one without")
    # A lattice's own tensors are on the processor.
    pos, edge_index = data.pos.cpu(), data.edge_index.cpu()
    positions = pos.round().long()
    if positions.dim() != 2 or positions.size(1) not in NEIGHBOURHOODS or not torch.equal(positions.to(pos), pos):
        raise ValueError(f"pos must be whole numbers [num_nodes, 1 to 3], got {list(pos.shape)} {pos.dtype}")
    if (positions < 0).any():
        raise ValueError(f"pos must not be negative, got {int(positions.min())}")
    shape = (
        tuple(data.grid_shape.flatten().tolist()) if "grid_shape" in data else tuple((positions.amax(0) + 1).tolist())
    )
    if (positions >= torch.tensor(shape)).any():
        raise ValueError(f"pos must lie in the grid {shape}, got {positions.amax(0).tolist()}")
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(positions.T)] = True
    if not torch.equal(mask.nonzero(), positions):
        raise ValueError("pos must list each cell once, in C order of the grid")
    wanted = _edge_set(edge_index, len(positions))
    kinds = [BOUNDARIES if size >= 3 else BOUNDARIES[:1] for size in shape]
    for neighbourhood, boundary in itertools.product(NEIGHBOURHOODS[len(shape)], itertools.product(*kinds)):
        lattice = Lattice(shape, neighbourhood, boundary=boundary, mask=mask)
        if torch.equal(_edge_set(lattice.edge_index, len(positions)), wanted):
            return lattice
    raise ValueError(f"the {data.num_edges} edges are of no neighbourhood and boundary of the grid {shape}")


def edge_influence(
    model: CellGraph, question: Tensor, *, score: Callable[[Tensor], Tensor] | None = None, num_steps: int | None = None
) -> Tensor:
    r"""How a score of the answer depends on each edge.

    .. math:: \frac{\partial \, \mathrm{score}(e')}{\partial g_{ij}} \Big|_{g = 1}

    where :math:`g_{ij}` scales all that edge :math:`j \to i` carries, in every step: the edge mask of PyG's explainers
    (`Ying et al. 2019 <https://arxiv.org/abs/1903.03894>`_, section 4), at one. Positive: the score rises with what the
    edge carries. Edges carry what the cells' neighbour sum hands on: what a cell of one's own gathers by ``edge_index``
    beside it counts for nothing here.

    Args:
        model: The network; a copy is used, on the reference backend, in evaluation mode.
        question: Questions, ``[batch, in_features]``; one at a time is walked through.
        score: A number for each answer, ``[1, in_features]`` to a scalar; half the squared length by default.
        num_steps: Steps of the rollout; the upper end of the network's own by default.

    Shapes:
        - **output:** ``[batch, num_edges]``

    Raises:
        ValueError: If cells perceive by attention, which hears neighbours beside the neighbour sums.
    """
    if any(isinstance(part, AttentionPerception) for part in model.cell.modules()):
        raise ValueError("edge_influence is of what neighbour sums carry; these cells perceive by attention")
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    twin.cell.backend, twin.tolerance = "scatter", 0.0
    layer, edges = twin.cell.neighbour_sum.edges, twin.cell.edge_index
    assert layer is not None
    mask = torch.ones(edges.size(1), dtype=twin.cell.dtype, device=edges.device, requires_grad=True)
    layer.register_message_forward_hook(lambda _, inputs, message: mask[:, None] * message)
    rows = []
    with torch.enable_grad():
        # Of no questions ``split`` makes one part, an empty one.
        for row in question.split(1) if len(question) else ():
            embedding = twin(row, num_steps=num_steps, states=True).embedding
            value = embedding.square().sum() / 2 if score is None else score(embedding).sum()
            rows.append(torch.autograd.grad(value, mask)[0])
    return torch.stack(rows) if rows else mask.new_zeros(0, len(mask)).detach()


def _edge_set(edge_index: Tensor, num_nodes: int) -> Tensor:
    return (edge_index[0] * num_nodes + edge_index[1]).sort().values
