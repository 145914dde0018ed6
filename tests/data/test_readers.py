from __future__ import annotations

import csv
import json
import stat
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgraph.data import QAPair, read_pairs, save_pairs

ROWS: list[dict[str, object]] = [
    {"question": "What is a cell?", "answer": "A node,\nof the lattice.", "topic": "lattice", "category": "what"},
    {"question": 'Who says "héllo"?', "answer": "Everyone; see U+2028\u2028here.", "topic": "", "category": ""},
    {"question": "How many?", "answer": "42", "topic": "number", "category": "count"},
]
PAIRS = [QAPair(str(row["question"]), str(row["answer"]), str(row["topic"]), str(row["category"])) for row in ROWS]

text = st.text(min_size=1, max_size=40).filter(str.strip)


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[dict[str, object]]) -> None:
    parquet.write_table(arrow.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, list[dict[str, object]]], None]] = {
    ".jsonl": write_jsonl,
    ".ndjson": write_jsonl,
    ".csv": write_csv,
    ".tsv": write_csv,
    ".parquet": write_parquet,
}


def message(path: Path, **options: object) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        read_pairs(path, **options)  # type: ignore[arg-type]
    found = str(caught.value)
    assert "\n" not in found
    assert path.name in found
    return found


@pytest.mark.parametrize("suffix", WRITERS)
def test_formats_read_the_same(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"pairs{suffix}"
    WRITERS[suffix](file, ROWS)
    assert read_pairs(file) == PAIRS
    assert read_pairs(str(file), limit=2) == PAIRS[:2]


@pytest.mark.parametrize("suffix", WRITERS)
def test_named_columns(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"pairs{suffix}"
    WRITERS[suffix](file, [{"q": "Why?", "a": "So.", "area": "reasons", "kind": "short", "topic": "ignored"}])
    pairs = read_pairs(file, question="q", answer="a", topic="area", category="kind")
    assert pairs == [QAPair("Why?", "So.", "reasons", "short")]
    assert read_pairs(file, question="q", answer="a") == [QAPair("Why?", "So.", "ignored")]


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("missing", ["question", "answer", "topic", "category"])
def test_missing_column_names_those_that_exist(tmp_path: Path, suffix: str, missing: str) -> None:
    file = tmp_path / f"pairs{suffix}"
    WRITERS[suffix](file, ROWS)
    found = message(file, **{missing: "absent"})
    assert f"no column 'absent' for the {missing}" in found
    assert "the columns are 'question', 'answer', 'topic', 'category'" in found


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("column", ["question", "answer"])
@pytest.mark.parametrize("value", [None, "", " \t", float("nan")])
def test_missing_values_are_refused_with_their_row(tmp_path: Path, suffix: str, column: str, value: object) -> None:
    file = tmp_path / f"pairs{suffix}"
    rows: list[dict[str, object]] = [{"question": "Why?", "answer": "So."}, {"question": "Who?", "answer": "I."}]
    if suffix == ".parquet" and isinstance(value, float):
        rows = [{"question": 1.0, "answer": 2.0}, {"question": 3.0, "answer": 4.0}]  # a column has one type
    if suffix in (".csv", ".tsv") and isinstance(value, float):
        value = None  # CSV has no numbers: `nan` is a text there
    rows[1] = {**rows[1], column: value}
    WRITERS[suffix](file, rows)
    found = message(file)
    assert f"the {column} (column '{column}') is missing or empty" in found
    assert (", line 2: " if suffix in (".jsonl", ".ndjson") else ", row 2: ") in found
    assert len(read_pairs(file, limit=1)) == 1


@pytest.mark.parametrize("suffix", WRITERS)
def test_missing_topic_is_no_topic(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"pairs{suffix}"
    WRITERS[suffix](
        file, [{"question": "a", "answer": "b", "topic": "t"}, {"question": "c", "answer": "d", "topic": None}]
    )
    assert [pair.topic for pair in read_pairs(file)] == ["t", ""]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".yml"])
@pytest.mark.parametrize("content", ["", "\n  \n", "\ufeff"])
def test_empty_file(tmp_path: Path, suffix: str, content: str) -> None:
    file = tmp_path / f"pairs{suffix}"
    file.write_text(content, encoding="utf-8")
    assert "the file is empty" in message(file)


def test_header_without_rows(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("question,answer\n", encoding="utf-8")
    assert "the file is empty" in message(file)
    parquet.write_table(arrow.table({"question": [], "answer": []}), tmp_path / "pairs.parquet")
    assert "the file is empty" in message(tmp_path / "pairs.parquet")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"question": "a", ', "invalid JSON"),
        ("[1, 2]", "expected a JSON object, got list"),
        ('"text"', "expected a JSON object, got str"),
        ('{"question": ["a"], "answer": "b"}', "'question' must be text, got list"),
        ('{"question": "a", "answer": {"b": 1}}', "'answer' must be text, got dict"),
        ('{"question": "a", "answer": "b", "topic": ["c"]}', "'topic' must be text, got list; topic='' leaves the"),
        ('{"question": "a", "answer": "b", "dialogue": {}}', "'dialogue' must be text, got dict; dialogue='' leaves"),
        (
            '{"question": "a", "answer": "b", "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
            "invalid JSON: too many lists",
        ),
        ('{"question": "a", "answer": ' + "9" * 5000 + "}", "invalid JSON"),
        ('{"question": "a", "answer": NaN}', "the answer (column 'answer') is missing"),
    ],
)
def test_bad_json_names_the_line(tmp_path: Path, line: str, expected: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"question": "a", "answer": "b"}\n\n' + line + "\n", encoding="utf-8")
    found = message(file)
    assert ", line 3: " in found
    assert expected in found


