"""Readers of question-answer pairs: JSONL, CSV, Parquet, and by way of :mod:`.dialogues` YAML."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from cellgraph.files import expanded
from cellgraph.numbers import integer

from .arrow import arrow_records, is_arrow
from .dialogues import read_dialogue_folder, read_dialogues
from .pairs import QAPair

__all__ = ["read_pairs"]

#: One record of a file: where it stands, for messages ("line 3", "row 2"), its columns, and the names that more than
#: one of them has.
Record = tuple[str, Mapping[str, Any], frozenset[str]]

_FIELDS = ("question", "answer", "topic", "category", "dialogue", "turn")
#: A whole number as files have it: a column with missing values is one of floats to many that write files.
_WHOLE = re.compile(r"\+?(\d{1,18})(?:\.0*)?")
#: Longest CSV cell, Python's own limit being 131,072 characters; a C long, which has 32 bits somewhere.
_LONGEST_CELL = min(sys.maxsize, 2**31 - 1)
_CELL_LIMIT = threading.Lock()
#: How many times its size a compressed file may have in characters, and what it may have in any case.
_MOST_TIMES, _SMALL = 1000, 2**28


def read_pairs(
    path: str | os.PathLike[str],
    *,
    question: str = "question",
    answer: str = "answer",
    topic: str | None = None,
    category: str | None = None,
    dialogue: str | None = None,
    turn: str | None = None,
    limit: int | None = None,
) -> list[QAPair]:
    """Reads question-answer pairs from a file, in the order of the file.

    The suffix tells the format: ``.jsonl`` / ``.ndjson`` (an object a line), ``.csv`` / ``.tsv`` (with a header),
    ``.parquet``, or ``.yml`` / ``.yaml`` for dialogues in the form of the
    `ChatterBot corpus <https://github.com/gunthercox/chatterbot-corpus>`_: ``categories`` and ``conversations``, each
    a list of turns. Every turn but the last is the question to the one after it, so a conversation of one turn makes
    no pair; a folder is read as all its YAML files, sorted by name. A folder that the library
    `datasets <https://huggingface.co/docs/datasets>`_ saved is mapped into memory, and what is no path here but may be
    a name on its hub, ``owner/name`` or ``owner/name:split``, is streamed. Texts are taken as they stand, ``null`` and
    ``NA`` included: missing is what the format itself has as missing, in CSV an empty cell. :func:`clean_pairs` tidies
    them.

    The names of the columns say what is read. ``topic``, ``category``, ``dialogue`` and ``turn`` need not be there; an
    empty name leaves a column out that means something else.

    Args:
        path: The file, a folder of dialogue files or of ``datasets``, or a name on the hub.
        question: Name of the column that holds the questions.
        answer: Name of the column that holds the answers.
        topic: Name of the column that holds the topics; by default ``"topic"`` if there is one, ``""`` for none.
        category: Name of the column that holds the categories, likewise.
        dialogue: Name of the column that holds the names of the dialogues, likewise.
        turn: Name of the column that holds the places in the dialogues, whole numbers, likewise.
        limit: Number of pairs after which reading stops.

    Raises:
        ValueError: If the format is unknown, the file is empty, damaged or not UTF-8, a column is missing or there
            twice, a question or answer is missing or not text, or a turn is no whole number; the message names the file
            and the line or row.
        OSError: If the file cannot be opened.
    """
    path = expanded(path) or Path(path)
    if limit is not None and (limit := integer("limit", limit)) < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    columns = checked_columns(question, answer, topic, category, dialogue, turn)
    if is_dialogues(path):
        pairs = dialogue_pairs(path, columns)
    else:
        pairs = (pair_of(path, record, columns) for record in records(path, columns))
    try:
        read = list(itertools.islice(pairs, limit))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.object[error.start]:#04x})") from None
    if not read:
        raise ValueError(f"{path}: no question-answer pairs in it, the file is empty")
    return read


def checked_columns(*names: str | None) -> dict[str, str | None]:
    """The names of the columns by field, in the order of :func:`read_pairs`."""
    columns = dict(zip(_FIELDS, names, strict=True))
    for field, name in columns.items():
        if not isinstance(name, str) and (name is not None or field in ("question", "answer")):
            raise ValueError(f"the column of the {field} must be a name, got {name!r}")
    return columns


def is_dialogues(path: Path) -> bool:
    """Whether a path is read as dialogues, not as a table of records."""
    return (path.is_dir() and not is_arrow(path)) or path.suffix.lower() in (".yml", ".yaml")


def dialogue_pairs(path: Path, columns: Mapping[str, str | None]) -> Iterator[QAPair]:
    """Yields the pairs of a file or folder of dialogues."""
    pairs = read_dialogue_folder(path) if path.is_dir() else read_dialogues(path, Counter())
    return _without(columns, pairs)


def records(path: Path, columns: Mapping[str, str | None]) -> Iterator[Record]:
    """Yields the records of a table, of which at least these columns are read."""
    suffix = path.suffix.lower()
    if is_arrow(path):
        return arrow_records(path, columns)
    if suffix in (".jsonl", ".ndjson"):
        return _json_records(path)
    if suffix in (".csv", ".tsv"):
        return _csv_records(path, "\t" if suffix == ".tsv" else ",")
    if suffix == ".parquet":
        return _parquet_records(path, columns)
    known = ".jsonl, .ndjson, .csv, .tsv, .parquet, .yml, .yaml"
    raise ValueError(f"{path}: cannot read files ending in {suffix!r}; expected one of {known}")


def pair_of(path: Path, record: Record, columns: Mapping[str, str | None]) -> QAPair:
    """The pair that a record holds.

    Raises:
        ValueError: If it holds none; the message names the file and the place.
    """
    needed = ("question", "answer")
    place, cells, repeated = record
    where = f"{path}, {place}"
    found: dict[str, Any] = {}
    for field, given in columns.items():
        # An empty name is a column only where one is needed.
        if given == "" and field not in needed:
            continue
        name = field if given is None else given
        if given is not None and name not in cells:
            there = ", ".join(repr(key) for key in cells) or "none"
            raise ValueError(f"{where}: no column {name!r} for the {field}; the columns are {there}")
        if name in repeated:
            raise ValueError(f"{where}: the column {name!r} for the {field} is there more than once")
        # A column that was not asked for may mean something else, and reading must not end there.
        hint = "" if field in needed else f"; {field}='' leaves the column out"
        value = cells.get(name)
        found[field] = _turn(value, where, name, hint) if field == "turn" else _text(value, where, name, hint)
        if field in needed and not str(found[field]).strip():
            raise ValueError(f"{where}: the {field} (column {name!r}) is missing or empty")
    return QAPair(**found)


def _text(value: Any, where: str, name: str, hint: str) -> str:
    """Returns a cell as text, empty where the value is missing (None or NaN)."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, (str, int, float, Decimal)):
        return str(value)
    if isinstance(value, bytes):
        return value.decode()  # some that write Parquet do not say that their texts are texts
    raise ValueError(f"{where}: {name!r} must be text, got {type(value).__name__}{hint}")


