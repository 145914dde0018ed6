"""The picture of the 2-D ARC: a task's demonstrations, the automaton's steps on its test, and the target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cellgraph.automata.animation import save_picture
from cellgraph.automata.tasks.arc1d.picture import PALETTE

#: What is between grids, the last of the palette.
GAP = len(PALETTE) - 1


def save_task(lines: Sequence[Sequence[np.ndarray]], path: Path) -> Path:
    """Save lines of grids, one under the other, as a PNG.

    Args:
        lines: The grids of each line.
        path: The file.
    """
    drawn = [_beside(line) for line in lines]
    width = max(line.shape[1] for line in drawn)
    padded = [np.pad(line, ((0, 1), (0, width - line.shape[1])), constant_values=GAP) for line in drawn]
    picture = np.pad(np.concatenate(padded), ((1, 0), (0, 0)), constant_values=GAP)
    palette = torch.tensor([[int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for code in PALETTE])
    return save_picture(palette[torch.from_numpy(picture)], path, scale=6)


def _beside(grids: Sequence[np.ndarray]) -> np.ndarray:
    height = max(grid.shape[0] for grid in grids)
    padded = [np.pad(grid, ((0, height - grid.shape[0]), (1, 0)), constant_values=GAP) for grid in grids]
    return np.pad(np.concatenate(padded, axis=1), ((0, 0), (0, 1)), constant_values=GAP)
