"""Does training from the disk keep memory flat, and what does it cost beside training from memory?

The embeddings are random: nothing is learned, but as much is read, computed and kept as with real ones.

    python -m cellgraph.benchmarks.large --pairs 1000000
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.retrieval import DialogueLoader, EmbeddedPairs, PairLesson, TrainSettings, standard_objective
from cellgraph.teacher import StoredRows
from cellgraph.teacher.shards import KEY_BYTES, write_shard
from cellgraph.training import train

from .embeddings import Uncalibrated
from .entry import enter
from .machine import describe_machine
from .measure import in_fresh_process, release, resident

#: Rows a shard.
ROWS = 16_384


def write_random(folder: Path, name: str, count: int, width: int, seed: int) -> list[Path]:
    """Write shards of random unit vectors."""
    generator, paths = torch.Generator().manual_seed(seed), []
    for start in range(0, count, ROWS):
        rows = torch.randn(min(ROWS, count - start), width, generator=generator)
        rows = torch.nn.functional.normalize(rows, dim=1)
        keys = [(start + row).to_bytes(KEY_BYTES, "big") for row in range(len(rows))]
        paths.append(write_shard(folder, "0" * 64, keys, rows, name=f"random-{name}-{start // ROWS:05d}"))
    return paths


class Watched(Uncalibrated):
    """Training that notes the resident set and the time after each update."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.bytes: list[int] = []
        self.times: list[float] = []

    def lesson(self, settings: Any) -> PairLesson:
        """One that notes both when an update is done."""
        task = self

        class Noted(PairLesson):
            def constrain(self) -> None:
                super().constrain()
                task.bytes.append(resident())
                task.times.append(time.perf_counter())

        assert self.pairs is not None
        return Noted(self.objective, self.pairs, self.validation, settings)


def measure(
    folder: str,
    pairs: int,
    *,
    on_disk: bool,
    updates: int,
    batch: int,
    cold: bool,
    shape: tuple[int, int, int] = (3, 15, 15),
    compile: bool = True,
) -> dict[str, Any]:
    """Train so many updates from the first pairs of the folder; meant to be called in a fresh process."""
    files = {name: sorted(Path(folder).glob(f"random-{name}-*.safetensors")) for name in ("question", "answer")}
    libraries = resident()
    begin = time.perf_counter()
    columns: list[Any] = [StoredRows.of_files(paths) for paths in files.values()]
    if not on_disk:
        columns = [rows[:pairs] for rows in columns]
    known = EmbeddedPairs(*columns)
    opened = time.perf_counter() - begin
    torch.manual_seed(0)
    cell = GMLPCell(Lattice(shape, neighbourhood=6), channels=32, hidden=64, gate_std=0.2, out_std=1.0)
    model = CellGraph(cell, in_features=known.question.size(1), surface_channels=1, readout_channels=8, num_steps=3)
    begin = time.perf_counter()
    model.fit_adapters(known.question, known.answer)
    fitted = time.perf_counter() - begin
    # What the heap keeps of large blocks is no use of theirs.
    release()
    before = resident()
    if cold:
        for path in (path for paths in files.values() for path in paths):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    stream = iter(DialogueLoader(known, batch, seed=1))
    waited = []
    for _ in range(min(200, len(known) // batch)):
        begin = time.perf_counter()
        next(stream)
        waited.append(time.perf_counter() - begin)
    settings = TrainSettings(max_steps=updates, batch_size=batch, checkpoint_every=updates, compile=compile)
    task = Watched(standard_objective(surface=0.0, bank_answers=4096), known)
    train(model, task, settings, progress=False)
    # The first tenth warms up.
    skipped = updates // 10
    seconds = [later - earlier for earlier, later in itertools.pairwise(task.times[skipped:])]
    middle = sorted(seconds)[len(seconds) // 2]
    return {
        "from": f"disk{', cold' if cold else ''}" if on_disk else "memory",
        "pairs": len(known),
        "libraries_MB": round(libraries / 1e6),
        "before_training_MB": round(before / 1e6),
        "after_a_tenth_MB": round(task.bytes[skipped] / 1e6),
        "at_the_end_MB": round(task.bytes[-1] / 1e6),
        "opening_s": round(opened, 1),
        "fitting_s": round(fitted, 1),
        "batch_ms": round(1000 * sorted(waited)[len(waited) // 2], 2),
        "samples_per_s": round(batch / middle, 1),
        "best_samples_per_s": round(batch / min(seconds), 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the disk, from the disk with nothing of it in the system's memory, and fewer pairs from memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--in-memory", type=int, default=100_000, help="pairs of the run from memory")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--folder", type=Path, help="where the embeddings go for the time; a temporary folder by default"
    )
    given = parser.parse_args(arguments)
    print(json.dumps(describe_machine(torch.device("cpu"))), flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        begin = time.perf_counter()
        for seed, name in enumerate(("question", "answer")):
            write_random(Path(folder), name, given.pairs, given.width, seed)
        written = sum(path.stat().st_size for path in Path(folder).iterdir())
        print(f"random embeddings: {written / 1e9:.2f} GB written in {time.perf_counter() - begin:.0f} s", flush=True)
        for on_disk, cold in ((True, False), (False, False), (True, True)):
            pairs = given.pairs if on_disk else given.in_memory
            figures = in_fresh_process(_measured, folder, pairs, on_disk, given.updates, given.batch, cold)
            print(json.dumps(figures), flush=True)


def _measured(folder: str, pairs: int, on_disk: bool, updates: int, batch: int, cold: bool) -> dict[str, Any]:
    return measure(folder, pairs, on_disk=on_disk, updates=updates, batch=batch, cold=cold)


if __name__ == "__main__":
    enter(main)
