"""Options that say how a file is read, and the teacher that looks at it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from cellgraph.cli import settling  # noqa: F401 - registers the resolver that the configuration uses
from cellgraph.configuration import make_importable
from cellgraph.data import Rows, read_rows
from cellgraph.runs.building import build
from cellgraph.teacher import EmbeddingCache, EmbeddingJob, LSATeacher, Teacher, check_teacher, load_teacher
from cellgraph.teacher.state import STATE_FILE

#: Smallest width at which the teacher that needs no weights still tells texts apart.
LEAST_WIDTH = 4


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add the options of columns and teacher."""
    columns = parser.add_argument_group("columns", "names of columns; '' leaves one out that means something else")
    columns.add_argument("--question", default="question", metavar="NAME", help="column of the questions (question)")
    columns.add_argument("--answer", default="answer", metavar="NAME", help="column of the answers (answer)")
    for name in ("topic", "category", "dialogue", "turn", "split"):
        columns.add_argument(f"--{name}", metavar="NAME", help=f"column of the {name} ({name}, if there is one)")
    parser.add_argument(
        "--teacher",
        default="lsa",
        help="what compares meanings: lsa, which is fitted to the file and needs no weights, another name in "
        "conf/teacher (minilm), or a folder with a saved teacher",
    )


def read(path: Path, given: argparse.Namespace) -> Rows:
    """The rows of a file, by the options."""
    names = ("question", "answer", "topic", "category", "dialogue", "turn", "split")
    return read_rows(path, **{name: getattr(given, name) for name in names})


class Embedder:
    """Turns texts into embeddings by a named teacher, which learns from them if it has to learn.

    What a teacher that has nothing to learn gives is kept where training keeps it, and taken from there.

    Args:
        name: A name in ``conf/teacher``, or a folder with a saved teacher.
        progress: Called with the share of the texts that is done.

    Raises:
        ValueError: If there is no such teacher.
        OSError: If its weights are not here and cannot be had.
    """

    def __init__(self, name: str, progress: Callable[[float], None] = lambda share: None) -> None:
        self._progress = progress
        self._saved = (Path(name) / STATE_FILE).is_file()
        self._teacher: Teacher | None = None if name == "lsa" else _teacher(name, saved=self._saved)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of texts, ``[num_texts, width]``.

        Raises:
            ValueError: If there is too little in the texts to learn from.
            OSError: If the folder of embeddings cannot be written.
        """
        self._progress(0.0)
        if self._teacher is None:
            return _fitted(texts).encode(texts).numpy()
        if not self._saved and _learns(self._teacher, texts):
            return self._teacher.encode(texts).numpy()
        cache = EmbeddingCache()
        job = EmbeddingJob(self._teacher, texts, cache)
        done = job.num_known

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self._progress(done / job.num_texts)

        job.run(advance)
        return cache.embed(self._teacher, texts).numpy()


def _learns(teacher: Teacher, texts: Sequence[str]) -> bool:
    """Whether a teacher learned something from texts."""
    try:
        before = teacher.fingerprint
    except ValueError:
        before = None  # it has not learned yet
    teacher.fit(texts)
    return teacher.fingerprint != before


def _teacher(name: str, *, saved: bool) -> Teacher:
    if saved:
        return load_teacher(name)
    make_importable(Path.cwd())
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        config = compose("train", overrides=["data=file", f"teacher={name}"])
    return check_teacher(build(OmegaConf.to_container(config.teacher, resolve=True)))


def _fitted(texts: Sequence[str]) -> Teacher:
    """The teacher of no weights, of the largest width that the texts allow."""
    width = LSATeacher().width
    while True:
        teacher = LSATeacher(width)
        try:
            teacher.fit(texts)
        except ValueError as error:
            width //= 2
            if width < LEAST_WIDTH:
                raise ValueError(f"there is too little text to compare meanings: {error}") from None
        else:
            return teacher
