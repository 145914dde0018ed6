"""The verb ``bench``: speed and memory here, beside peers."""

from __future__ import annotations

from collections.abc import Sequence

from cellgraph.benchmarks import command


def main(arguments: Sequence[str]) -> None:
    """Measure speed, memory and latency on this machine."""
    command.main(arguments)
