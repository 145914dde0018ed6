"""A file of pairs from a stranger: plain data that does not unfold."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import pytest
from planted import refused

from cellgraph.answering.bank import read_answers
from cellgraph.data import read_pairs


def test_a_small_table_that_unfolds_is_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "pairs.parquet"
    # A text of a megabyte a thousand times: a dictionary of one, and a count.
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000, pyarrow.int32()), ["x" * 2**20])
    pyarrow.parquet.write_table(pyarrow.table({"question": text, "answer": text}), path, compression="zstd")
    assert path.stat().st_size < 2**16
    assert "it unfolds into more than 1,000 times its size" in refused(lambda: read_pairs(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pairs.jsonl", b'{"question": ' * 100_000),
        ("pairs.jsonl", b'{"question": "a", "answer": ' + b"9" * 10_000 + b"}\n"),
        (
            "pairs.yml",
            b"a: &a [x]\nb: &b [" + b"*a," * 50 + b"]\nc: &c [" + b"*b," * 50 + b"]\nd: [" + b"*c," * 5000 + b"]\n",
        ),
        ("pairs.yml", b"conversations: !!python/object/apply:os.system ['true']\n"),
        ("pairs.yml", b"[" * 100_000),
        ("pairs.parquet", b"PAR1" + bytes(64) + struct.pack("<I", 2**31 - 1) + b"PAR1"),
        ("pairs.parquet", pickle.dumps({"question": 1})),
        ("pairs.csv", b'question,answer\n"' + b"x" * 200_000),
        ("pairs.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1)),
        ("pairs.zip", b"PK\x05\x06" + bytes(18)),
        ("pairs.pkl", pickle.dumps({"question": 1})),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_file_of_pairs_is_plain_data(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(lambda: read_pairs(tmp_path / name))
    refused(lambda: read_answers(tmp_path / name))


def test_a_folder_of_datasets_names_files_in_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"question": ["secret"], "answer": ["secret"]}).save_to_disk(tmp_path / "private")
    datasets.Dataset.from_dict({"question": ["a"], "answer": ["b"]}).save_to_disk(tmp_path / "set")
    assert len(read_pairs(tmp_path / "set")) == 1
    state = tmp_path / "set" / "state.json"
    told = json.loads(state.read_text())
    for name in ("../private/data-00000-of-00001.arrow", str(tmp_path / "private" / "data-00000-of-00001.arrow")):
        state.write_text(json.dumps({**told, "_data_files": [{"filename": name}]}))
        assert "expected files in the folder" in refused(lambda: read_pairs(tmp_path / "set"))
    for content in ("[" * 100_000, "[]", "{}"):
        state.write_text(content)
        refused(lambda: read_pairs(tmp_path / "set"))
    arrow = tmp_path / "set" / "data-00000-of-00001.arrow"
    state.write_text(json.dumps(told))
    # A text that begins far beyond the file's end, which Arrow would look for.
    whole = arrow.read_bytes()
    offsets = whole.rindex(struct.pack("<2i", 0, 1))
    arrow.write_bytes(whole[:offsets] + struct.pack("<2i", 2**30, 2**30 + 1) + whole[offsets + 8 :])
    assert "damaged or no set of datasets" in refused(lambda: read_pairs(tmp_path / "set"))
    arrow.write_bytes(b"\xff\xff\xff\xff" + struct.pack("<I", 2**31 - 1) + bytes(64))
    refused(lambda: read_pairs(tmp_path / "set"))
