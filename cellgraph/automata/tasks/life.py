"""Life: a cell is to learn the Game of Life."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellgraph.automata.tasks.rule import RuleTask
from cellgraph.lattice import Lattice
from cellgraph.nn import Cell
from cellgraph.nn.rebuilding import hands_on
from cellgraph.numbers import plain_numbers

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from cellgraph.automata.tasks.rule import RuleOptions

#: Patterns by name, with the number of steps after which they are the same again.
STILL_LIFES: Mapping[str, tuple[str, ...]] = {
    "block": ("##", "##"),
    "beehive": (".##.", "#..#", ".##."),
    "loaf": (".##.", "#..#", ".#.#", "..#."),
    "boat": ("##.", "#.#", ".#."),
    "tub": (".#.", "#.#", ".#."),
}
OSCILLATORS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "blinker": (2, ("###",)),
    "toad": (2, (".###", "###.")),
    "beacon": (2, ("##..", "##..", "..##", "..##")),
    "pulsar": (
        3,
        (
            "..###...###..",
            ".............",
            "#....#.#....#",
            "#....#.#....#",
            "#....#.#....#",
            "..###...###..",
            ".............",
            "..###...###..",
            "#....#.#....#",
            "#....#.#....#",
            "#....#.#....#",
            ".............",
            "..###...###..",
        ),
    ),
}
GLIDER = (".#.", "..#", "###")


class Life(RuleTask):
    r"""Conway's Game of Life (`Gardner 1970 <https://doi.org/10.1038/scientificamerican1070-120>`_) on a torus: a cell
    lives on with two or three living neighbours of eight and comes to life with three.

    Boards to learn from and to be judged on have all densities alike likely.

    Args:
        shape: Height and width, at least 17 each: the largest known pattern has 13 cells and needs room around it.
        channels, size, horizon, signed, worst: See :class:`RuleTask`.

    Raises:
        ValueError: If the shape is too small, or a number out of range.

    Example:
        >>> task = Life((17, 17))
        >>> blinker = task.board(("###",))
        >>> torch.equal(task.rule(blinker), task.board(("#", "#", "#"), at=(3, 5)))
        True
    """

    @plain_numbers
    @hands_on(RuleTask.__init__)
    def __init__(
        self,
        shape: tuple[int, int] = (32, 32),
        **options: Unpack[RuleOptions],
    ) -> None:
        if len(shape) != 2 or min(shape) < 17:
            raise ValueError(f"shape must be two numbers of at least 17, got {shape}")
        lattice = Lattice(shape, 8, boundary="periodic")
        super().__init__(lattice, **options)
        self.shape = (shape[0], shape[1])

    def rule(self, alive: Tensor) -> Tensor:
        """One step of Life."""
        grid = alive.reshape(-1, *self.shape).int()
        moves = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
        neighbours = torch.stack([grid.roll(move, (1, 2)) for move in moves]).sum(0)
        return ((neighbours == 3) | ((grid == 1) & (neighbours == 2))).flatten(1)

    def draw_states(self, size: int, generator: torch.Generator) -> Tensor:
        """Boards of all densities."""
        density = torch.rand(size, 1, generator=generator)
        return torch.rand(size, self.lattice.num_nodes, generator=generator) < density

    def board(self, pattern: tuple[str, ...], *, at: tuple[int, int] = (4, 4)) -> Tensor:
        """A board ``[1, num_nodes]`` with one pattern of ``#``, its upper left corner ``at`` a row and a column."""
        board = torch.zeros(1, *self.shape, dtype=torch.bool)
        for row, line in enumerate(pattern):
            for column, mark in enumerate(line):
                board[0, at[0] + row, at[1] + column] = mark == "#"
        return board.flatten(1)

    def evaluate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """What :meth:`RuleTask.evaluate` says, and the shares of the known still lifes and oscillators, and of gliders
        from ten places, that the cell carries through the horizon without a wrong cell at any step.

        Args:
            cell: The trained cell.
            num_steps: Not used: a step is a step.
        """
        height, width = self.shape
        places = [(row * height // 10 % (height - 2), row * 3 * width // 10 % (width - 2)) for row in range(10)]
        groups = {
            "still_lifes": [self.board(pattern) for pattern in STILL_LIFES.values()],
            "oscillators": [self.board(pattern, at=(2, 2)) for _, pattern in OSCILLATORS.values()],
            "gliders": [self.board(GLIDER, at=place) for place in places],
        }
        figures = super().evaluate(cell, num_steps=num_steps)
        generator = torch.Generator().manual_seed(2**31)
        for name, boards in groups.items():
            wrong = self.wrong_cells(cell, torch.cat(boards), num_steps=self.horizon, generator=generator)
            figures[name] = float((wrong == 0).all(0).float().mean())
        return figures

    def draw(self, cell: Cell, folder: Path, *, num_steps: int) -> list[Path]:
        """Animations ``soup.gif``, from a random board, and ``glider.gif``: the cell beside the rule."""
        height, width = self.shape
        soup = torch.rand(1, height * width, generator=torch.Generator().manual_seed(1)) < 0.35
        starts = {"soup.gif": soup, "glider.gif": self.board(GLIDER)}
        return [
            self.draw_course(cell, alive, folder / name, num_steps=self.horizon, scale=6)
            for name, alive in starts.items()
        ]

    def picture(self, alive: Tensor) -> Tensor:
        """Boards as images."""
        return alive.reshape(-1, *self.shape)
