"""The clean file: what is left of a file, with its columns and in its order."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cellgraph.files import write_atomically
from cellgraph.texts import well_formed

from ..arrow import is_arrow
from ..pairs import QAPair, save_pairs
from ..readers import csv_rows, is_dialogues
from .inspection import Inspection

__all__ = ["check_format", "write_clean"]

_TABLES = {".jsonl": "lines", ".ndjson": "lines", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


def write_clean(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    inspection: Inspection,
    *,
    question: str = "question",
    answer: str = "answer",
) -> Path:
    """Writes what is left of a file once it was checked, whole or not at all.

    All columns stay, and the order. A row is written as it stood, in JSON lines to the letter; of a repaired one, the
    question and the answer are others. Dialogues in YAML are written as JSON lines of their pairs, a folder that the
    library ``datasets`` saved as Parquet.

    Args:
        source: The file that was checked.
        out: The file to write, in the same format otherwise.
        inspection: What was found in it.
        question: Name of the column that holds the questions.
        answer: Name of the column that holds the answers.

    Raises:
        ValueError: If the formats are not the same, nothing is left to write, or the file is no longer the one that
            was checked.
        OSError: If a file cannot be read or written.
    """
    source, out = Path(source), Path(out)
    check_format(source, out)
    kept = set(range(len(inspection.pairs))) - inspection.removed.keys()
    if not kept:
        raise ValueError(f"{source}: no row is left to write")
    if is_dialogues(source):
        return save_pairs(out, inspection.clean())
    texts = {row: pair for row, pair in enumerate(inspection.pairs) if row in inspection.repaired and pair is not None}
    kind = "parquet" if is_arrow(source) else _TABLES[source.suffix.lower()]
    write = {"lines": _lines, "csv": _csv, "parquet": _parquet}[kind]
    content, there = write(source, kept, texts, (question, answer))
    if there != len(inspection.pairs):
        raise ValueError(f"{source}: has {there:,} rows, and {len(inspection.pairs):,} when it was checked")
    write_atomically(out, content)
    return out


def check_format(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Tell before anything slow whether a clean file can be written in the format that its name says.

    Raises:
        ValueError: If it cannot, or it is the file itself.
    """
    source, out = Path(source), Path(out)
    suffix = out.suffix.lower()
    wanted = _formats(source)
    if wanted and suffix not in wanted:
        raise ValueError(f"{out}: the clean file of {source.name} must end in {' or '.join(wanted)}, got {suffix!r}")
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f"{out} is the file itself: write the clean one beside it")


def _formats(source: Path) -> list[str]:
    """What the clean file of a file may end in; nothing where the file itself cannot be read."""
    if is_dialogues(source):
        return [".jsonl", ".ndjson"]
    if is_arrow(source):
        if not source.is_dir():
            raise ValueError(f"{source}: of a set on the hub no clean file is written; save it in a folder first")
        return [".parquet"]
    kind = _TABLES.get(source.suffix.lower())
    return [".jsonl", ".ndjson"] if kind == "lines" else [source.suffix.lower()] if kind else []


def _lines(source: Path, kept: set[int], texts: dict[int, QAPair], names: tuple[str, str]) -> tuple[bytes, int]:
    # A line as it is read: split at line ends alone, for JSON may hold other separators within a text.
    lines = [line for line in io.StringIO(source.read_text(encoding="utf-8-sig")) if line.strip()]
    out = []
    for row, line in enumerate(lines):
        if row not in kept:
            continue
        if row in texts:
            record = json.loads(line) | dict(zip(names, (texts[row].question, texts[row].answer), strict=True))
            line = well_formed(json.dumps(record, ensure_ascii=False))
        out.append(line.rstrip("\r\n") + "\n")
    return "".join(out).encode(), len(lines)


def _csv(source: Path, kept: set[int], texts: dict[int, QAPair], names: tuple[str, str]) -> tuple[bytes, int]:
    delimiter = "\t" if source.suffix.lower() == ".tsv" else ","
    lines: list[str] = []
    # Cells are put in quotes if they hold a part of the line's end: a lone carriage return must not end a row.
    line = SimpleNamespace(write=lambda text: lines.append(text.removesuffix("\r\n") + "\n"))
    writer = csv.writer(line, delimiter=delimiter, lineterminator="\r\n")
    with source.open(encoding="utf-8-sig", newline="") as file:
        rows = filter(None, csv_rows(source, file, delimiter))
        header = next((row for row in rows if any(map(str.strip, row))), [])
        writer.writerow(header)
        places = [header.index(name) for name in names]
        there = 0
        for row, cells in enumerate(rows):
            there += 1
            if row in texts:
                cells = list(cells)
                for place, text in zip(places, (texts[row].question, texts[row].answer), strict=True):
                    cells[place] = text
            if row in kept:
                writer.writerow(cells)
    return "".join(lines).encode(), there


def _table(source: Path) -> Any:
    if source.is_dir():
        import datasets

        return datasets.load_from_disk(str(source)).with_format("arrow")[:]
    import pyarrow.parquet as parquet

    return parquet.read_table(source)


def _parquet(source: Path, kept: set[int], texts: dict[int, QAPair], names: tuple[str, str]) -> tuple[bytes, int]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    table = _table(source)
    there = table.num_rows
    for field, name in zip(("question", "answer"), names, strict=True):
        place = table.schema.get_field_index(name)
        cells = table.column(place).to_pylist()
        changed = {row: getattr(pair, field) for row, pair in texts.items()}
        if changed:
            cells = [changed.get(row, cell) for row, cell in enumerate(cells)]
            table = table.set_column(
                place, table.schema.field(place), arrow.array(cells, table.schema.field(place).type)
            )
    buffer = io.BytesIO()
    parquet.write_table(table.take(sorted(kept)), buffer)
    return buffer.getvalue(), there
