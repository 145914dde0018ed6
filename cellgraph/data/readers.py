"""Readers of question-answer pairs: JSONL, CSV, Parquet and dialogues in YAML."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .pairs import QAPair

__all__ = ["read_pairs"]

#: One record of a file: where it stands, for messages ("line 3", "row 2"), and its columns.
_Record = tuple[str, Mapping[str, Any]]

#: Cells of a CSV file that stand for nothing: CSV has no other way to write a missing value.
_CSV_MISSING = {"", "nan", "null"}


def read_pairs(
    path: str | os.PathLike[str],
    *,
    question: str = "question",
    answer: str = "answer",
    topic: str | None = None,
    category: str | None = None,
    limit: int | None = None,
) -> list[QAPair]:
    """Reads question-answer pairs from a file, in the order of the file.

    The suffix tells the format: ``.jsonl`` / ``.ndjson`` (an object a line), ``.csv`` / ``.tsv`` (with a header),
    ``.parquet``, or ``.yml`` / ``.yaml`` for dialogues in the form of the
    `ChatterBot corpus <https://github.com/gunthercox/chatterbot-corpus>`_: ``categories`` and ``conversations``, each
    a list of turns. Every turn but the last is the question to the one after it, so a conversation of one turn makes
    no pair; a folder is read as all its YAML files, sorted by name. Texts are taken as they stand;
    :func:`clean_pairs` tidies them.

    Args:
        path: The file, or a folder of dialogue files.
        question: Name of the column that holds the questions.
        answer: Name of the column that holds the answers.
        topic: Name of the column that holds the topics; by default ``"topic"`` if there is one.
        category: Name of the column that holds the categories; by default ``"category"`` if there is one.
        limit: Number of pairs after which reading stops.

    Raises:
        ValueError: If the format is unknown, the file is empty, damaged or not UTF-8, a column is missing, or a
            question or answer is missing or not text; the message names the file and the line or row.
        OSError: If the file cannot be opened.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    columns = {"question": question, "answer": answer, "topic": topic, "category": category}
    suffix = path.suffix.lower()
    if path.is_dir():
        pairs = _dialogue_folder(path)
    elif suffix in (".yml", ".yaml"):
        pairs = _dialogues(path, Counter())
    elif suffix in (".jsonl", ".ndjson"):
        pairs = _pairs(path, _json_records(path), columns)
    elif suffix in (".csv", ".tsv"):
        pairs = _pairs(path, _csv_records(path, "\t" if suffix == ".tsv" else ","), columns)
    elif suffix == ".parquet":
        pairs = _pairs(path, _parquet_records(path, columns), columns)
    else:
        known = ".jsonl, .ndjson, .csv, .tsv, .parquet, .yml, .yaml"
        raise ValueError(f"{path}: cannot read files ending in {suffix!r}; expected one of {known}")
    try:
        read = list(itertools.islice(pairs, limit))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.object[error.start]:#04x})") from None
    if not read:
        raise ValueError(f"{path}: no question-answer pairs in it, the file is empty")
    return read


def _pairs(path: Path, records: Iterator[_Record], columns: Mapping[str, str | None]) -> Iterator[QAPair]:
    for place, record in records:
        texts = {}
        for field, name in columns.items():
            if name is not None and name not in record:
                there = ", ".join(repr(key) for key in record) or "none"
                raise ValueError(f"{path}, {place}: no column {name!r} for the {field}; the columns are {there}")
            texts[field] = _text(record.get(name or field), f"{path}, {place}: {name or field!r}")
            if field in ("question", "answer") and not texts[field].strip():
                raise ValueError(f"{path}, {place}: the {field} (column {name!r}) is missing or empty")
        dialogue = _text(record.get("dialogue"), f"{path}, {place}: 'dialogue'")
        turn = record.get("turn") or 0
        try:
            number = int(turn)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{path}, {place}: 'turn' must be a whole number, got {turn!r}") from None
        yield QAPair(**texts, dialogue=dialogue, turn=number)


