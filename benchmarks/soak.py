"""Does memory stay flat over many updates?

``python -m cellgraph.benchmarks.soak`` trains the smallest network with the whole of a run around it, checkpoints, log
and validations, for 100,000 updates on one thread and prints the process's resident set as it goes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.automata import AutomatonSettings, SamplePool, train_automaton
from cellgraph.automata.tasks import Majority
from cellgraph.retrieval import EmbeddedPairs, Retrieval, TrainSettings, standard_objective
from cellgraph.training import train

from .entry import enter
from .measure import resident

#: Growth over the second half, as a share of what there is, that is taken for none: allocators keep what they please.
FLAT = 0.02


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print and judge; ends with 1 where memory has grown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=100_000)
    parser.add_argument("--kind", choices=sorted(KINDS), default="pairs", help="what is trained")
    parser.add_argument("--every", type=int, help="updates from one reading to the next, a twentieth by default")
    parser.add_argument("--json", type=Path, help="write the readings there, too")
    given = parser.parse_args(arguments)
    every = max(1, given.updates // 20) if given.every is None else given.every
    if not 1 <= every <= given.updates:
        raise ValueError(f"--every must be at least 1 and at most --updates {given.updates:,}, got {every:,}")
    torch.set_num_threads(1)
    readings = soak(given.kind, updates=given.updates, every=every)
    grown = growth(readings)
    print(f"grown by {grown:+.2%} over the second half: {'flat' if grown <= FLAT else 'not flat'}")
    if given.json:
        told = {"kind": given.kind, "torch": torch.__version__, "python": platform.python_version(), "grown": grown}
        given.json.write_text(json.dumps({**told, "readings": readings}, indent=2) + "\n")
    if grown > FLAT:
        raise SystemExit(1)


def soak(kind: str, *, updates: int, every: int) -> list[dict[str, float]]:
    """Readings of the resident set while a small run goes on.

    Args:
        kind: One of :data:`KINDS`.
        updates: Updates in all.
        every: Updates from one reading to the next.
    """
    readings: list[dict[str, float]] = []
    begin, done = time.perf_counter(), 0

    def count(module: Any, given: Any) -> None:
        nonlocal done
        if not module.training:
            return
        done += 1
        if done % every == 0:
            readings.append({"updates": done, "mib": resident() / 2**20, "seconds": time.perf_counter() - begin})
            last = readings[-1]
            print(f"{done:>9,} updates  {last['mib']:8.1f} MiB  {last['seconds']:7.0f} s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        KINDS[kind](count, updates, Path(folder))
    return readings


def growth(readings: Sequence[dict[str, float]]) -> float:
    """How much the largest of the last quarter is above the largest of the quarter before it, as a share."""
    quarter = max(1, len(readings) // 4)
    before = max(one["mib"] for one in readings[-2 * quarter : -quarter] or readings[:1])
    return max(one["mib"] for one in readings[-quarter:]) / before - 1


def _pairs(count: Any, updates: int, folder: Path) -> None:
    model = CellGraph(
        GMLPCell(Lattice((2, 3, 3)), 8, hidden=8, heads=2), in_features=6, surface_channels=1, num_steps=2
    )
    model.register_forward_pre_hook(count)
    pairs = EmbeddedPairs(torch.randn(40, 6), torch.randn(40, 6))
    settings = TrainSettings(max_steps=updates, batch_size=4, **_often(updates), lr_multipliers={})
    train(model, Retrieval(standard_objective(), pairs, pairs), settings, folder=folder, progress=False)


def _automaton(count: Any, updates: int, folder: Path) -> None:
    task = Majority(width=9, channels=4)
    cell = GMLPCell(task.lattice, 4, hidden=4, heads=2)
    steps = itertools.count()
    # A cell is called at each step of a rollout, of which there are two in training, and at those of validations.
    cell.register_forward_pre_hook(
        lambda module, given: count(module, given) if module.training and next(steps) % 2 == 0 else None
    )
    settings = AutomatonSettings(max_steps=updates, batch_size=4, num_steps=(2, 2), **_often(updates))
    # Nothing bounds the states of this cell: ones that are never replaced grow until they are no numbers.
    pool = SamplePool(16, max_age=8)
    train_automaton(cell, task, settings, pool=pool, folder=folder, progress=False)


def _often(updates: int) -> dict[str, Any]:
    """Everything that happens now and then in a run happens a hundred times and more."""
    every = max(1, updates // 100)
    often = {"val_every": every, "checkpoint_every": every, "log_every": max(1, every // 10)}
    return {**often, "warmup_steps": 0, "compile": False, "accelerator": "cpu"}


KINDS = {"pairs": _pairs, "automaton": _automaton}


if __name__ == "__main__":
    enter(main)
