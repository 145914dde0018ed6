"""EmbeddingCache with a teacher that counts what it is asked, and with whatever can go wrong on a disk."""

from __future__ import annotations

import errno
import hashlib
import itertools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cellgraph.teacher import EmbeddingCache, default_cache_folder

TEXTS = [f"text number {number}" for number in range(10)]


class Counting:
    """A teacher whose embeddings follow from the text alone, and which remembers what it embedded."""

    def __init__(self, width: int = 8, fingerprint: str = "f" * 64) -> None:
        self.width = width
        self.fingerprint = fingerprint
        self.asked: list[str] = []

    def fit(self, texts: Sequence[str]) -> None:
        raise AssertionError("a cache does not fit")

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
        self.asked.extend(texts)
        return torch.stack([self.embedding(text) for text in texts])

    def embedding(self, text: str) -> Tensor:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        return torch.nn.functional.normalize(
            torch.randn(self.width, generator=torch.Generator().manual_seed(seed)), dim=0
        )

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        raise AssertionError("a cache does not save teachers")


def expected(texts: Sequence[str], width: int = 8) -> Tensor:
    return torch.stack([Counting(width).embedding(text) for text in texts])


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_no_text_is_embedded_twice(tmp_path: Path) -> None:
    cache, teacher = EmbeddingCache(tmp_path), Counting()
    texts = [*TEXTS, TEXTS[3], TEXTS[0]]
    assert torch.equal(cache.embed(teacher, texts), expected(texts))
    assert teacher.asked == TEXTS
    assert torch.equal(cache.embed(teacher, TEXTS[::-1]), expected(TEXTS[::-1]))
    assert teacher.asked == TEXTS

    again, other = EmbeddingCache(tmp_path), Counting()
    mixed = ["new", *TEXTS[4:6], "newer", TEXTS[1]]
    embedding = again.embed(other, mixed)
    assert torch.equal(embedding, expected(mixed))
    assert embedding.dtype == torch.float32
    assert other.asked == ["new", "newer"]
    assert len(shards(tmp_path)) == 2


def test_no_texts(tmp_path: Path) -> None:
    assert EmbeddingCache(tmp_path / "none").embed(Counting(), []).shape == (0, 8)
    assert not (tmp_path / "none").exists()


def test_halves_of_characters_stop_nothing(tmp_path: Path) -> None:
    teacher = Counting()
    embedding = EmbeddingCache(tmp_path).embed(teacher, ["cut \ud83d", "cut \N{REPLACEMENT CHARACTER}", "\ud83d\ude42"])
    assert teacher.asked == ["cut \N{REPLACEMENT CHARACTER}", "🙂"]
    assert torch.equal(embedding, expected(["cut \N{REPLACEMENT CHARACTER}"] * 2 + ["🙂"]))


def test_texts_that_look_alike_are_different_texts(tmp_path: Path) -> None:
    texts = ["a", "a ", "A", "", "é", "e\u0301", "a\0b", "🙂"]
    cache = EmbeddingCache(tmp_path)
    assert torch.equal(cache.embed(Counting(), texts), expected(texts))
    assert torch.equal(cache.embed(Counting(), texts), expected(texts))


