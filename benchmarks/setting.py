"""The setting: what a row of a table was measured at."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

MODES = ("forward", "train")
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Setting:
    """One rollout of a cell, forward or as a whole training step.

    Attributes:
        backend: A backend of the library, the name of a peer, or ``floor``.
        shape: The lattice's shape.
        neighbourhood: Its number of neighbours.
        channels: Channels of the state.
        hidden: Width of the gated block's halves.
        num_steps: Steps of the rollout.
        batch: Samples in a call.
        dtype: ``"float32"``, or ``"bfloat16"``: mixed precision with a float32 state.
        mode: ``"forward"``, or ``"train"``: forward, backward (to the start state too) and the optimiser's update.
        checkpoint: Steps between two states kept for backward; 0 keeps everything.
    """

    backend: str
    shape: tuple[int, ...] = (11, 15, 15)
    neighbourhood: int = 6
    channels: int = 64
    hidden: int = 128
    num_steps: int = 12
    batch: int = 2
    dtype: str = "bfloat16"
    mode: str = "train"
    checkpoint: int = 0

    @property
    def num_cells(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    @property
    def cell_steps(self) -> int:
        """Cells times steps times samples of one call."""
        return self.num_cells * self.num_steps * self.batch

    def columns(self) -> dict[str, Any]:
        """The setting as the first columns of a row."""
        values = asdict(self) | {"num_cells": self.num_cells}
        names = "backend neighbourhood batch dtype mode checkpoint num_steps num_cells channels hidden"
        return {name: values[name] for name in names.split()}

    def __str__(self) -> str:
        kept = f", checkpoint {self.checkpoint}" if self.checkpoint else ""
        return f"{self.backend} {self.mode} {self.dtype} batch {self.batch}, {self.neighbourhood} neighbours{kept}"
