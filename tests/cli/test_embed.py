"""The verb ``embed`` as a user has it: what it tells, where embeddings lie, what it refuses, and its kills."""

from __future__ import annotations

import importlib
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from processes import command, environment, run, run_inside
from rich.console import Console

from cellgraph.cli import embed
from cellgraph.teacher import EmbeddingCache, LSATeacher, load_teacher

TEACHER = """
import time
import torch
from cellgraph.teacher import BaseTeacher

class Slow(BaseTeacher):
    width = 12
    def __init__(self, seconds: float = 0.0): self.seconds = seconds
    def encode(self, texts, *, progress=False):
        time.sleep(self.seconds * len(texts))
        return torch.tensor([[float((len(text) * (k + 3)) % 17) for k in range(12)] for text in texts])
"""
COUNT = 240


@pytest.fixture
def here(tmp_path: Path) -> Path:
    rows = [{"question": f"What is number {n}?", "answer": f"It is {n} {'of them ' * (n % 9)}"} for n in range(COUNT)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "slow.py").write_text(TEACHER)
    (tmp_path / "teacher.json").write_text("{}")
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_tells_what_it_does_and_training_finds_it(here: Path) -> None:
    done = run_inside(here, "embed", "pairs.jsonl", "--teacher", "lsa", "teacher.width=6", "--shard-rows", 100)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"480 distinct texts, 0 of them embedded before; 480 more of width 6 take 2\d\.\d kB in ", done.stderr
    )
    assert re.search(r"where [\d.]+ [MGT]B are free", done.stderr)
    assert re.match(r"embedded 480 texts in [\d.]+ s, [\d,.]+ texts/s; all 480 are in ", done.stdout)
    cache = here / "cache" / "embeddings"
    (saved,) = cache.glob("teacher-*")
    texts = [json.loads(line) for line in (here / "pairs.jsonl").read_text().splitlines()]
    teacher = load_teacher(saved)
    expected = LSATeacher(6)
    expected.fit([row[part] for part in ("question", "answer") for row in texts])
    assert teacher.fingerprint == expected.fingerprint
    shards = list((cache / teacher.fingerprint).glob("*.safetensors"))
    assert len(shards) == 5

    before = files(cache)
    again = run_inside(here, "embed", "pairs.jsonl", "--teacher", str(saved))
    assert "480 distinct texts, 480 of them embedded before; 0 more of width 6 take 0 B" in again.stderr
    assert again.stdout.startswith("embedded 0 texts; all 480 are in ")
    assert files(cache) == before
    embedding = EmbeddingCache(cache).embed(teacher, [texts[7]["question"]])
    torch.testing.assert_close(embedding, expected.encode([texts[7]["question"]]))
    assert files(cache) == before


def test_lines_of_text_and_columns_by_name(here: Path) -> None:
    (here / "lines.txt").write_text("one line\nanother line\n\none line\n")
    own = ("--teacher", "lsa", "teacher._target_=slow.Slow", "--out", "out")
    done = run(here, "embed", "lines.txt", *own)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("embedded 2 texts")
    (here / "named.csv").write_text("title,body\na b,c d\n")
    done = run(here, "embed", "named.csv", *own, "data.source.question=title", "data.source.answer=body")
    assert done.stdout.startswith("embedded 2 texts"), done.stderr
    assert len(list((here / "out").glob("*/*.safetensors"))) == 2


LEARNER = """
import torch
from cellgraph.teacher import BaseTeacher
class Longest(BaseTeacher):
    width = 2
    def __init__(self): self.most = torch.zeros(1)
    def fit(self, texts): self.most = torch.tensor([float(max(map(len, texts)))])
    def state_dict(self): return {"most": self.most}
    def load_state_dict(self, state): self.most = state["most"]
    def encode(self, texts, *, progress=False):
        return torch.tensor([[len(text) / self.most.item(), SECOND] for text in texts])
"""


