"""What does a teacher cost, and what does it give?

Each teacher embeds the same pairs in a process of its own; answers are looked for among the held-out ones.

    python -m cellgraph.benchmarks.teachers PAIRS [--limit 2000]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cellgraph.data import QAPair, Split
from cellgraph.teacher import LSATeacher, StaticTeacher, Teacher, TfidfTeacher, TransformersTeacher, minilm_teacher

from .adapters import print_table
from .embeddings import Part, linear, read_split, ridge
from .entry import enter
from .measure import PeakMemory, in_fresh_process
from .random_llama import write_random_llama

COLUMNS = (
    "teacher",
    "width",
    "files, MB",
    "memory, MB",
    "fit, s",
    "texts/s",
    "MB per 1,000 texts",
    "MRR identity",
    "MRR ridge",
    "MRR linear",
)
RANDOM = "random LLaMA, 1 layer of 32"

#: Wider embeddings are not mapped by training here: a processor takes a second for each of the updates.
WIDEST = 1024

#: Made with the texts to train with and a folder for what it writes.
TEACHERS: dict[str, Callable[[Sequence[str], Path], Teacher]] = {
    "tfidf 1024": lambda texts, folder: TfidfTeacher(1024),
    "tfidf 4096": lambda texts, folder: TfidfTeacher(4096),
    "lsa": lambda texts, folder: LSATeacher(225),
    "static": lambda texts, folder: StaticTeacher(),
    "MiniLM": lambda texts, folder: minilm_teacher(),
    RANDOM: lambda texts, folder: TransformersTeacher(
        write_random_llama(folder, texts, layers=1), dtype="bfloat16", max_length=32
    ),
}


@dataclass(frozen=True)
class Cost:
    """What one teacher took: megabytes of its files and of the process above the libraries, seconds, and texts/s."""

    width: int
    files: float
    memory: float
    fit: float
    speed: float


def embed(name: str, split: Split, threads: int) -> tuple[Cost, dict[str, tuple[Any, Any]]]:
    """Cost and embeddings, as arrays, of a teacher; meant to be called in a fresh process."""
    torch.set_num_threads(threads)
    known = [text for pair in split.train for text in (pair.question, pair.answer)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        teacher = TEACHERS[name](known, folder / "model")
        with PeakMemory(torch.device("cpu")) as peak:
            begin = time.perf_counter()
            teacher.fit(known)
            fit = time.perf_counter() - begin
            teacher.encode(known[:2])  # reads the weights
            parts, count, seconds = {}, 0, 0.0
            for part, pairs in vars(split).items():
                questions, answers = ([getattr(pair, side) for pair in pairs] for side in ("question", "answer"))
                begin = time.perf_counter()
                both = teacher.encode(questions + answers).numpy()
                seconds += time.perf_counter() - begin
                count += len(both)
                parts[part] = (both[: len(pairs)], both[len(pairs) :])
        cost = Cost(teacher.width, _files(teacher, folder), (peak.bytes or 0) / 1e6, fit, count / seconds)
    return cost, parts


def _files(teacher: Teacher, folder: Path) -> float:
    """Megabytes that one has to have for it: of a model its weights, else what it saves."""
    if isinstance(teacher, (TransformersTeacher, StaticTeacher)):
        return sum(path.stat().st_size for path in teacher.folder.glob("*.safetensors")) / 1e6
    teacher.save_pretrained(folder / "saved")
    return sum(path.stat().st_size for path in (folder / "saved").iterdir()) / 1e6


def rows(split: Split, names: Sequence[str], *, updates: int) -> Iterator[tuple[object, ...]]:
    """The table."""
    for name in names:
        cost, arrays = in_fresh_process(embed, name, split, torch.get_num_threads())
        parts = {part: _part(getattr(split, part), *both) for part, both in arrays.items()}
        test = parts["test"]
        yield (
            name,
            cost.width,
            f"{cost.files:,.1f}",
            round(cost.memory),
            f"{cost.fit:.1f}",
            f"{cost.speed:,.0f}" if cost.speed >= 10 else f"{cost.speed:.1f}",
            f"{4 * cost.width / 1000:.1f}",
            test.mrr(test.question, test.answer),
            test.mrr(ridge(parts["train"], test), test.answer),
            linear(parts["train"], parts["validation"], test, updates=updates) if cost.width <= WIDEST else None,
        )


def _part(pairs: Sequence[QAPair], question: Any, answer: Any) -> Part:
    return Part.of(pairs, torch.from_numpy(question), torch.from_numpy(answer))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="a file of pairs")
    parser.add_argument("--limit", type=int, default=2000, help="pairs, drawn from all")
    parser.add_argument("--teachers", nargs="+", default=list(TEACHERS), choices=list(TEACHERS))
    parser.add_argument("--updates", type=int, default=200, help="of the linear maps")
    given = parser.parse_args(arguments)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    split = read_split(given.pairs, limit=given.limit, test=given.limit // 4, validation=given.limit // 10)
    print(f"{len(split.train):,} / {len(split.validation):,} / {len(split.test):,} pairs, by topic\n")
    print_table(COLUMNS, rows(split, given.teachers, updates=given.updates))


if __name__ == "__main__":
    enter(main)
