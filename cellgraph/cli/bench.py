"""The verb ``bench``: speed and memory here, beside peers."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from cellgraph.benchmarks import command


def main(arguments: Sequence[str]) -> None:
    """Measure speed, memory and latency on this machine."""
    # It has a way of its own to stop: with the figures up to there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command.main(arguments)