#: How a place in a dialogue may be written, and the place; an absent one is the first.
TURNS: list[tuple[object, int]] = [
    (3, 3),
    (1.0, 1),
    ("2", 2),
    (" 4.0 ", 4),
    ("+5", 5),
    (0, 0),
    ("10.", 10),
    (None, 0),
    ("", 0),
    (float("nan"), 0),
]
NO_TURNS: list[object] = [1.7, "1.7", -1, "-1", "late", "1/2", "1_0", "1e3", 1e300, float("inf"), 10**22, True, " "]


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(("turn", "expected"), TURNS, ids=[repr(turn) for turn, _ in TURNS])
def test_turns_are_whole_numbers(tmp_path: Path, suffix: str, turn: object, expected: int) -> None:
    file = tmp_path / f"pairs{suffix}"
    WRITERS[suffix](file, [{"question": "a", "answer": "b", "dialogue": "d", "turn": turn}])
    assert read_pairs(file) == [QAPair("a", "b", dialogue="d", turn=expected)]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("turn", NO_TURNS, ids=repr)
def test_what_is_no_turn_is_refused_or_left_out(tmp_path: Path, suffix: str, turn: object) -> None:
    file = tmp_path / f"pairs{suffix}"
    if suffix == ".parquet" and turn == 10**22:
        turn = 2.0**80  # Parquet has no such integers
    WRITERS[suffix](file, [{"question": "a", "answer": "b", "turn": turn}])
    found = message(file)
    assert "'turn' must be a whole number from 0 on, got " in found
    assert found.endswith("; turn='' leaves the column out")
    assert len(found) < 400
    assert read_pairs(file, turn="") == [QAPair("a", "b")]


