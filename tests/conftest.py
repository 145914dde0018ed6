"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Every test process computes on one thread, so that parallel tests do not fight over the cores.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of real data: ``CELLGRAPH_DATA``, or ``shared/data`` beside the checkout."""
    folder = Path(os.environ.get("CELLGRAPH_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent (set CELLGRAPH_DATA)")
    return folder
