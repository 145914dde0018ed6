"""EmbeddingJob: the same files whatever happens on the way, and nothing embedded twice."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cellgraph.teacher import EmbeddingCache, EmbeddingJob
from cellgraph.teacher.shards import embedding_key, read_keys, shard_bytes

TEXTS = [f"text number {number} {'and more ' * (number % 7)}" for number in range(100)]


class Slow:
    """A teacher whose embeddings follow from the text alone; it writes down what it is asked, and takes its time."""

    width, fingerprint = 6, "f" * 64

    def __init__(self, log: Path, seconds: float = 0.0) -> None:
        self.log, self.seconds = log, seconds

    def fit(self, texts: Sequence[str]) -> None:
        raise AssertionError("a job does not fit")

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
        time.sleep(self.seconds * len(texts))
        with self.log.open("a") as file:
            file.writelines(f"{text}\n" for text in texts)
        return expected(texts)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        raise AssertionError("a job does not save teachers")

    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def expected(texts: Sequence[str]) -> Tensor:
    rows = [[byte / 256 for byte in hashlib.md5(text.encode()).digest()[: Slow.width]] for text in texts]
    return torch.tensor(rows, dtype=torch.float32)


def run(folder: Path, log: Path, seconds: float = 0.0, rows: int = 8) -> int:
    return EmbeddingJob(Slow(log, seconds), TEXTS, EmbeddingCache(folder), shard_rows=rows).run()


def files(folder: Path) -> dict[str, bytes]:
    """Everything that lies there, hidden files and empty folders included."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"folder" for path in folder.rglob("*")
    }


def start(folder: Path, log: Path, seconds: float, rows: int = 8) -> subprocess.Popen[bytes]:
    here = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent), *sys.path])
    code = "import sys, pathlib, test_job as t; t.run(*map(pathlib.Path, sys.argv[1:3]), *map(eval, sys.argv[3:]))"
    command = [sys.executable, "-c", code, str(folder), str(log), str(seconds), str(rows)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1"})


def flipped(shard: bytes) -> bytes:
    """A shard of which a bit of an embedding is another one."""
    size = int.from_bytes(shard[:8], "little")
    place = 8 + size + json.loads(shard[8 : 8 + size])["embeddings"]["data_offsets"][0] + 6
    return shard[:place] + bytes([shard[place] ^ 1]) + shard[place + 1 :]


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, bytes]:
    assert run(tmp_path / "undisturbed", tmp_path / "log") == len(TEXTS)
    return files(tmp_path / "undisturbed")


