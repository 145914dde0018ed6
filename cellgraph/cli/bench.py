"""The verb ``bench``: speed and memory here, beside peers."""

from cellgraph.benchmarks.command import main

__all__ = ["main"]
