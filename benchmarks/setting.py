"""The setting: what a row of a table was measured at."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from cellgraph.ops.processor import multiplies_bfloat16

MODES = ("forward", "train")
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
#: What training takes of them here unless it is told.
FASTEST_DTYPE = "bfloat16" if multiplies_bfloat16("cuda" if torch.cuda.is_available() else "cpu") else "float32"
DTYPES_FASTEST_FIRST = sorted(DTYPES, key=lambda name: name != FASTEST_DTYPE)


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
        cone: Whether only the light cone from the front to the back is computed, not the full rollout.
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
    cone: bool = False

    @property
    def num_cells(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    def columns(self) -> dict[str, Any]:
        """The setting as the first columns of a row."""
        rollout = "light cone" if self.cone else "full"
        values = asdict(self) | {"num_cells": self.num_cells, "rollout": rollout}
        names = "backend rollout neighbourhood batch dtype mode checkpoint num_steps num_cells channels hidden"
        return {name: values[name] for name in names.split()}

    def __str__(self) -> str:
        kept = f", checkpoint {self.checkpoint}" if self.checkpoint else ""
        cone = "light cone of " if self.cone else ""
        alike = f"{self.backend} {self.mode} {self.dtype} batch {self.batch}, {self.neighbourhood} neighbours"
        return f"{alike}, {cone}{self.num_steps} steps{kept}"


def add_shape(parser: argparse.ArgumentParser) -> None:
    """The option of the questions that are asked of one lattice."""
    shown = " x ".join(map(str, Setting.shape))
    parser.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), help=f"the lattice, {shown} by default")