def _text(value: Any, place: str) -> str:
    """Returns a cell as text, empty where the value is missing (None or NaN)."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"{place} must be text, got {type(value).__name__}")


def _json_records(path: Path) -> Iterator[_Record]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: invalid JSON: {error}") from None
            if not isinstance(record, dict):
                raise ValueError(f"{path}, line {number}: expected a JSON object, got {type(record).__name__}")
            yield f"line {number}", record


def _csv_records(path: Path, delimiter: str) -> Iterator[_Record]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, delimiter=delimiter, strict=True)
        try:
            for number, row in enumerate(rows, start=1):
                if None in row:
                    width = len(rows.fieldnames or ())
                    raise ValueError(f"{path}, row {number}: more cells than the header's {width}")
                missing = {name for name, cell in row.items() if cell is None or cell.strip().lower() in _CSV_MISSING}
                yield f"row {number}", {name: None if name in missing else cell for name, cell in row.items()}
        except csv.Error as error:
            raise ValueError(f"{path}, line {rows.reader.line_num}: invalid CSV: {error}") from None


def _parquet_records(path: Path, columns: Mapping[str, str | None]) -> Iterator[_Record]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise ValueError(f"{path}: reading Parquet needs the package pyarrow (pip install pyarrow)") from None
    with path.open("rb") as handle:
        try:
            file = parquet.ParquetFile(handle)
            there = file.schema_arrow.names
            wanted = {name or field for field, name in columns.items()} | {"dialogue", "turn"}
            number = itertools.count(1)
            for batch in file.iter_batches(batch_size=4096, columns=[name for name in there if name in wanted]):
                for row in batch.to_pylist():
                    # Columns that are not read still stand in the record: messages name them.
                    yield f"row {next(number)}", {**dict.fromkeys(there), **row}
        except arrow.ArrowException as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path}: damaged or no Parquet file: {reason}") from None


def _dialogue_folder(folder: Path) -> Iterator[QAPair]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".yml", ".yaml"))
    if not files:
        raise ValueError(f"{folder}: expected a folder of .yml or .yaml dialogues, found none")
    numbers: Counter[str] = Counter()  # goes on counting where a.yml and a.yaml share their stem
    for file in files:
        yield from _dialogues(file, numbers)


def _dialogues(path: Path, numbers: Counter[str]) -> Iterator[QAPair]:
    import yaml

    # The base loader keeps every scalar as text. Others would read the turns `yes` and `42` as a truth value and a
    # number, and could no longer tell how they were written.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    with path.open(encoding="utf-8-sig") as file:
        try:
            content = yaml.load(file.read(), Loader=loader)
        except yaml.YAMLError as error:
            reason = " ".join(str(getattr(error, "problem", None) or error).split())
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark is not None else ""
            raise ValueError(f"{path}{line}: invalid YAML: {reason}") from None
    if not content:
        raise ValueError(f"{path}: no question-answer pairs in it, the file is empty")
    if not isinstance(content, dict) or "conversations" not in content:
        there = ", ".join(repr(key) for key in content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path}: expected a mapping with 'conversations', got {there}")
    conversations = content["conversations"]
    if not isinstance(conversations, list):
        raise ValueError(f"{path}: 'conversations' must be a list, got {type(conversations).__name__}")
    category = ", ".join(_turns(content.get("categories", [])))
    for number, conversation in enumerate(conversations, start=1):
        turns = list(_turns(conversation))
        if not all(turn.strip() for turn in turns):
            raise ValueError(f"{path}, conversation {number}: a turn is missing or empty")
        dialogue = f"{path.stem}-{numbers[path.stem]}"
        numbers[path.stem] += 1
        for turn, (asked, answered) in enumerate(itertools.pairwise(turns)):
            yield QAPair(asked, answered, category=category, dialogue=dialogue, turn=turn)


def _turns(node: Any) -> Iterator[str]:
    """Yields the turns of a conversation, nested lists flattened, a turn that YAML took for a mapping made text."""
    if isinstance(node, list):
        for item in node:
            yield from _turns(item)
    elif isinstance(node, dict):
        # "Note: it is hot" without quotes is a mapping to YAML and a sentence to its author.
        yield "; ".join(f"{key}: {' '.join(_turns(value))}".strip() for key, value in node.items())
    else:
        yield str(node)
