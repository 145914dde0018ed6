"""The data set: pairs of questions and answers, the teacher that embeds them, and their split."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, fields, replace
from typing import Any

from cellgraph.data import QAPair, Split, read_pairs, split_pairs
from cellgraph.teacher import LSATeacher, StaticTeacher, Teacher, TfidfTeacher, check_teacher, minilm_teacher

#: Teachers that go by a name.
TEACHERS: dict[str, Callable[[], Teacher]] = {
    "lsa": LSATeacher,
    "minilm": minilm_teacher,
    "static": StaticTeacher,
    "tfidf": TfidfTeacher,
}


@dataclass(frozen=True)
class PairDataset:
    """Pairs of questions and answers with their teacher, before or after they are split.

    Attributes:
        pairs: All the pairs.
        teacher: The frozen encoder.
        parts: Those to train with, to validate by and to judge by, once split.

    Example:
        >>> data = PairDataset.of([(f"What is {n}?", f"It is {n}.") for n in range(10)], teacher="lsa")
        >>> data.split(test=2, validation=2)
        PairDataset(6 to train with, 2 to validate by, 2 to judge by; LSATeacher)
    """

    pairs: list[QAPair]
    teacher: Teacher
    parts: Split | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, teacher: str | Teacher = "minilm", **columns: Any) -> PairDataset:
        """Read a file: JSON lines, CSV, TSV, Parquet, or dialogues as YAML.

        Args:
            path: The file.
            teacher: The encoder: ``"minilm"``, ``"static"``, or ``"lsa"`` and ``"tfidf"``, which need no weights,
                or one of your own.
            columns: Names of its columns and a limit, see :func:`~cellgraph.data.read_pairs`.

        Raises:
            ValueError: If the file is damaged or a column is missing, or there is no such teacher.
            OSError: If it cannot be opened.
        """
        return cls(read_pairs(path, **columns), _teacher(teacher))

    @classmethod
    def of(cls, pairs: Iterable[QAPair | tuple[str, str]], *, teacher: str | Teacher = "minilm") -> PairDataset:
        """Take pairs that are there already, each with its topic or as a question and an answer.

        Raises:
            ValueError: If there is no such teacher, or a pair is none of texts.
        """
        return cls([_pair(given) for given in pairs], _teacher(teacher))

    def split(
        self,
        *,
        test: int | float = 0.2,
        validation: int | float = 0.08,
        train: int | float | None = None,
        seed: int = 0,
    ) -> PairDataset:
        """The same pairs in three parts, see :func:`~cellgraph.data.split_pairs`.

        Args:
            test: Number of pairs to judge by, or their share of all.
            validation: The same of those to validate by.
            train: The most of the others to train on; all when absent.
            seed: Seed of the draw.

        Raises:
            ValueError: If the parts cannot be had.
        """
        parts = split_pairs(self.pairs, test=test, validation=validation, train=train, seed=seed)
        return replace(self, parts=parts)

    def __repr__(self) -> str:
        parts, teacher = self.parts, type(self.teacher).__name__
        if parts is None:
            return f"{type(self).__name__}({len(self.pairs):,} pairs; {teacher})"
        counts = f"{len(parts.train):,} to train with, {len(parts.validation):,} to validate by"
        return f"{type(self).__name__}({counts}, {len(parts.test):,} to judge by; {teacher})"


def _pair(given: Any) -> QAPair:
    if isinstance(given, QAPair):
        return given
    # Texts have parts, too, and mappings have names for theirs: neither are a question and an answer.
    ordered = isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping | Set)
    values = tuple(given) if ordered else ()
    if not 2 <= len(values) <= len(fields(QAPair)):
        raise ValueError(f"a pair must be a QAPair or a question and an answer, got {given!r}")
    return QAPair(*values)


def _teacher(given: str | Teacher) -> Teacher:
    if not isinstance(given, str):
        return check_teacher(given)
    if given not in TEACHERS:
        raise ValueError(f"teacher must be one of {sorted(TEACHERS)} or a teacher, got {given!r}")
    return TEACHERS[given]()
