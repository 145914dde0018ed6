"""The clean file has the columns and the order of the file, and all else to the letter."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from cellgraph.data import read_pairs, read_rows
from cellgraph.data.checks import CheckSettings, Inspection, check_format, inspect_pairs, write_clean

pytest.importorskip("ftfy")

ONLY = CheckSettings(without=("near", "language"))
#: Rows with a column more, of which the second, fourth and fifth are no good.
RECORDS = [
    {"id": 7, "q": "What is the first?", "a": "One,\nwith a \u2028 break."},
    {"id": 5, "q": "what is THE first", "a": "One, with a break"},
    {"id": 3, "q": "Where is the cafÃ©?", "a": 'In the "old" town.'},
    {"id": 2, "q": "Who?", "a": ""},
    {"id": 1, "q": "Lost?", "a": "Yes\ufffd."},
    {"id": 9, "q": "Which is the last?", "a": "This one."},
]
KEPT = [RECORDS[0], {**RECORDS[2], "q": "Where is the café?"}, RECORDS[5]]


def written(path: Path) -> Path:
    if path.suffix == ".parquet":
        schema = arrow.schema(
            [("id", arrow.int16()), ("q", arrow.large_string()), ("a", arrow.string())], metadata={"made": "by hand"}
        )
        parquet.write_table(arrow.Table.from_pylist(RECORDS, schema), path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerow(RECORDS[0])
            writer.writerows(record.values() for record in RECORDS)
    else:
        # Blanks and escapes as somebody wrote them; an empty line is no row.
        path.write_text("\n\n".join(json.dumps(record, separators=(" ,", " :")) for record in RECORDS))
    return path


def inspected(path: Path) -> Inspection:
    return inspect_pairs(read_rows(path, question="q", answer="a"), ONLY)


def records(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    if path.suffix in (".csv", ".tsv"):
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            return [{**row, "id": int(row["id"])} for row in rows]
    return [json.loads(line) for line in path.read_text().split("\n") if line]


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"])
def test_columns_order_and_texts(tmp_path: Path, suffix: str) -> None:
    source = written(tmp_path / f"pairs{suffix}")
    before = source.read_bytes()
    inspection = inspected(source)
    out = write_clean(source, tmp_path / "new" / f"clean{suffix}", inspection, question="q", answer="a")
    assert records(out) == KEPT
    assert [list(record) for record in records(out)] == [["id", "q", "a"]] * 3
    assert source.read_bytes() == before
    assert inspected(out).is_clean
    assert [pair.answer for pair in read_pairs(out, question="q", answer="a")] == [record["a"] for record in KEPT]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_a_cell_of_several_lines_stays_one(tmp_path: Path, end: str) -> None:
    source = tmp_path / "pairs.csv"
    source.write_bytes(f'q,a\nWhat is a cell?,"The first line{end}and a second"\nWho is it?,Nobody at all\n'.encode())
    out = write_clean(source, tmp_path / "clean.csv", inspected(source), question="q", answer="a")
    assert [pair.answer for pair in read_pairs(out, question="q", answer="a")] == [
        f"The first line{end}and a second",
        "Nobody at all",
    ]
    assert out.read_bytes().count(b"\n") - (end != "\r") == 3


def test_lines_that_stay_are_the_same_to_the_letter(tmp_path: Path) -> None:
    source = written(tmp_path / "pairs.jsonl")
    out = write_clean(source, tmp_path / "clean.jsonl", inspected(source), question="q", answer="a")
    lines = [line for line in source.read_text().split("\n") if line]
    kept = out.read_text().split("\n")
    assert (kept[0], kept[2]) == (lines[0], lines[5])


def test_types_and_metadata_of_parquet_stay(tmp_path: Path) -> None:
    source = written(tmp_path / "pairs.parquet")
    out = write_clean(source, tmp_path / "clean.parquet", inspected(source), question="q", answer="a")
    assert parquet.read_schema(out).equals(parquet.read_schema(source), check_metadata=True)


def test_a_saved_set_becomes_parquet(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    source = tmp_path / "saved"
    datasets.Dataset.from_list(RECORDS[::-1]).select([5, 4, 3, 2, 1, 0]).save_to_disk(str(source))
    with pytest.raises(ValueError, match=r"must end in \.parquet, got '\.jsonl'"):
        write_clean(source, tmp_path / "clean.jsonl", inspected(source))
    out = write_clean(source, tmp_path / "clean.parquet", inspected(source), question="q", answer="a")
    assert records(out) == KEPT
    with pytest.raises(ValueError, match="of a set on the hub no clean file is written"):
        check_format("owner/name", "clean.parquet")


def test_dialogues_become_lines_of_pairs(tmp_path: Path) -> None:
    (tmp_path / "talk.yml").write_text("conversations:\n- [Hello, Hi]\n- [hello, hi!]\n- [How, So, Why]\n")
    rows = read_rows(tmp_path)
    out = write_clean(tmp_path, tmp_path / "clean.jsonl", inspect_pairs(rows, ONLY))
    assert read_pairs(out) == [pair for row, pair in enumerate(rows.pairs) if row != 1]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    source = written(tmp_path / "pairs.csv")
    inspection = inspected(source)
    with pytest.raises(ValueError, match=r"must end in \.csv, got '\.jsonl'"):
        write_clean(source, tmp_path / "clean.jsonl", inspection)
    with pytest.raises(ValueError, match="is the file itself"):
        write_clean(source, tmp_path / "pairs.csv", inspection)
    source.write_text("q,a\nno longer,the same\n")
    with pytest.raises(ValueError, match="has 1 rows, and 6 when it was checked"):
        write_clean(source, tmp_path / "clean.csv", inspection, question="q", answer="a")
    source.write_text("q,a\nWho?,who\n")
    with pytest.raises(ValueError, match="no row is left to write"):
        write_clean(source, tmp_path / "clean.csv", inspected(source), question="q", answer="a")
    assert list(tmp_path.iterdir()) == [source]


def test_half_a_character_in_another_column(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"question": "Where is the cafÃ©?", "answer": "Here.", "note": "cut \ud83d"}) + "\n")
    out = write_clean(path, tmp_path / "clean.jsonl", inspect_pairs(read_rows(path), ONLY))
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record == {"question": "Where is the café?", "answer": "Here.", "note": "cut \ufffd"}