def test_what_code_of_one_s_own_has_learned_is_not_for_it_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for second in ("1.0", "2.0", "1.0"):
        (tmp_path / "learner.py").write_text(LEARNER.replace("SECOND", second) + "#" * len(found))
        sys.modules.pop("learner", None)
        importlib.invalidate_caches()
        kind = importlib.import_module("learner").Longest
        fitted = embed._fitted(kind(), {"_target_": "learner.Longest"}, ["a", "abc"], tmp_path, Console(quiet=True))
        found.append(fitted.encode(["ab"]).tolist()[0])
    assert found == [[pytest.approx(2 / 3), float(second)] for second in (1, 2, 1)]
    assert len(list(tmp_path.glob("teacher-*"))) == 2
    sys.modules.pop("learner", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.jsonl", "--teacher", "lsa"), "No such file or directory: 'nothing.jsonl'"),
        (("pairs.jsonl", "--teacher", "lsq"), "Could not find 'teacher/lsq' Available options"),
        (("pairs.jsonl", "--teacher", "lsa", "teacher.widht=3"), "Could not override 'teacher.widht'"),
        (("pairs.jsonl", "--teacher", "lsa", "seed=3"), "expected settings of teacher. or data.source., got seed=3"),
        (("pairs.jsonl", "--teacher", "lsa", "--shard-rows", "0"), "--shard-rows must be at least 1, got 0"),
        (("pairs.jsonl", "--teacher", "lsa", "data.source.question=q"), "no column 'q' for the question"),
        (("pairs.jsonl", "data.source.path=other.jsonl"), "named by itself: leave out data.source.path=other.jsonl"),
        (("lines.txt", "data.source.limit=1"), "a text a line is read as it is: leave out data.source.limit=1"),
        (("pairs.jsonl", "--teacher", ".", "teacher.width=3"), "has its own settings: leave out teacher.width=3"),
        (("pairs.jsonl", "--teacher", "distilbert"), "'distilbert-base-uncased' cannot be had"),
        (("pairs.jsonl", "--teacher", "llama3", "teacher.quantization=4bit"), "needs a CUDA GPU"),
        (("pairs.jsonl", "--teacher", "lsa", "--out", "pairs.jsonl"), "pairs.jsonl"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(here: Path, arguments: Sequence[str], message: str) -> None:
    done = run_inside(here, "embed", *arguments, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("cellgraph embed: ")
    assert done.stderr.count("\n") == 1
    assert not (here / "cache" / "embeddings").exists()


def test_a_disk_too_small_is_refused_in_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellgraph.teacher.job.free_bytes", lambda folder: 5_000)
    done = run_inside(here, "embed", "pairs.jsonl", "--teacher", "lsa", "teacher.width=6", "--out", "out")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("cellgraph embed: 480 embeddings of width 6 take 27")
    assert done.stderr.endswith("has 5.0 kB left\n")
    assert [path.parent.name[:8] for path in (here / "out").glob("*/*.safetensors")] == ["teacher-"]


def start(here: Path, out: str, seconds: float) -> subprocess.Popen[str]:
    arguments = ("embed", "pairs.jsonl", "--teacher", "lsa", "teacher._target_=slow.Slow", f"teacher.seconds={seconds}")
    return subprocess.Popen(
        command(*arguments, "--out", out, "--shard-rows", 16),
        cwd=here,
        env=environment(here),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_twenty_kills_and_two_at_once_give_the_files_of_an_undisturbed_run(here: Path) -> None:
    speed, draw = 0.012, random.Random(0)
    assert start(here, "undisturbed", speed).wait() == 0
    expected = files(here / "undisturbed")
    assert len(expected) == 30
    killed = 0
    for number in range(20):
        # Now and then two share the work, and one of them is killed.
        others = [start(here, "killed", speed)] if number % 5 == 4 else []
        process = start(here, "killed", speed)
        place, limit = here / "killed", time.monotonic() + 120
        while not list(place.glob("*/.claims/*")) and process.poll() is None:
            assert time.monotonic() < limit
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.4))
        for each in (process, *others):
            each.send_signal(signal.SIGKILL)
            killed += each.wait() == -signal.SIGKILL
    assert killed >= 16
    assert start(here, "killed", speed).wait() == 0
    assert files(here / "killed") == expected

    pair = [start(here, "shared", speed) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in pair]
    assert files(here / "shared") == expected
    counts = [int(re.match(r"embedded ([\d,]+) texts", text)[1].replace(",", "")) for text in said]  # type: ignore[index]
    assert sum(counts) == 2 * COUNT
    assert min(counts) > 0


def test_training_from_the_disk_comes_to_the_same(here: Path) -> None:
    fast = (
        *("data=file", "data.source.path=pairs.jsonl", "data.test=40", "data.validation=20", "teacher=tfidf"),
        *("teacher.width=24", "lattice=small", "model.num_steps=3", "model.surface_channels=1", "cell.channels=8"),
        *("cell.hidden=16", "training.compile=false", "training.max_steps=4", "training.batch_size=16"),
        *("training.warmup_steps=2", "training.precision=32-true"),
    )
    figures = []
    for name in ("false", "true"):
        done = run_inside(here, "train", *fast, f"on_disk={name}", f"hydra.run.dir=run-{name}")
        assert done.returncode == 0, done.stderr
        figures.append(json.loads((here / f"run-{name}" / "training.json").read_text()))
    for metric in ("val/mrr", "val/cosine", "train/loss"):
        assert figures[1][metric] == pytest.approx(figures[0][metric], abs=0.02)
