"""A teacher or a cache from a stranger: no code is run, no other file read, what is planted is computed again."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import Planted, refused
from safetensors.torch import save_file

from cellgraph.teacher import EmbeddingCache, LSATeacher, StoredRows, TokenReader, TransformersTeacher
from cellgraph.teacher.hub import weight_files
from cellgraph.teacher.shards import CorruptShardError


def test_a_transformers_folder_runs_no_code_and_unpickles_nothing(tmp_path: Path, mark: Path) -> None:
    from transformers import BertConfig, BertModel

    folder = tmp_path / "bert"
    small = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=8)
    BertModel(small).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Planted(mark)}, folder / "pytorch_model.bin")
    refused(lambda: TransformersTeacher(folder).encode(["x"]))
    (folder / "tricks.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "tricky", "auto_map": {"AutoConfig": "tricks.C", "AutoModel": "tricks.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["tricks.T", None]}}))
    refused(lambda: TransformersTeacher(folder).encode(["x"]))


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b", "..", "", "a\\b"])
def test_an_index_of_weights_names_files_beside_it(tmp_path: Path, name: str) -> None:
    save_file({"w": torch.zeros(1)}, tmp_path / "secret.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    index = {"weight_map": {"w": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"names {name!r}, expected files beside it" in refused(lambda: weight_files(folder), OSError)


@pytest.mark.parametrize("head", [b"\xff" * 8, struct.pack("<Q", 2**62), struct.pack("<Q", 10**9), b""])
def test_a_shard_with_a_head_of_any_length_is_no_shard(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "rows.safetensors"
    path.write_bytes(head + b"{}")
    refused(lambda: StoredRows.of_files([path]), CorruptShardError)


@pytest.mark.parametrize(
    "described",
    [
        {"shape": [10**12, 4], "data_offsets": [0, 16]},
        {"shape": [1], "data_offsets": [0, 16]},
        {"shape": [1, 4], "data_offsets": [0]},
        {"shape": [-1, 4], "data_offsets": [0, 16]},
        {"shape": ["1", 4], "data_offsets": [0, 16]},
        {"shape": [1, 4], "data_offsets": [10**12, 10**12 + 16]},
        {"shape": [1, 4]},
    ],
)
def test_a_shard_holds_what_its_head_says(tmp_path: Path, described: dict[str, Any]) -> None:
    head = json.dumps({"embeddings": {"dtype": "F32", **described}}).encode()
    path = tmp_path / "rows.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(16))
    refused(lambda: StoredRows.of_files([path]), CorruptShardError)


def test_a_planted_shard_of_the_cache_is_set_aside(tmp_path: Path, mark: Path) -> None:
    texts = ["a heron eats", "an otter sleeps", "a badger digs", "a heron sleeps"]
    teacher = LSATeacher(width=2, min_texts=1)
    teacher.fit(texts)
    expected = teacher.encode(texts)
    for number, content in enumerate([pickle.dumps(Planted(mark)), struct.pack("<Q", 2**60) + b"{}", b""]):
        place = tmp_path / str(number) / teacher.fingerprint
        place.mkdir(parents=True)
        (place / "planted.safetensors").write_bytes(content)
        found = EmbeddingCache(place.parent).embed(teacher, texts)
        assert torch.equal(found, expected)
        assert (place / "planted.safetensors.corrupt").is_file()


@pytest.mark.parametrize("kind", ["pickle", "head", "empty", "folder"])
def test_a_planted_file_of_token_states_is_made_again(tmp_path: Path, mark: Path, kind: str) -> None:
    class Letters:
        width, fingerprint = 1, "letters"

        def token_states(self, texts: Any, **options: Any) -> Any:
            return [torch.tensor([[float(ord(letter))] for letter in text]) for text in texts], 0

    reader = TokenReader(Letters(), folder=tmp_path / "tokens")
    whole = reader.read(["ab", "c"]).padded()
    (file,) = (tmp_path / "tokens").iterdir()
    planted = {"pickle": pickle.dumps(Planted(mark)), "head": struct.pack("<Q", 2**60) + b"{}", "empty": b""}
    if kind == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(planted[kind])
    assert torch.equal(reader.read(["ab", "c"]).padded(), whole)
