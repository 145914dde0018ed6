"""A lattice of gMLP cells in plain numpy and float64, one formula a line: what other tests compare with."""

from __future__ import annotations

import numpy as np
from scipy.special import erf

from cellgraph import CellGraph, GMLPCell


class ReferenceCell:
    """The update of a cell whose weights are shared, on a full lattice with open boundaries."""

    def __init__(self, cell: GMLPCell) -> None:
        assert (cell.sharing, cell.memory_channels, cell.fire_rate) == ("shared", 0, 1.0)
        self.shape, self.offsets = cell.lattice.shape, cell.lattice.offsets
        self.w = {name: weight.detach().double().numpy() for name, weight in cell.named_parameters()}
        self.per_head = cell.hidden // cell.heads

    def transported(self, x: np.ndarray) -> np.ndarray:
        """The linear part alone: ``x_i + sum_k a_k x_{i + o_k}``."""
        return x + self._neighbour_sum(x, self.w["transport"][:, 0])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """One step, ``[batch, num_nodes, channels]``."""
        w = self.w
        h = _norm(x + w["position"]) * w["norm_weight"][0] + w["norm_bias"][0]
        uv = h @ w["in_weight"][0].T + w["in_bias"][0]
        u, v = np.split(0.5 * uv * (1 + erf(uv / np.sqrt(2))), 2, axis=-1)
        v = _norm(v) * w["gate_norm_weight"][0] + w["gate_norm_bias"][0]
        s = w["gate_bias"][0] + self._neighbour_sum(v, w["gate_weight"][:, 0].repeat(self.per_head, axis=-1))
        return self.transported(x) + (u * s) @ w["out_weight"][0].T + w["out_bias"][0]

    def _neighbour_sum(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        grid = x.reshape(len(x), *self.shape, -1)
        padded = np.pad(grid, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))
        total = weight[-1] * grid
        for offset, a in zip(self.offsets, weight[:-1], strict=True):
            d, h, w = (slice(1 + move, 1 + move + size) for move, size in zip(offset, self.shape, strict=True))
            total = total + a * padded[:, d, h, w]
        return total.reshape(x.shape)


def trajectory(model: CellGraph, question, num_steps: int) -> np.ndarray:
    """States before the first step and after each, ``[num_steps + 1, batch, num_nodes, channels]``."""
    cell = ReferenceCell(model.cell)
    x = np.zeros((len(question), *model.cell.position.shape))
    # The question's surface goes to the first channels of the input cells.
    surface = model.question_adapter.encode(question).detach().double().numpy()
    inputs = model.input_surface.index.numpy()
    x[:, inputs, : model.input_surface.channels] = surface.reshape(len(x), len(inputs), -1)
    states = [x]
    for _ in range(num_steps):
        states.append(cell(states[-1]))
    return np.stack(states)


def rms(x: np.ndarray) -> np.ndarray:
    """Root mean square over the channels."""
    return np.sqrt((x**2).mean(-1))


def _norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