def test_teachers_are_kept_apart(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.embed(Counting(), TEXTS)
    other = Counting(4, "e" * 64)
    assert torch.equal(cache.embed(other, TEXTS), expected(TEXTS, 4))
    assert other.asked == TEXTS
    assert {path.parent.name for path in shards(tmp_path)} == {"e" * 64, "f" * 64}
    with pytest.raises(ValueError, match="must be able to name a folder"):
        cache.embed(Counting(fingerprint="../up"), TEXTS)


def test_what_is_done_survives_an_interruption(tmp_path: Path) -> None:
    class Interrupted(Counting):
        def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
            if len(self.asked) >= 6:
                raise KeyboardInterrupt
            return super().encode(texts)

    with pytest.raises(KeyboardInterrupt):
        EmbeddingCache(tmp_path, shard_rows=3).embed(Interrupted(), TEXTS)
    teacher = Counting()
    assert torch.equal(EmbeddingCache(tmp_path).embed(teacher, TEXTS), expected(TEXTS))
    assert teacher.asked == TEXTS[6:]


def test_a_second_cache_sees_what_the_first_adds(tmp_path: Path) -> None:
    first, second, teacher = EmbeddingCache(tmp_path), EmbeddingCache(tmp_path), Counting()
    second.embed(Counting(), ["other"])
    first.embed(Counting(), TEXTS)
    second.embed(teacher, TEXTS)
    assert teacher.asked == []


def test_files_removed_under_a_running_cache_are_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, teacher = EmbeddingCache(tmp_path), Counting()
    cache.embed(Counting(), TEXTS)
    for path in shards(tmp_path):
        path.unlink()
    assert torch.equal(cache.embed(teacher, TEXTS), expected(TEXTS))
    assert teacher.asked == TEXTS
    assert len(shards(tmp_path)) == 1
    assert not caplog.records


# A script of its own: it forks before torch has threads, and the library is imported once for both.
WRITERS = """
import multiprocessing, sys
import torch
from cellgraph.teacher import EmbeddingCache

class Numbers:
    width, fingerprint = 4, "f" * 64
    def encode(self, texts, *, progress=False):
        return torch.tensor([[float(text)] * 4 for text in texts])

def write(folder, barrier):
    cache = EmbeddingCache(folder, shard_rows=5)
    for turn in range(10):
        barrier.wait()
        texts = [str(number) for number in range(turn * 5, turn * 5 + 15)]
        assert torch.equal(cache.embed(Numbers(), texts)[:, 0], torch.tensor([float(text) for text in texts]))

context = multiprocessing.get_context("fork")
barrier = context.Barrier(2, timeout=60)
writers = [context.Process(target=write, args=(sys.argv[1], barrier)) for _ in range(2)]
for writer in writers:
    writer.start()
for writer in writers:
    writer.join()
sys.exit(any(writer.exitcode for writer in writers))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_two_processes_write_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    command = [sys.executable, "-c", WRITERS, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    # Neither an exception nor a warning about the other's files.
    assert done.returncode == 0, done.stderr
    assert "embedding" not in done.stderr
    # Twelve when they happen to take turns, more when both write the same rows.
    assert len(shards(folder)) >= 12
    texts, teacher = [str(number) for number in range(60)], Counting(4)
    assert EmbeddingCache(folder).embed(teacher, texts)[:, 0].tolist() == list(range(60))
    assert teacher.asked == []
    assert not [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".safetensors"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_embedding(path: Path) -> None:
    flip(path, "embeddings")


def flip_key(path: Path) -> None:
    flip(path, "keys")


def flip(path: Path, name: str) -> None:
    """One bit of a tensor, which safetensors by itself does not notice."""
    content, wanted = bytearray(path.read_bytes()), load_file(path)[name].numpy().tobytes()
    content[bytes(content).index(wanted) + 2] ^= 1
    path.write_bytes(content)


def strip(path: Path) -> None:
    save_file(load_file(path), path)


@pytest.mark.parametrize(
    ("damage", "fresh"),
    # Keys that were read before the damage are right: only a fresh reader has to notice damaged ones.
    [(flip_key, True), *itertools.product((truncate, empty, flip_embedding, strip), (False, True))],
    ids=lambda value: value.__name__ if callable(value) else ("fresh" if value else "index in memory"),
)
def test_a_corrupt_file_is_set_aside_and_its_rows_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], fresh: bool
) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.embed(Counting(), TEXTS[:6])
    (bad,) = shards(tmp_path)
    cache.embed(Counting(), TEXTS[6:])
    damage(bad)
    content = bad.read_bytes()
    if fresh:
        cache = EmbeddingCache(tmp_path)
    teacher = Counting()
    assert torch.equal(cache.embed(teacher, TEXTS), expected(TEXTS))
    assert teacher.asked == TEXTS[:6]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(bad) in record.getMessage()
    assert "\n" not in record.getMessage()
    assert not bad.exists()
    assert bad.with_name(f"{bad.name}.corrupt").read_bytes() == content
    # Once is enough: the next reader finds everything in order.
    later = Counting()
    EmbeddingCache(tmp_path).embed(later, TEXTS)
    assert later.asked == []
    assert len(caplog.records) == 1


def test_a_second_copy_stands_in_for_a_corrupt_one(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path / "a").embed(Counting(), TEXTS)
    EmbeddingCache(tmp_path / "b").embed(Counting(), TEXTS)
    (bad,), (good,) = shards(tmp_path / "a"), shards(tmp_path / "b")
    # Files are read in the order of their names: the damaged one first.
    good.rename(bad.with_name("z" + good.name))
    flip_embedding(bad)
    teacher = Counting()
    assert torch.equal(EmbeddingCache(tmp_path / "a").embed(teacher, TEXTS), expected(TEXTS))
    assert teacher.asked == []


def test_a_shard_of_another_width_or_teacher_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    EmbeddingCache(tmp_path).embed(Counting(4), TEXTS)
    assert torch.equal(EmbeddingCache(tmp_path).embed(Counting(8), TEXTS), expected(TEXTS))
    assert "expected float32 of width 8" in caplog.text
    caplog.clear()
    other = tmp_path / ("e" * 64)
    other.mkdir()
    (moved,) = shards(tmp_path)
    moved.rename(other / moved.name)
    teacher = Counting(fingerprint="e" * 64)
    assert torch.equal(EmbeddingCache(tmp_path).embed(teacher, TEXTS), expected(TEXTS))
    assert teacher.asked == TEXTS
    assert "belongs to another teacher" in caplog.text


@pytest.mark.parametrize(
    ("number", "function"),
    [(errno.ENOSPC, "os.fsync"), (errno.EDQUOT, "pathlib.Path.replace"), (errno.EROFS, "tempfile.mkstemp")],
)
def test_a_disk_that_takes_nothing_loses_no_embedding(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    function: str,
) -> None:
    EmbeddingCache(tmp_path).embed(Counting(), TEXTS[:2])

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    cache, teacher = EmbeddingCache(tmp_path, shard_rows=3), Counting()
    with monkeypatch.context() as patch:
        patch.setattr(function, refuse)
        assert torch.equal(cache.embed(teacher, TEXTS), expected(TEXTS))
        cache.embed(teacher, ["more"])
    assert teacher.asked == [*TEXTS[2:], "more"]
    (record,) = caplog.records
    assert f"{tmp_path} cannot be written: {os.strerror(number)}" in record.getMessage()
    # Nothing half-written is left, and what was there still is.
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert load_file(path)["embeddings"].shape == (2, 8)


def test_a_folder_that_is_a_file_loses_no_embedding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    assert torch.equal(EmbeddingCache(tmp_path / "file").embed(Counting(), TEXTS), expected(TEXTS))
    (record,) = caplog.records
    assert "cannot be written" in record.getMessage()


def test_an_unreadable_file_is_left_where_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    EmbeddingCache(tmp_path).embed(Counting(), TEXTS)
    (path,) = shards(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("cellgraph.teacher.cache.read_keys", refuse)
    teacher = Counting()
    assert torch.equal(EmbeddingCache(tmp_path).embed(teacher, TEXTS), expected(TEXTS))
    assert teacher.asked == TEXTS
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    assert path.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_that_are_not_finite_are_refused_and_the_others_kept(tmp_path: Path, value: float) -> None:
    class Faulty(Counting):
        def embedding(self, text: str) -> Tensor:
            embedding = super().embedding(text)
            if text == TEXTS[4]:
                embedding[3] = value
            return embedding

    with pytest.raises(ValueError, match="embedding of text 5 is not finite: 'text number 4'"):
        EmbeddingCache(tmp_path).embed(Faulty(), [TEXTS[0], *TEXTS])
    teacher = Counting()
    assert torch.equal(EmbeddingCache(tmp_path).embed(teacher, TEXTS), expected(TEXTS))
    assert teacher.asked == [TEXTS[4]]


def test_embeddings_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    class Faulty(Counting):
        def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
            return torch.ones(len(texts), self.width + 1)

    with pytest.raises(ValueError, match=r"expected embeddings of shape \(10, 8\), got \(10, 9\)"):
        EmbeddingCache(tmp_path).embed(Faulty(), TEXTS)
    assert shards(tmp_path) == []


def test_ten_thousand_rows_are_read_in_a_moment(tmp_path: Path) -> None:
    class Wide(Counting):
        def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
            self.asked.extend(texts)
            return torch.arange(float(len(texts)))[:, None].expand(-1, self.width)

    texts = [f"text {number}" for number in range(10_000)]
    EmbeddingCache(tmp_path).embed(Wide(384), texts)
    teacher, began = Wide(384), time.process_time()
    embedding = EmbeddingCache(tmp_path).embed(teacher, texts)
    # 0.1 s where this was written; processor time, since a busy machine is no fault of the cache.
    assert time.process_time() - began < 1.0
    assert teacher.asked == []
    assert embedding[4096:4099, 0].tolist() == [0.0, 1.0, 2.0]


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CELLGRAPH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / ".cache" / "cellgraph" / "embeddings"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache_folder() == tmp_path / ".cache" / "cellgraph" / "embeddings"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_folder() == tmp_path / "xdg" / "cellgraph" / "embeddings"
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path / "mine"))
    assert default_cache_folder() == tmp_path / "mine" / "embeddings"
    assert EmbeddingCache().folder == default_cache_folder()
    assert not (tmp_path / "mine").exists()


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shard_rows must be positive, got 0"):
        EmbeddingCache(tmp_path, shard_rows=0)
    with pytest.raises(ValueError, match="got one str"):
        EmbeddingCache(tmp_path).embed(Counting(), "one text")
