"""StoredRows against the tensor that was written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from cellgraph.teacher import EmbeddingCache, StoredRows
from cellgraph.teacher.rows import _head, _opened
from cellgraph.teacher.shards import CorruptShardError, write_shard


class Numbers:
    """A teacher of numbers, each a text."""

    width, fingerprint = 3, "a" * 64

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> torch.Tensor:
        return torch.tensor([[float(text), float(text) ** 2, 1.0] for text in texts])

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing."""

    def save_pretrained(self, folder: Any) -> None:
        """Nothing."""


def written(folder: Path, counts: tuple[int, ...] = (7, 1, 12), width: int = 5) -> tuple[list[Path], torch.Tensor]:
    table = torch.randn(sum(counts), width)
    paths = []
    for number, rows in enumerate(table.split(counts)):
        keys = [bytes([number, row]) * 16 for row in range(len(rows))]
        paths.append(write_shard(folder, "f" * 64, keys, rows, name=f"shard{number}"))
    return paths, table


def test_rows_are_those_of_the_tensor(tmp_path: Path) -> None:
    paths, table = written(tmp_path)
    rows = StoredRows.of_files(paths)
    assert (len(rows), rows.shape, rows.size(1)) == (20, (20, 5), 5)
    for index in (torch.tensor([3, 19, 0, 3, 7]), torch.arange(20), torch.tensor([[1, 2], [-1, 9]]), torch.arange(0)):
        assert torch.equal(rows[index], table[index])
    assert torch.equal(rows[2:17:3], table[2:17:3])
    assert [len(block) for block in rows.split(6)] == [6, 6, 6, 2]
    assert torch.equal(torch.cat(list(rows.split(6))), table)
    doubled = rows.mapped(lambda block: 2 * block)
    assert torch.equal(torch.cat(list(doubled.split(3))), 2 * table)
    assert torch.equal(doubled[torch.tensor([4, 1])], 2 * table[[4, 1]])


def test_a_cache_leaves_rows_on_the_disk_and_embeds_what_is_missing(tmp_path: Path) -> None:
    cache, teacher = EmbeddingCache(tmp_path, shard_rows=4), Numbers()
    cache.embed(teacher, [str(number) for number in range(0, 30, 3)])
    texts = [str(number) for number in (5, 3, 9, 9, 28, 0, 5)]
    rows = cache.rows(teacher, texts)
    assert torch.equal(rows[:], teacher.encode(texts))
    before = len(list(tmp_path.rglob("*.safetensors")))
    assert torch.equal(cache.rows(teacher, texts[::-1])[:], teacher.encode(texts[::-1]))
    assert len(list(tmp_path.rglob("*.safetensors"))) == before


def test_files_that_are_no_shards_are_named(tmp_path: Path) -> None:
    paths, _ = written(tmp_path)
    whole = paths[2].read_bytes()
    paths[2].write_bytes(whole[:-3])
    with pytest.raises(CorruptShardError, match=r"shard2\.safetensors is cut off"):
        StoredRows.of_files(paths)
    paths[2].write_bytes(b"nonsense that is long enough")
    with pytest.raises(CorruptShardError, match="is no shard of embeddings"):
        StoredRows.of_files(paths)
    other, _ = written(tmp_path / "other", width=3)
    with pytest.raises(ValueError, match=r"of one width, got files of \[3, 5\]"):
        StoredRows.of_files([paths[0], other[0]])
    with pytest.raises(FileNotFoundError):
        StoredRows.of_files([tmp_path / "nothing"])


def test_threads_and_forked_processes_read_what_they_ask_for(tmp_path: Path) -> None:
    paths, table = written(tmp_path, counts=(250,), width=64)
    rows = StoredRows.of_files(paths)

    def wrong(seed: int) -> int:
        draw = torch.Generator().manual_seed(seed)
        asked = [torch.randint(250, (8,), generator=draw) for _ in range(200)]
        return sum(not torch.equal(rows[index], table[index]) for index in asked)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(wrong, range(4))) == 0
    finally:
        sys.setswitchinterval(before)
    # Forked processes share the place that a file is at: it is not moved.
    assert _opened(paths[0], _head(paths[0])[2]).tell() == 0


def test_a_file_that_is_written_anew_is_not_read_by_the_places_of_the_old_one(tmp_path: Path) -> None:
    paths, table = written(tmp_path)
    rows = StoredRows.of_files(paths)
    assert torch.equal(rows[torch.arange(7)], table[:7])
    fewer = torch.randn(2, 5)
    write_shard(tmp_path, "f" * 64, [b"x" * 32, b"y" * 32], fewer, name="shard0")
    # Who has it open still has the old one; who has not must not take the new one for it.
    assert torch.equal(rows[torch.arange(7)], table[:7])
    assert torch.equal(StoredRows.of_files(paths)[torch.arange(2)], fewer)
    _opened.cache_clear()
    with pytest.raises(CorruptShardError, match="written anew since its rows were looked up"):
        rows[torch.arange(2)]


def test_rows_of_no_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one text, got none"):
        EmbeddingCache(tmp_path).rows(Numbers(), [])


def test_rows_that_have_gone_are_no_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, teacher = EmbeddingCache(tmp_path), Numbers()
    cache.embed(teacher, ["1", "2"])
    keys = cache.keys

    def cleared(fingerprint: str, **options: Any) -> Any:
        # Between embedding and reading another process clears away what is not the first file.
        found = keys(fingerprint, **options)
        return dict([next(iter(found.items()))]) if len(found) > 1 else found

    monkeypatch.setattr(cache, "keys", cleared)
    with pytest.raises(OSError, match="have gone while they were read"):
        cache.rows(teacher, ["1", "2", "3"])
