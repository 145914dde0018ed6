"""Fixtures of the tests of the engine."""

from __future__ import annotations

import pytest
import torch
from lines import WIDTH

from cellgraph.retrieval import EmbeddedPairs


@pytest.fixture
def pairs():
    """To train on and to validate on; a linear map leads from question to answer."""
    generator = torch.Generator().manual_seed(0)
    question = torch.randn(60, WIDTH, generator=generator)
    answer = question @ torch.randn(WIDTH, WIDTH, generator=generator)
    return EmbeddedPairs(question[:40], answer[:40]), EmbeddedPairs(question[40:], answer[40:])