def test_embeddings_are_the_teachers_and_a_cache_finds_them(tmp_path: Path) -> None:
    teacher = Slow(tmp_path / "log")
    job = EmbeddingJob(teacher, [*TEXTS, *TEXTS[:9]], EmbeddingCache(tmp_path / "cache"), shard_rows=8)
    assert (job.num_texts, job.num_known, len(job.parts)) == (100, 0, 13)
    counts: list[int] = []
    assert job.run(counts.append) == sum(counts) == 100
    assert sorted(teacher.asked()) == sorted(TEXTS)
    assert torch.equal(EmbeddingCache(tmp_path / "cache").embed(teacher, TEXTS[::-1]), expected(TEXTS[::-1]))
    assert len(teacher.asked()) == 100
    assert {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {".safetensors"}


def test_the_size_is_told_to_within_a_percent(tmp_path: Path) -> None:
    job = EmbeddingJob(Slow(tmp_path / "log"), TEXTS, EmbeddingCache(tmp_path / "cache"), shard_rows=50)
    told = job.bytes_left
    job.run()
    written = sum(len(content) for name, content in files(tmp_path / "cache").items() if name.endswith("safetensors"))
    assert abs(told - written) < 2 * 256
    assert shard_bytes(1000, 384) == pytest.approx(1000 * (384 * 4 + 32), rel=0.01)


def test_what_other_files_hold_is_not_embedded_again(tmp_path: Path) -> None:
    cache, teacher = EmbeddingCache(tmp_path / "cache"), Slow(tmp_path / "log")
    cache.embed(teacher, TEXTS[20:33])
    job = EmbeddingJob(teacher, TEXTS, cache, shard_rows=8)
    assert job.num_known == 13
    assert job.run() == 87
    assert sorted(teacher.asked()) == sorted(TEXTS)
    assert torch.equal(cache.embed(teacher, TEXTS), expected(TEXTS))
    assert EmbeddingJob(teacher, TEXTS, cache, shard_rows=8).parts == []


def test_a_damaged_file_is_made_again(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    folder = tmp_path / "undisturbed"
    damaged = sorted(folder.rglob("*.safetensors"))[3]
    damaged.write_bytes(damaged.read_bytes()[:-50])
    assert run(folder, tmp_path / "log") == 8
    damaged.with_name(f"{damaged.name}.corrupt").unlink()
    assert files(folder) == undisturbed


def test_a_file_of_the_right_size_with_other_bytes_is_made_again(
    tmp_path: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "undisturbed"
    damaged = sorted(folder.rglob("*.safetensors"))[3]
    damaged.write_bytes(flipped(damaged.read_bytes()))
    assert run(folder, tmp_path / "log") == len(read_keys(damaged, Slow.fingerprint))
    assert "the checksum of its embeddings is wrong" in caplog.text
    damaged.with_name(f"{damaged.name}.corrupt").unlink()
    assert files(folder) == undisturbed


def test_rows_left_on_the_disk_are_checked_when_they_are_opened(
    tmp_path: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "undisturbed"
    damaged = sorted(folder.rglob("*.safetensors"))[5]
    damaged.write_bytes(flipped(damaged.read_bytes()))
    rows = EmbeddingCache(folder).rows(Slow(tmp_path / "log"), TEXTS)
    assert torch.equal(rows[:], expected(TEXTS))
    assert "the checksum of its embeddings is wrong" in caplog.text


def test_a_file_under_the_name_of_another_is_not_taken_for_it(
    tmp_path: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "undisturbed"
    first, second = sorted(folder.rglob("*.safetensors"))[:2]
    first.write_bytes(second.read_bytes())
    assert run(folder, tmp_path / "log") == 8
    assert "it lacks 8 of 8 texts" in caplog.text
    assert files(folder) == undisturbed


def test_what_a_file_left_to_one_that_is_gone_is_embedded(tmp_path: Path) -> None:
    cache, teacher = EmbeddingCache(tmp_path / "cache"), Slow(tmp_path / "log")
    cache.embed(teacher, TEXTS[:3])
    (other,) = (tmp_path / "cache").rglob("*.safetensors")
    assert EmbeddingJob(teacher, TEXTS, cache, shard_rows=8).run() == 97
    other.unlink()
    assert EmbeddingJob(teacher, TEXTS, cache, shard_rows=8).num_known == 92
    assert torch.equal(cache.rows(teacher, TEXTS)[:], expected(TEXTS))


@pytest.mark.parametrize("kills", [pytest.param(4, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_the_files_are_those_of_an_undisturbed_run(tmp_path: Path, kills: int) -> None:
    run(tmp_path / "undisturbed", tmp_path / "undisturbed log", rows=2)
    folder, log, draw = tmp_path / "killed", tmp_path / "killed log", random.Random(kills)
    killed = 0
    for _ in range(kills):
        # Each finishes a part or two of the fifty.
        process = start(folder, log, 0.02, rows=2)
        before = len(log.read_text()) if log.exists() else 0
        # The moments that count are those after its start: imports are over when it first embeds.
        limit = time.monotonic() + 60
        while (len(log.read_text()) if log.exists() else 0) == before and process.poll() is None:
            assert time.monotonic() < limit
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 0.8 * kills
    run(folder, log, rows=2)
    assert files(folder) == files(tmp_path / "undisturbed")
    # Each kill loses at most the part it was in.
    assert len(log.read_text().splitlines()) <= len(TEXTS) + 2 * kills


def test_two_processes_share_the_work(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    folder, logs = tmp_path / "shared", [tmp_path / "one", tmp_path / "two"]
    processes = [start(folder, log, 0.03) for log in logs]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    asked = [log.read_text().splitlines() if log.exists() else [] for log in logs]
    assert sorted(asked[0] + asked[1]) == sorted(TEXTS)
    assert files(folder) == undisturbed


@pytest.mark.slow
def test_what_a_killed_process_had_claimed_is_taken_over(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    folder, log = tmp_path / "taken", tmp_path / "taken log"
    holder = start(folder, tmp_path / "holder", 1000.0)
    claims = folder / Slow.fingerprint / ".claims"
    limit = time.monotonic() + 60
    while not (claims.exists() and list(claims.iterdir())):
        assert time.monotonic() < limit
        time.sleep(0.01)
    # It is alive and holds the first part: the other does all else and waits.
    other = start(folder, log, 0.0)
    while len(list((folder / Slow.fingerprint).glob("*.safetensors"))) < 12:
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert other.poll() is None
    holder.kill()
    holder.wait()
    assert other.wait(timeout=60) == 0
    assert files(folder) == undisturbed


def test_what_a_killed_writer_left_half_written_goes(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    folder = tmp_path / "half"
    job = EmbeddingJob(Slow(tmp_path / "half log"), TEXTS, EmbeddingCache(folder), shard_rows=8)
    place = folder / Slow.fingerprint
    (place / ".claims").mkdir(parents=True)
    (place / f".{job.parts[5].name}.safetensors.abcd").write_bytes(b"half of it")
    (place / ".claims" / f"{job.parts[5].name}.lock").touch()
    job.run()
    assert files(folder) == undisturbed


def test_a_disk_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage(10_000, 9_000, 1_000))
    teacher = Slow(tmp_path / "log")
    job = EmbeddingJob(teacher, TEXTS, EmbeddingCache(tmp_path / "cache"), shard_rows=8)
    with pytest.raises(
        OSError, match=r"100 embeddings of width 6 take 12.3 kB, and the disk of .*cache has 1.0 kB left"
    ):
        job.run()
    assert teacher.asked() == []
    assert not (tmp_path / "cache").exists()


def test_a_disk_that_fills_up_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    folder, calls, sync = tmp_path / "full", 0, os.fsync

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match=r"cannot write embeddings to .*: No space left on device"):
            run(folder, tmp_path / "full log")
    assert len(list(folder.rglob("*.safetensors"))) == 4
    assert run(folder, tmp_path / "full log") == len(TEXTS) - 4 * 8
    assert files(folder) == undisturbed


def test_embeddings_that_are_not_what_they_should_be_are_refused(tmp_path: Path) -> None:
    class Faulty(Slow):
        def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
            embeddings = super().encode(texts)
            embeddings[[text == TEXTS[13] for text in texts], 2] = float("nan")
            return embeddings

    job = EmbeddingJob(Faulty(tmp_path / "log"), TEXTS, EmbeddingCache(tmp_path / "cache"), shard_rows=8)
    with pytest.raises(ValueError, match="embedding of a text is not finite: 'text number 13"):
        job.run()
    # What was finished before stays.
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 1

    class Wide(Slow):
        def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
            return torch.ones(len(texts), 7)

    with pytest.raises(ValueError, match=r"expected embeddings of shape \(8, 6\), got \(8, 7\)"):
        EmbeddingJob(Wide(tmp_path / "log"), TEXTS, EmbeddingCache(tmp_path / "wide"), shard_rows=8).run()
    with pytest.raises(ValueError, match="shard_rows must be positive, got 0"):
        EmbeddingJob(Slow(tmp_path / "log"), TEXTS, EmbeddingCache(tmp_path), shard_rows=0)


def test_keys_name_text_and_teacher() -> None:
    keys = {embedding_key(teacher, text) for teacher in ("a", "b") for text in ("", "a", "b")}
    assert len(keys) == 6
    assert all(len(key) == 32 for key in keys)
