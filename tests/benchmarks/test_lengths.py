"""The lengths: what is held for the backward pass is the network's own."""

from __future__ import annotations

import pytest

from cellgraph.benchmarks import lengths


@pytest.mark.parametrize("name", ["tokens + cube", "stream + cube"])
def test_what_the_trial_of_backends_holds_does_not_count(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path))  # nothing has been tried yet
    blocks = lengths.chains(16)[name]
    first, again = (lengths.measure(blocks, 16, repeats=1)[2] for _ in range(2))
    assert first == again > 0
