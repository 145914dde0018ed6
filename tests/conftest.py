"""Fixtures of all tests."""

from __future__ import annotations

import os

import pytest
import torch

# Every test process computes on one thread, so that parallel tests do not fight over the cores.
torch.set_num_threads(1)

# Triton reads this when it is imported, which torch_geometric does: without a GPU its kernels are interpreted.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
