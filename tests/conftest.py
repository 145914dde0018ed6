"""Fixtures of all tests."""

from __future__ import annotations

import pytest
import torch

# Every test process computes on one thread, so that parallel tests do not fight over the cores.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
