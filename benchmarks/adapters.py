"""What do adapters keep of a teacher's embeddings, and what do layouts do?

python -m cellgraph.benchmarks.adapters PAIRS [--cube UPDATES]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.ends import ADAPTERS
from cellgraph.nn.layout import LAYOUTS
from cellgraph.retrieval import EmbeddedPairs, TrainSettings, predict, standard_objective
from cellgraph.retrieval.task import Retrieval
from cellgraph.teacher import EmbeddingCache, minilm_teacher
from cellgraph.training import train

from .embeddings import Part, Uncalibrated, overlap, read_split, ridge
from .entry import enter

#: Of the surface: 15 x 15 cells, one value each.
FACE, WIDTH = (15, 15), 225
#: Values of the prefixes.
PREFIXES = (16, 32, 64, 128)
COLUMNS = ("adapter", "explained variance", "overlap@10", "MRR before", "MRR, ridge in it", "fit, s")


def rows(train_part: Part, test: Part) -> Iterator[tuple[object, ...]]:
    """The table: all adapters at the surface's width, and prefixes of those that have an order."""
    width = train_part.question.size(1)
    both = torch.cat([train_part.question, train_part.answer])
    yield ("none", 1.0, 1.0, *_retrieval(train_part, test), 0.0)
    made: dict[str, Any] = {}
    for name, kind in ADAPTERS.items():
        torch.manual_seed(0)
        adapter = kind(width, WIDTH)
        begin = time.perf_counter()
        adapter.fit(both)
        seconds = time.perf_counter() - begin
        made[name] = adapter
        yield (name, *_kept(adapter, train_part, test), seconds)
    made["pca"] = ADAPTERS["pca"](width, WIDTH, layout="rows")  # type: ignore[call-arg]
    made["pca"].fit(both)
    for length in PREFIXES:
        for name in ("pca", "matryoshka"):
            yield (f"{name}, first {length}", *_kept(made[name], train_part, test, length=length), None)


def _kept(adapter: Any, train_part: Part, test: Part, *, length: int | None = None) -> tuple[float | None, ...]:
    with torch.no_grad():
        parts = [
            replace(
                part, question=adapter.encode(part.question)[:, :length], answer=adapter.encode(part.answer)[:, :length]
            )
            for part in (train_part, test)
        ]
        held = torch.cat([test.question, test.answer])
        explained = 1 - adapter.reconstruction_error(held) if length is None else None
        kept = overlap(held, adapter.encode(held)[:, :length])
    return explained, kept, *_retrieval(*parts)


def _retrieval(train_part: Part, test: Part) -> tuple[float, float]:
    """By the question itself, and by what ridge regression makes of it."""
    return test.mrr(test.question, test.answer), test.mrr(ridge(train_part, test), test.answer)


def cubes(train_part: Part, validation: Part, test: Part, *, updates: int, depth: int) -> Iterator[tuple[object, ...]]:
    """What a small cube gives with each layout; without a path, so that all goes through the face."""
    known = EmbeddedPairs(train_part.question, train_part.answer)
    held = EmbeddedPairs(validation.question, validation.answer)
    for seed in (0, 1):
        for layout in LAYOUTS:
            torch.manual_seed(seed)
            lattice = Lattice((depth, *FACE))
            cell = GMLPCell(lattice, channels=16, hidden=32)
            options: dict[str, Any] = {"name": "pca", "layout": layout}
            model = CellGraph(
                cell,
                in_features=known.question.size(1),
                surface_channels=1,
                path="none",
                adapter=options,
                num_steps=depth + 1,
            )
            model.fit_adapters(known.question, known.answer)
            before = _asked(model, test)
            settings = TrainSettings(max_steps=updates, batch_size=64, lr=2e-3, seed=seed)
            task = Uncalibrated(standard_objective(surface=0.0), known, held)
            assert isinstance(task, Retrieval)
            trained = train(model, task, settings, progress=False).model
            yield layout, seed, before, _asked(trained, test)


def _asked(model: CellGraph, test: Part) -> float:
    made = predict(model, test.question)
    return test.mrr(made.query, made.key(test.answer))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="a file of pairs")
    parser.add_argument("--cube", type=int, default=0, metavar="UPDATES", help="also train a cube with each layout")
    parser.add_argument("--depth", type=int, default=3, help="its depth")
    given = parser.parse_args(arguments)
    split = read_split(given.pairs, limit=None, test=1000, validation=400)
    cache, teacher = EmbeddingCache(), minilm_teacher()

    def embed(texts: list[str]) -> Tensor:
        return cache.embed(teacher, texts, progress=True)

    parts = {
        name: Part.of(pairs, embed([pair.question for pair in pairs]), embed([pair.answer for pair in pairs]))
        for name, pairs in vars(split).items()
    }
    print_table(COLUMNS, rows(parts["train"], parts["test"]))
    if given.cube:
        print()
        found = cubes(parts["train"], parts["validation"], parts["test"], updates=given.cube, depth=given.depth)
        print_table(("layout", "seed", "MRR, new", "MRR, trained"), found)


def print_table(columns: Sequence[str], rows: Iterator[tuple[object, ...]]) -> None:
    """Print a table in Markdown, row by row as they come."""
    print(f"| {' | '.join(columns)} |")
    print(f"| --- |{' ---: |' * (len(columns) - 1)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(_shown(value) for value in row)} |", flush=True)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    enter(main)
