"""Anything at all given to the readers: pairs that can be written again, or one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellgraph.answering.bank import read_answers
from cellgraph.data import read_pairs, save_pairs
from cellgraph.data.dialogues import _parsed

SIGNS = "{}[]\":,\\u d8 null 1.e-+\n\r\t'#&*!|>%@`? question answer\u2028\x85\x0c\x1e\x00"
BEGINNINGS = {
    ".jsonl": '{"question": "a", "answer": "b"}\n',
    ".csv": "question,answer,turn\n",
    ".tsv": "question\tanswer\n",
    ".yml": "conversations:\n- - a\n  - b\n",
    ".parquet": "PAR1",
    ".txt": "",
}

texts = st.text(st.characters(exclude_categories=()), max_size=9)
names = st.sampled_from(["question", "answer", "topic", "category", "dialogue", "turn", "", "x"])
choices = st.fixed_dictionaries({}, optional=dict.fromkeys(("question", "answer", "topic", "dialogue", "turn"), names))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(path: Path, **columns: str) -> None:
    said, pairs = None, None
    try:
        if path.suffix == ".txt":
            read_answers(path)
        else:
            pairs = read_pairs(path, **columns)
    except ValueError as error:
        said = str(error)
    if pairs is not None:
        assert all(pair.question.strip() and pair.answer.strip() and pair.turn >= 0 for pair in pairs)
        assert read_pairs(save_pairs(path.with_name("saved.jsonl"), pairs)) == pairs
    if said is not None:
        assert str(path) in said
        assert "\n" not in said
        assert len(said) < 2000


@pytest.mark.parametrize("suffix", BEGINNINGS)
@given(content=st.one_of(st.binary(max_size=60), st.text(SIGNS, max_size=60).map(str.encode)), columns=choices)
@few
def test_any_bytes(tmp_path: Path, suffix: str, content: bytes, columns: dict[str, str]) -> None:
    for beginning in ("", BEGINNINGS[suffix]):
        file = tmp_path / f"file{suffix}"
        file.write_bytes(beginning.encode() + content)
        check(file, **columns)


@given(
    rows=st.lists(st.dictionaries(st.one_of(names, texts), values, max_size=6), min_size=1, max_size=3), columns=choices
)
@few
def test_any_json(tmp_path: Path, rows: list[dict[str, object]], columns: dict[str, str]) -> None:
    file = tmp_path / "file.jsonl"
    for always in ({}, {"question": "q", "answer": "a"}):
        file.write_text("\n".join(json.dumps(row | always) for row in rows))
        check(file, **columns)


@given(
    rows=st.lists(st.fixed_dictionaries({"question": st.text(max_size=5), "answer": st.floats()}), min_size=1),
    data=st.data(),
)
@few
def test_damaged_parquet(tmp_path: Path, rows: list[dict[str, object]], data: st.DataObject) -> None:
    file = tmp_path / "file.parquet"
    parquet.write_table(arrow.Table.from_pylist(rows), file)
    check(file)
    content = bytearray(file.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    check(file)


@given(
    tree=values.filter(lambda tree: "\\ud" not in ascii(tree)),
    flow=st.booleans(),
    quote=st.sampled_from([None, '"', "'", "|"]),
)
@few
def test_yaml_is_read_as_its_library_reads_it(tmp_path: Path, tree: object, flow: bool, quote: str | None) -> None:
    file = tmp_path / "file.yml"
    written = yaml.safe_dump(tree, allow_unicode=True, default_flow_style=flow, default_style=quote)
    file.write_text(written, encoding="utf-8")
    check(file)
    try:
        read = _parsed(file, written)
    except ValueError as error:
        read = str(error)
    refused = isinstance(read, str) and ("more than once" in read or "a key must be text" in read)
    assert refused or read == yaml.load(written, Loader=yaml.BaseLoader)
