"""The picture of the 1-D ARC: rows of colours, one under the other, a block for each kind."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.automata.animation import save_picture
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE

#: Usual colours of the ARC's symbols, red, green and blue, and a grey for what lies outside of a row.
PALETTE = ("000000", "0074d9", "ff4136", "2ecc40", "ffdc00", "aaaaaa", "f012be", "ff851b", "7fdbff", "870c25", "404040")


def save_blocks(blocks: Tensor, path: Path) -> Path:
    """Save blocks of rows as a PNG, in up to three columns.

    Args:
        blocks: Colours and what lies outside, ``[height, num_blocks, width]``.
        path: The file.
    """
    palette = torch.tensor([[int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for code in PALETTE])
    tall = -(-blocks.size(1) // 3)
    # The last columns may have blocks less.
    blocks = F.pad(blocks, (0, 0, 0, -blocks.size(1) % tall), value=OUTSIDE)
    columns = [part.transpose(0, 1).flatten(0, 1) for part in blocks.split(tall, dim=1)]
    return save_picture(palette[torch.cat(columns, dim=1).cpu()], path, scale=4)
