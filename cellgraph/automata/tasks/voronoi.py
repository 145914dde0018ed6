"""Voronoi: a cell is to learn a rule on a graph that is no grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import Delaunay, cKDTree
from torch import Tensor

from cellgraph.automata.tasks.rule import RuleTask
from cellgraph.graph import Graph
from cellgraph.nn import Cell
from cellgraph.nn.rebuilding import hands_on
from cellgraph.numbers import plain_numbers

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from cellgraph.automata.tasks.rule import RuleOptions


class Voronoi(RuleTask):
    r"""The flip rule on a Voronoi tessellation of `"Learning Graph Cellular Automata"
    <https://arxiv.org/abs/2110.14237>`_ (section 4.1): random points in the unit square, neighbours where their Voronoi
    cells touch, and a cell flips its state where more than a share :math:`\kappa` of its neighbours is alive.

    .. math:: x_i \leftarrow x_i \oplus \left[ \frac{1}{|N_i|} \sum_{j \in N_i} x_j > \kappa \right]

    Args:
        num_cells: Number of points.
        threshold: The share :math:`\kappa`.
        seed: Seed of the points.
        channels, size, horizon, signed, worst: See :class:`RuleTask`.

    Raises:
        ValueError: If there are fewer than four points, the threshold is no share or another number is out of range.

    Example:
        >>> task = Voronoi(50)
        >>> task.lattice.num_nodes, bool(task.rule(torch.zeros(1, 50, dtype=torch.bool)).any())
        (50, False)
    """

    # Where a learned threshold comes to lie between the shares on its sides, 5/12 and 3/7, changes to the last update.
    monitor = "closeness"

    count: Tensor

    @plain_numbers
    @hands_on(RuleTask.__init__)
    def __init__(
        self,
        num_cells: int = 1000,
        *,
        threshold: float = 0.42,
        seed: int = 0,
        **options: Unpack[RuleOptions],
    ) -> None:
        if num_cells < 4 or not 0 <= threshold <= 1:
            raise ValueError(f"expected 4 cells or more and a threshold in [0, 1], got {num_cells} and {threshold}")
        points = np.random.default_rng(seed).random((num_cells, 2))
        lattice = delaunay_graph(points)
        super().__init__(lattice, **options)
        self.num_cells, self.threshold, self.seed = num_cells, threshold, seed
        self.register_buffer("count", lattice.edge_index[1].bincount(minlength=num_cells), persistent=False)

    def rule(self, alive: Tensor) -> Tensor:
        """One step of the rule, by counting."""
        source, target = self.lattice.edge_index
        living = torch.zeros(alive.shape, dtype=torch.long).index_add(1, target, alive[:, source].long())
        # In float64 no count of neighbours has a share that meets a threshold by rounding alone.
        return alive ^ (living.double() > self.threshold * self.count.cpu().double())

    def draw_states(self, size: int, generator: torch.Generator) -> Tensor:
        """States in which each cell is alive with probability 1/2."""
        return torch.rand(size, self.num_cells, generator=generator) < 0.5

    def evaluate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """What :meth:`RuleTask.evaluate` says, and the same first figures on a tessellation that was not trained on.

        Args:
            cell: The trained cell.
            num_steps: Not used: a step is a step.
        """
        other = Voronoi(
            self.num_cells,
            threshold=self.threshold,
            seed=self.seed + 1,
            channels=self.channels,
            size=self.size,
            horizon=1,
            signed=self.signed,
        )
        generator = torch.Generator().manual_seed(2**31)
        alive = other.draw_states(self.size, generator)
        wrong = other.wrong_cells(cell.on(other.lattice), alive, num_steps=1, generator=generator)
        return {
            **super().evaluate(cell, num_steps=num_steps),
            "cell_accuracy_elsewhere": 1.0 - float(wrong.float().mean()) / self.num_cells,
            "state_accuracy_elsewhere": float((wrong == 0).float().mean()),
        }

    def draw(self, cell: Cell, folder: Path, *, num_steps: int) -> list[Path]:
        """An animation ``voronoi.gif`` from a random state: the cell, running freely, beside the rule."""
        alive = self.draw_states(1, torch.Generator().manual_seed(1))
        return [self.draw_course(cell, alive, folder / "voronoi.gif", num_steps=30, scale=1)]

    def picture(self, alive: Tensor) -> Tensor:
        """The tessellation: every pixel has the state of the nearest point."""
        ticks = (np.arange(240) + 0.5) / 240
        pixels = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1)
        owner = cKDTree(self.lattice.positions.numpy()).query(pixels)[1]
        return alive[:, torch.from_numpy(owner)]


def delaunay_graph(points: np.ndarray) -> Graph:
    """The Delaunay triangulation of points ``[num_nodes, dim]`` as a graph whose neighbour sums are means."""
    first, neighbours = Delaunay(points).vertex_neighbor_vertices
    target = np.repeat(np.arange(len(points)), np.diff(first))
    edges = torch.from_numpy(np.stack([neighbours, target]).astype(np.int64))
    positions = torch.from_numpy(points).to(torch.get_default_dtype())
    return Graph(edges, len(points), edge_weight="mean", positions=positions)
