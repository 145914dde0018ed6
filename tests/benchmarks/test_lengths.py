"""The lengths: what is held for the backward pass is the network's own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cellgraph.benchmarks import lengths


@pytest.mark.parametrize("name", ["tokens + cube", "stream + cube"])
def test_what_the_trial_of_backends_holds_does_not_count(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path))  # nothing has been tried yet
    blocks = lengths.chains(16)[name]
    first, again = (lengths.measure(blocks, 16, repeats=1)[2] for _ in range(2))
    assert first == again > 0


@pytest.mark.parametrize("length", [1, 8, 12, 20])
@pytest.mark.parametrize("name", ["tokens + cube", "hybrid"])
def test_texts_of_any_length_are_measured(name: str, length: int) -> None:
    median, p95, megabytes = lengths.measure(lengths.chains(length)[name], length, repeats=1)
    assert 0 < median <= p95
    assert megabytes > 0


def test_the_share_explained_is_the_squared_correlation() -> None:
    x, y = [8, 16, 32, 64], [1.0, 3.0, 2.5, 9.0]
    slope, explained = lengths.line(x, y)
    assert explained == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    assert slope == pytest.approx(np.cov(x, y)[0, 1] / np.var(x, ddof=1))
    assert all(math.isnan(value) for value in lengths.line([12, 12], [1.0, 2.0]))
