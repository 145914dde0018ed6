"""Serving: what is told of a server that is not there, or answers nothing."""

from __future__ import annotations

import math
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cellgraph.benchmarks import serving


def nobody() -> int:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_where_every_question_is_lost_there_are_no_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    @contextmanager
    def server(run: Path, *options: object) -> Iterator[int]:
        yield nobody()

    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "test.jsonl").write_text('{"question": "A?", "answer": "B"}\n')
    monkeypatch.setattr(serving, "server", server)
    monkeypatch.setattr(serving, "batches", lambda port: (0.0, 0.0))
    monkeypatch.setattr(sys, "argv", ["serving", str(tmp_path), "--clients", "2", "--questions", "4", "--batches", "1"])
    serving.main()
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == "| 1 | 2 | 0 | 4 | 0 | 0 | nan | nan | nan | 0.0 |"
    assert told.err.startswith("lost: ConnectionRefusedError")


def test_percentiles_are_those_of_the_times() -> None:
    seconds = list(np.random.default_rng(0).exponential(size=200))
    expected = [sorted(seconds)[round(199 * q / 100)] for q in serving.PERCENTILES]
    assert serving.percentiles(seconds) == pytest.approx(expected, rel=0.05)
    assert all(math.isnan(value) for value in serving.percentiles([]))


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"the server did not start: cellgraph serve: .*nosuch"),
        serving.server(tmp_path / "nosuch"),
    ):
        pass
