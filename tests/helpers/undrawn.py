"""Runs without their pictures, whose drawing takes a third of a small one's time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """For tests that look at no picture. Runs in processes of their own draw them as ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cellgraph.runs.experiment.plot_run", lambda metrics, folder: [])
        yield