@pytest.mark.parametrize("suffix", WRITERS)
def test_columns_that_mean_something_else_are_left_out_or_renamed(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"pairs{suffix}"
    row = {"topic": "t", "category": "c", "dialogue": "d", "turn": "left", "subject": "s", "talk": "k", "place": 2}
    WRITERS[suffix](file, [{"question": "a", "answer": "b", **row}])
    assert read_pairs(file, topic="", category="", dialogue="", turn="") == [QAPair("a", "b")]
    renamed = read_pairs(file, topic="subject", dialogue="talk", turn="place")
    assert renamed == [QAPair("a", "b", topic="s", category="c", dialogue="k", turn=2)]
    assert "no column 'absent' for the turn" in message(file, turn="absent")
    assert "no column 'absent' for the dialogue" in message(file, dialogue="absent")


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("word", ["null", "NULL", "nan", "NaN", "NA", "N/A", "None", "none", "-", "#N/A", "0"])
def test_words_for_nothing_are_texts(tmp_path: Path, suffix: str, word: str) -> None:
    file = tmp_path / f"pairs{suffix}"
    WRITERS[suffix](file, [{"question": word, "answer": word, "topic": word, "dialogue": word}])
    assert read_pairs(file) == [QAPair(word, word, topic=word, dialogue=word)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_long_cells(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"pairs{suffix}"
    long = "0123456789" * 100_000
    before = csv.field_size_limit()
    WRITERS[suffix](file, [{"question": "a", "answer": long}, {"question": long, "answer": "b"}])
    assert read_pairs(file) == [QAPair("a", long), QAPair(long, "b")]
    assert csv.field_size_limit() == before


def write_repeated(path: Path, names: list[str], cells: list[str]) -> None:
    if path.suffix == ".jsonl":
        fields = ", ".join(f"{json.dumps(name)}: {json.dumps(cell)}" for name, cell in zip(names, cells, strict=True))
        path.write_text(f"{{{fields}}}\n", encoding="utf-8")
    elif path.suffix == ".csv":
        path.write_text(",".join(names) + "\n" + ",".join(cells) + "\n", encoding="utf-8")
    else:
        parquet.write_table(arrow.Table.from_arrays([arrow.array([cell]) for cell in cells], names=names), path)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_columns_that_are_there_twice(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"pairs{suffix}"
    for column in ("question", "answer", "topic"):
        write_repeated(file, ["question", "answer", "topic", column], list("abcd"))
        assert f"the column {column!r} for the {column} is there more than once" in message(file)
    assert read_pairs(file, topic="") == [QAPair("a", "b")]
    # What is not read may be there as often as it likes.
    write_repeated(file, ["question", "answer", "", "", "x", "x"], list("abcdef"))
    assert read_pairs(file) == [QAPair("a", "b")]


def test_halves_of_characters(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    # A whole emoji in two halves, one cut after the first and one cut before the second.
    file.write_text(r'{"question": "\ud83d\ude00 a", "answer": "b \ud83d", "topic": "\ude00"}', encoding="utf-8")
    pairs = read_pairs(file)
    assert pairs == [QAPair("\N{GRINNING FACE} a", "b \N{REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}")]
    assert read_pairs(save_pairs(tmp_path / "saved.jsonl", pairs)) == pairs


def test_other_types_of_parquet(tmp_path: Path) -> None:
    file = tmp_path / "pairs.parquet"
    columns = {
        "question": arrow.array(["héllo".encode()], arrow.binary()),
        "answer": arrow.array(["b"], arrow.large_string()),
        "topic": arrow.array(["t"]).dictionary_encode(),
        "turn": arrow.array([Decimal("3.00")]),
    }
    parquet.write_table(arrow.table(columns), file)
    assert read_pairs(file) == [QAPair("héllo", "b", "t", turn=3)]
    parquet.write_table(arrow.table({"question": arrow.array([b"\xe9"], arrow.binary()), "answer": ["b"]}), file)
    assert "not UTF-8 text (byte 0xe9)" in message(file)
    parquet.write_table(arrow.table({"frage": ["a"], "antwort": ["b"]}), file)
    assert "no column 'question' for the question; the columns are 'frage', 'antwort'" in message(file)


def test_numbers_and_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('\ufeff{"question": "6 * 7", "answer": 42}', encoding="utf-8")
    assert read_pairs(file) == [QAPair("6 * 7", "42")]


def test_ragged_csv(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("question,answer\na,b\nc,d,e\n", encoding="utf-8")
    assert "row 2: more cells than the header's 2" in message(file)
    file.write_text("question,answer\na,b\nc\n", encoding="utf-8")
    assert "row 2: the answer" in message(file)
    file.write_text('question,answer\na,"b" c\n', encoding="utf-8")
    assert "line 2: invalid CSV" in message(file)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".yaml"])
def test_not_utf8(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"pairs{suffix}"
    file.write_bytes('{"question": "é", "answer": "b"}'.encode("latin-1"))
    assert "not UTF-8 text (byte 0xe9)" in message(file)


def test_damaged_parquet(tmp_path: Path) -> None:
    file = tmp_path / "pairs.parquet"
    write_parquet(file, ROWS)
    file.write_bytes(file.read_bytes()[:-20])
    assert "damaged or no Parquet file" in message(file)


def test_unknown_suffix_and_limit(tmp_path: Path) -> None:
    file = tmp_path / "pairs.txt"
    file.write_text("a\tb\n", encoding="utf-8")
    assert "'.txt'; expected one of .jsonl, .ndjson, .csv, .tsv, .parquet, .yml, .yaml" in message(file)
    for limit in (0, -1, 2.5, "ten", True):
        with pytest.raises(ValueError, match=f"limit must be (at least 1|an integer), got {limit!r}"):
            read_pairs(file, limit=limit)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the column of the question must be a name, got None"):
        read_pairs(file, question=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the column of the turn must be a name, got 3"):
        read_pairs(file, turn=3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        read_pairs(tmp_path / "absent.jsonl")


@settings(deadline=None)  # it waits for the disk
@given(
    pairs=st.lists(
        st.builds(
            QAPair, text, text, st.text(max_size=9), st.text(max_size=9), st.text(max_size=9), st.integers(0, 99)
        ),
        min_size=1,
        max_size=5,
    )
)
def test_saved_pairs_read_back_unchanged(tmp_path_factory: pytest.TempPathFactory, pairs: list[QAPair]) -> None:
    file = save_pairs(tmp_path_factory.mktemp("pairs") / "deep" / "pairs.jsonl", pairs)
    assert read_pairs(file) == pairs


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = save_pairs(tmp_path / "pairs.jsonl", PAIRS)

    def broken() -> Iterator[QAPair]:
        yield PAIRS[0]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_pairs(file, broken())
    assert read_pairs(file) == PAIRS
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    with pytest.raises(ValueError, match=r"saved as .jsonl or .ndjson, got 'pairs.csv'"):
        save_pairs(tmp_path / "pairs.csv", PAIRS)
