"""Runs killed at random moments, whatever they were doing: each ends with the bits of the undisturbed one."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import Killer, differing, ending, files_written, killer

#: Of each kind of run, half at random times and half around a file that is put in its place.
KILLS = 20
SMALL = ("lattice.shape=[3,3,3]", "cell.channels=8", "cell.hidden=8")
OFTEN = ("training.val_every=3", "training.checkpoint_every=2", "training.log_every=1", "training.warmup_steps=1")
KINDS = {
    # Two stages before the network and three after it: each is a training with checkpoints of its own.
    "pairs": (
        *("train", "data=file", "data.source.path=pairs.jsonl", "data.test=20", "data.validation=10"),
        *("teacher=lsa", "teacher.width=9", "model.num_steps=[2,4]", "model.surface_channels=1", *SMALL, *OFTEN),
        *("training.max_steps=12", "training.batch_size=8", "training.accumulate=2", "training.compile=false"),
        *("adapters_first.max_steps=6", "adapters_first.batch_size=8", "control_trials.lr=[1e-3,3e-3]"),
    ),
    "automaton": (
        *("automaton", "experiment=majority", "task.width=9", "pool=persistent", "pool.size=8", *OFTEN),
        *("cell.channels=4", "update.hidden=8", "training.num_steps=[2,4]", "training.batch_size=4"),
        *("training.max_steps=16", "training.compile=false"),
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def runs(place: Path) -> Iterator[Killer]:
    with killer(place) as started:
        yield started


def home(place: Path, name: str) -> Path:
    """A folder with pairs in it."""
    folder = place / name
    folder.mkdir()
    draw = random.Random(0)
    words = ["heron", "otter", "river", "forest", "eats", "sleeps", "hides", "hunts", "meadow", "harbour"]
    rows = [{"question": f"{number} " + " ".join(draw.sample(words, 4))} for number in range(80)]
    lines = [json.dumps({**row, "answer": row["question"][::-1]}) + "\n" for row in rows]
    (folder / "pairs.jsonl").write_text("".join(lines))
    return folder


def checked(place: Path, runs: Killer, kind: str, kills: int) -> None:
    whole = home(place, kind)
    assert runs.run(whole, *KINDS[kind], "hydra.run.dir=run") == 0, (whole / "err").read_text()
    expected, written = ending(whole / "run"), files_written(whole)
    assert any(name.endswith(".ckpt") for name in expected)
    draw, interrupted = random.Random(f"{kind} {kills}"), []
    for number in range(kills):
        folder = home(place, f"{kind} {number}")
        # From the moment that there is a run: before that there is nothing to go on with.
        if number % 2:
            moment = {draw.choice(["before", "after"]): draw.randint(1, len(written))}
        else:
            moment = {"seconds": draw.uniform(written[0][0], written[-1][0])}
        code = runs.run(folder, *KINDS[kind], "hydra.run.dir=run", **moment)
        interrupted.append(code == -signal.SIGKILL)
        if not (folder / "run" / "config.yaml").exists():
            assert runs.run(folder, *KINDS[kind], "hydra.run.dir=run") == 0, (folder / "err").read_text()
        # A second time, while it goes on.
        if number % 4 == 0:
            runs.run(folder, KINDS[kind][0], "resume=run", seconds=draw.uniform(0.2, written[-1][0]))
        assert runs.run(folder, KINDS[kind][0], "resume=run") == 0, (moment, (folder / "err").read_text())
        assert differing(ending(folder / "run"), expected) == [], moment
        print(f"{kind}, killed at {moment}: as if it had not been", flush=True)
    assert sum(interrupted) >= 0.7 * kills


def test_an_ending_is_compared_to_the_bit(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "evaluation.json").write_text(json.dumps({"rows": [{"mrr": 0.5, "seconds_train": 1.0}]}))
    whole = ending(tmp_path / "one")
    assert differing(whole, ending(tmp_path / "other")) == []
    (tmp_path / "other" / "model.safetensors").write_bytes(b"weighty")
    (tmp_path / "other" / "evaluation.json").write_text(json.dumps({"rows": [{"mrr": 0.25, "seconds_train": 1.0}]}))
    (tmp_path / "other" / "stray.jsonl").touch()
    assert differing(whole, ending(tmp_path / "other")) == ["stray.jsonl", "evaluation.json", "model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_twenty_random_moments_a_run_ends_as_if_it_had_not_been(place: Path, runs: Killer, kind: str) -> None:
    checked(place, runs, kind, KILLS)
