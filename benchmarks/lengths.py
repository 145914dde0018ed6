"""How do time and memory grow with the length of a text?

``python -m cellgraph.benchmarks.lengths`` asks new networks over tokens one question at a time, of 8 to 512 tokens, and
prints the 95th percentile of the time, the memory that a training step of 16 such questions holds for its backward
pass, and of the straight line through the medians its slope and the share of their variance that it explains (R^2).
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np
import torch

from cellgraph.sequence import SequenceGraph

from .entry import enter
from .machine import describe_machine

FEATURES = 384
LENGTHS = (8, 16, 32, 64, 128, 256, 512)


def chains(length: int) -> dict[str, list[dict[str, Any]]]:
    """The chains, their surfaces as large as the text."""
    cube = {"kind": "cube", "shape": [2, 8, math.ceil(length / 8)], "num_steps": 3}
    return {
        "attention pooling": [],
        "convolution": [{"kind": "convolution", "hidden": 122}],
        "transformer": [{"kind": "transformer", "hidden": 112}],
        "mamba": [{"kind": "mamba", "state": 8, "expand": 1, "layers": 2}],
        "tokens + cube": [cube],
        "stream + cube": [{"kind": "stream", "shape": [2, 4, 4], "surface_channels": 4}],
        "hybrid": [{"kind": "cct"}, {"kind": "mamba", "state": 4, "expand": 1}, {**cube, "hidden": 16}],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    given = parser.parse_args()
    print({key: value for key, value in describe_machine(torch.device("cpu")).items() if key != "packages"})
    print("| network | " + " | ".join(f"{length}: p95 ms / MB" for length in given.lengths) + " | ms a token | R^2 |")
    for name in chains(8):
        medians, cells = [], []
        for length in given.lengths:
            median, p95, megabytes = measure(chains(length)[name], length, given.repeats)
            medians.append(median)
            cells.append(f"{p95:.1f} / {megabytes:.1f}")
        slope, explained = line(given.lengths, medians)
        print(f"| {name} | " + " | ".join(cells) + f" | {slope:.3f} | {explained:.3f} |", flush=True)


def measure(blocks: list[dict[str, Any]], length: int, repeats: int) -> tuple[float, float, float]:
    """Median and 95th percentile of the milliseconds of a question, and the megabytes kept for backward."""
    torch.manual_seed(0)
    network = SequenceGraph(blocks, in_features=FEATURES).eval()
    network.compile_step(compiling=False)
    question = torch.randn(1, length, FEATURES)
    taken = []
    with torch.no_grad():
        for _ in range(repeats + 3):
            begin = time.perf_counter()
            network(question)
            taken.append(1e3 * (time.perf_counter() - begin))
    held: dict[int, int] = {}

    def hold(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return x

    batch = torch.randn(16, length, FEATURES)
    # The first training call tries the backends, which hold tensors of their own.
    network.train()(batch)
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda x: x):
        network(batch)
    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept = sum(size for place, size in held.items() if place not in parameters)
    return float(np.median(taken[3:])), float(np.percentile(taken[3:], 95)), kept / 1e6


def line(x: tuple[int, ...] | list[int], y: list[float]) -> tuple[float, float]:
    """Slope of the least-squares line, and the share of the variance that it explains; not numbers of one length."""
    if len({*x}) < 2:
        return math.nan, math.nan
    slope, start = np.polyfit(x, y, 1)
    left = np.array(y) - (slope * np.array(x) + start)
    return float(slope), float(1 - left.var() / np.var(y))


if __name__ == "__main__":
    enter(main)
