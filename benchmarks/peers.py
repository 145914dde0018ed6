"""Peers: the same cell, the same parameters, written as one would without this library."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from cellgraph.nn import GMLPCell

from .measure import Contender
from .setting import Setting
from .workload import TorchJob, build_cell

PEERS = ("pyg", "segment_csr", "conv3d", "python_loop", "cax")

#: The loop over cells runs on a cube this small; its time is extrapolated.
_LOOP_SHAPE = (4, 4, 4)


class PlainCell(nn.Module):
    """The gMLP cell over a given neighbour sum: the equations of :class:`~cellgraph.GMLPCell`, operator by operator.

    Args:
        cell: The library's cell, whose parameters these are; all cells share them.
        neighbour_sum: Called with a state and the weights by direction, ``[num_directions + 1, channels]``, the
            centre last.
    """

    def __init__(self, cell: GMLPCell, neighbour_sum: nn.Module) -> None:
        super().__init__()
        self.cell = cell
        self.neighbour_sum = neighbour_sum

    def forward(self, x: Tensor) -> Tensor:
        """One step, ``[batch, num_nodes, channels]`` to the same."""
        cell = self.cell
        h = F.layer_norm(x + cell.position, (cell.channels,), cell.norm_weight[0], cell.norm_bias[0])
        u, v = F.gelu(F.linear(h, cell.in_weight[0], cell.in_bias[0])).chunk(2, dim=-1)
        v = F.layer_norm(v, (cell.hidden,), cell.gate_norm_weight[0], cell.gate_norm_bias[0])
        gate_weight = cell.gate_weight[:, 0].repeat_interleave(cell.hidden // cell.heads, dim=-1)
        gate = cell.gate_bias[0] + self.neighbour_sum(v, gate_weight)
        update = F.linear(u * gate, cell.out_weight[0], cell.out_bias[0])
        return x + self.neighbour_sum(x, cell.transport[:, 0]) + update


class PyGSum(MessagePassing):
    """The neighbour sum as a PyTorch Geometric layer."""

    def __init__(self, cell: GMLPCell) -> None:
        super().__init__(aggr="add", node_dim=-2)
        self.edge_index, self.edge_direction = cell.edge_index, cell.edge_direction

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        # propagate_type: (x: Tensor, edge_weight: Tensor)
        out = self.propagate(self.edge_index, x=x, edge_weight=weight[self.edge_direction])
        return out + weight[-1] * x

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        return edge_weight * x_j


class SegmentSum(nn.Module):
    """The neighbour sum by ``torch_scatter.segment_csr``."""

    def __init__(self, cell: GMLPCell) -> None:
        super().__init__()
        self.source, self.edge_direction = cell.edge_index[0], cell.edge_direction
        self.pointer = cell.neighbour_sum.edge_pointer[None]

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        from torch_scatter import segment_csr

        messages = weight[self.edge_direction] * x[:, self.source]
        return segment_csr(messages, self.pointer.expand(len(x), -1), reduce="sum") + weight[-1] * x


class Conv3dSum(nn.Module):
    """The neighbour sum as a depthwise 3-D convolution over the cube."""

    def __init__(self, cell: GMLPCell) -> None:
        super().__init__()
        self.shape = cell.lattice.shape
        moves = (*cell.lattice.offsets, (0, 0, 0))
        place = [9 * (d + 1) + 3 * (h + 1) + (w + 1) for d, h, w in moves]
        self.place = torch.tensor(place, device=cell.edge_index.device)

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        channels = x.size(-1)
        kernel = weight.new_zeros(27, channels).index_copy(0, self.place, weight)
        grid = x.transpose(1, 2).unflatten(2, self.shape)
        summed = F.conv3d(grid, kernel.T.reshape(channels, 1, 3, 3, 3).to(x.dtype), padding=1, groups=channels)
        return summed.flatten(2).transpose(1, 2)


class LoopCell(nn.Module):
    """The cell in a Python loop over the cells and their neighbours."""

    def __init__(self, cell: GMLPCell) -> None:
        super().__init__()
        self.cell = cell
        self.neighbours: list[list[tuple[int, int]]] = [[] for _ in range(cell.lattice.num_nodes)]
        for source, target, k in zip(*cell.edge_index.tolist(), cell.edge_direction.tolist(), strict=True):
            self.neighbours[target].append((source, k))

    def forward(self, x: Tensor) -> Tensor:
        """One step, ``[batch, num_nodes, channels]`` to the same."""
        cell = self.cell
        gate_weight = cell.gate_weight[:, 0].repeat_interleave(cell.hidden // cell.heads, dim=-1)
        state = x.unbind(1)
        halves = [self._halves(state[i] + cell.position[i]) for i in range(len(state))]
        new = []
        for i, around in enumerate(self.neighbours):
            u, v = halves[i]
            gate = cell.gate_bias[0] + gate_weight[-1] * v
            moved = cell.transport[-1, 0] * state[i]
            for j, k in around:
                gate = gate + gate_weight[k] * halves[j][1]
                moved = moved + cell.transport[k, 0] * state[j]
            new.append(state[i] + moved + F.linear(u * gate, cell.out_weight[0], cell.out_bias[0]))
        return torch.stack(new, 1)

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cell = self.cell
        h = F.layer_norm(x, (cell.channels,), cell.norm_weight[0], cell.norm_bias[0])
        u, v = F.gelu(F.linear(h, cell.in_weight[0], cell.in_bias[0])).chunk(2, dim=-1)
        return u, F.layer_norm(v, (cell.hidden,), cell.gate_norm_weight[0], cell.gate_norm_bias[0])


#: The peers that PyTorch runs: name -> cell of the library to the same cell in the peer's way.
TORCH_PEERS: dict[str, Callable[[GMLPCell], nn.Module]] = {
    "pyg": lambda cell: PlainCell(cell, PyGSum(cell)),
    "segment_csr": lambda cell: PlainCell(cell, SegmentSum(cell)),
    "conv3d": lambda cell: PlainCell(cell, Conv3dSum(cell)),
    "python_loop": LoopCell,
}

_NEEDED = {"segment_csr": "torch_scatter", "cax": "cax"}


def peer_contender(setting: Setting, device: torch.device) -> Contender:
    """A peer at a setting; ``setting.backend`` names it.

    Raises:
        ValueError: If it is unknown, what it is written in is not installed, or it does not run on the device.
    """
    name = setting.backend
    if name not in PEERS:
        raise ValueError(f"peer must be one of {PEERS}, got {name!r}")
    needed = _NEEDED.get(name)
    if needed is not None and importlib.util.find_spec(needed) is None:
        raise ValueError(f"{needed} is not installed")
    if name == "cax":
        from .cax_peer import cax_call

        note = "CAX's Perceive and Update in its jitted scan"
        cell = build_cell(setting, torch.device("cpu"), backend="scatter")
        call = cax_call(cell, setting, device)
        # The number of steps is compiled in.
        return Contender(setting, lambda steps: call(), divisible=False, note=note)
    done = replace(setting, shape=_LOOP_SHAPE) if name == "python_loop" else setting
    cell = build_cell(done, device, backend="scatter")
    step = TORCH_PEERS[name](cell)

    def walk(x: Tensor, steps: int) -> Tensor:
        for _ in range(steps):
            x = step(x)
        return x

    job = TorchJob(walk, cell.parameters(), done, device)
    share = done.num_cells / setting.num_cells
    note = "" if share == 1.0 else f"measured on {done.num_cells} cells, extrapolated by the number of cells"
    return Contender(setting, job, share=share, note=note)