def _turn(value: Any, where: str, name: str, hint: str) -> int:
    """Returns a cell as a whole number, 0 where the value is missing."""
    written = (
        str(value).strip() if isinstance(value, (str, int, float, Decimal)) and not isinstance(value, bool) else ""
    )
    if value is None or written.lower() == "nan" or (value == "" and isinstance(value, str)):
        return 0
    whole = _WHOLE.fullmatch(written)
    if whole is None:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
        raise ValueError(f"{where}: {name!r} must be a whole number from 0 on, got {shown}{hint}")
    return int(whole[1])


def _without(columns: Mapping[str, str | None], pairs: Iterator[QAPair]) -> Iterator[QAPair]:
    """Yields pairs of dialogues without what was to be left out."""
    nothing: dict[str, Any] = {"topic": "", "category": "", "dialogue": "", "turn": 0}
    left_out = {field: nothing[field] for field in nothing if columns[field] == ""}
    yield from (replace(pair, **left_out) for pair in pairs)


def _json_records(path: Path) -> Iterator[Record]:
    repeated: frozenset[str] = frozenset()

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Called for an object after those within it: what is noted last is of the whole line.
        nonlocal repeated
        repeated = _repeated(name for name, _ in pairs)
        return dict(pairs)

    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line, object_pairs_hook=note)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: invalid JSON: {error}") from None
            except RecursionError:
                raise ValueError(
                    f"{path}, line {number}: invalid JSON: too many lists or objects in one another"
                ) from None
            if not isinstance(record, dict):
                raise ValueError(f"{path}, line {number}: expected a JSON object, got {type(record).__name__}")
            yield f"line {number}", record, repeated


def _csv_records(path: Path, delimiter: str) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = filter(None, csv_rows(path, file, delimiter))
        names = next((row for row in rows if any(map(str.strip, row))), [])
        repeated = _repeated(names)
        for number, row in enumerate(rows, start=1):
            if len(row) > len(names):
                raise ValueError(f"{path}, row {number}: more cells than the header's {len(names)}")
            yield f"row {number}", {name: cell or None for name, cell in itertools.zip_longest(names, row)}, repeated


def csv_rows(path: Path, file: TextIO, delimiter: str) -> Iterator[list[str]]:
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    while True:
        # The limit is one for the whole process: it is lifted for a row and put back.
        with _CELL_LIMIT:
            limit = csv.field_size_limit(_LONGEST_CELL)
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise ValueError(f"{path}, line {reader.line_num}: invalid CSV: {error}") from None
            finally:
                csv.field_size_limit(limit)
        if row is None:
            return
        yield row


def _parquet_records(path: Path, columns: Mapping[str, str | None]) -> Iterator[Record]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise ValueError(f"{path}: reading Parquet needs the package pyarrow (pip install pyarrow)") from None
    with path.open("rb") as handle:
        try:
            file = parquet.ParquetFile(handle)
            most = max(_MOST_TIMES * path.stat().st_size, _SMALL)
            parts = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            if sum(part.total_byte_size for part in parts) > most:
                raise ValueError(f"it says that it unfolds into more than {_MOST_TIMES:,} times its size")
            there = file.schema_arrow.names
            repeated = _repeated(there)
            wanted = {field if name is None else name for field, name in columns.items()}
            number = itertools.count(1)
            for batch in file.iter_batches(batch_size=4096, columns=[name for name in there if name in wanted]):
                batch.validate(full=True)
                for row in batch.to_pylist():
                    # A value that repeats takes no room in the file, and here as much as any other.
                    most -= sum(len(cell) for cell in row.values() if isinstance(cell, (str, bytes))) + 1
                    if most < 0:
                        raise ValueError(f"it unfolds into more than {_MOST_TIMES:,} times its size")
                    # Columns that are not read still stand in the record: messages name them.
                    yield f"row {next(number)}", {**dict.fromkeys(there), **row}, repeated
        except UnicodeDecodeError:
            raise
        except (arrow.ArrowException, OSError, OverflowError, ValueError) as error:
            if getattr(error, "errno", None) is not None:
                raise  # the disk's fault, not the file's
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path}: damaged or no Parquet file: {reason}") from None


def _repeated(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name for name, count in Counter(names).items() if count > 1)
