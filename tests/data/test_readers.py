from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cellgraph.data import QAPair, read_pairs, save_pairs

DATA = Path(os.environ.get("CELLGRAPH_DATA", Path(__file__).parents[3] / "shared" / "data"))

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
    assert "empty" in message(file)


def test_header_without_rows(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("question,answer\n", encoding="utf-8")
    assert "empty" in message(file)
    parquet.write_table(arrow.table({"question": [], "answer": []}), tmp_path / "pairs.parquet")
    assert "empty" in message(tmp_path / "pairs.parquet")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"question": "a", ', "invalid JSON"),
        ("[1, 2]", "expected a JSON object, got list"),
        ('"text"', "expected a JSON object, got str"),
        ('{"question": ["a"], "answer": "b"}', "'question' must be text, got list"),
        ('{"question": "a", "answer": {"b": 1}}', "'answer' must be text, got dict"),
        ('{"question": "a", "answer": "b", "turn": "late"}', "'turn' must be a whole number, got 'late'"),
        ('{"question": "a", "answer": NaN}', "the answer (column 'answer') is missing"),
    ],
)
def test_bad_json_names_the_line(tmp_path: Path, line: str, expected: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"question": "a", "answer": "b"}\n\n' + line + "\n", encoding="utf-8")
    found = message(file)
    assert ", line 3: " in found
    assert expected in found


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
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        read_pairs(file, limit=0)
    with pytest.raises(FileNotFoundError):
        read_pairs(tmp_path / "absent.jsonl")


def test_dialogues(tmp_path: Path) -> None:
    file = tmp_path / "talk.yml"
    file.write_text(
        "categories:\n- small talk\n- weather\nconversations:\n"
        "- - Is it raining?\n  - yes\n  - Since when?\n  - 12\n"
        "- Alone\n- - One turn\n"
        "- - Nested\n  - - like\n    - this\n"
        "- - What now?\n  - Note: it is hot\n",
        encoding="utf-8",
    )
    category = "small talk, weather"
    assert read_pairs(file) == [
        QAPair("Is it raining?", "yes", category=category, dialogue="talk-0", turn=0),
        QAPair("yes", "Since when?", category=category, dialogue="talk-0", turn=1),
        QAPair("Since when?", "12", category=category, dialogue="talk-0", turn=2),
        QAPair("Nested", "like", category=category, dialogue="talk-3", turn=0),
        QAPair("like", "this", category=category, dialogue="talk-3", turn=1),
        QAPair("What now?", "Note: it is hot", category=category, dialogue="talk-4", turn=0),
    ]


def test_dialogue_folder(tmp_path: Path) -> None:
    for name, turns in (("b.yml", ["1", "2"]), ("a.yaml", ["3", "4"]), ("a.yml", ["5", "6"])):
        (tmp_path / name).write_text(yaml.safe_dump({"conversations": [turns]}), encoding="utf-8")
    (tmp_path / "README.md").write_text("no dialogue", encoding="utf-8")
    pairs = read_pairs(tmp_path)
    assert [(pair.dialogue, pair.question) for pair in pairs] == [("a-0", "3"), ("a-1", "5"), ("b-0", "1")]
    (tmp_path / "empty").mkdir()
    assert "expected a folder of .yml or .yaml dialogues, found none" in message(tmp_path / "empty")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("conversations: [\n", "line 2: invalid YAML"),
        ("- a\n- b\n", "expected a mapping with 'conversations', got list"),
        ("categories: [a]\n", "expected a mapping with 'conversations', got 'categories'"),
        ("conversations: text\n", "'conversations' must be a list, got str"),
        ("conversations:\n- - a\n  - b\n- - c\n  -\n", "conversation 2: a turn is missing or empty"),
        ("conversations:\n- - alone\n", "no question-answer pairs"),
    ],
)
def test_bad_dialogues(tmp_path: Path, content: str, expected: str) -> None:
    file = tmp_path / "talk.yml"
    file.write_text(content, encoding="utf-8")
    assert expected in message(file)


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


@pytest.mark.skipif(not (DATA / "chatterbot").is_dir(), reason="needs the ChatterBot dialogues in CELLGRAPH_DATA")
def test_chatterbot_dialogues() -> None:
    folder = DATA / "chatterbot"
    pairs = read_pairs(folder)
    expected = 0
    for file in folder.glob("*.yml"):
        conversations = yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]
        expected += sum(len(turns) - 1 for turns in conversations if isinstance(turns, list))
    assert len(pairs) == expected > 2000
    greeting = [pair for pair in pairs if pair.dialogue == "conversations-1"]
    assert [pair.turn for pair in greeting] == list(range(12))
    assert all(before.answer == after.question for before, after in pairwise(greeting))
