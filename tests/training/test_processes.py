"""Processes that train together: their losses are those of one, whatever is random, killed or resumed."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import differences
from processes import environment
from safetensors.torch import load_file
from together import (
    by_command,
    contrasted,
    gradients_of_rows,
    on_learned_states,
    on_pairs,
    on_states,
    second_derivatives,
    together,
)

from cellgraph import processes
from cellgraph.cli import train as verb
from cellgraph.cli.together import wanted
from cellgraph.folder import RunFolder
from cellgraph.retrieval import EmbeddedPairs
from cellgraph.retrieval.loader import DialogueLoader
from cellgraph.training import read_checkpoint

#: Rounding is all that may differ: sums over the rows of a batch are taken in another order.
TOLERANCE = {"64-true": 1e-11, "32-true": 2e-4}
TIMES = ("seconds", "train/samples_per_second")


def logged(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(cell) for name, cell in row.items() if cell and name not in TIMES} for row in rows]


def same(ours: list[dict[str, float]], theirs: list[dict[str, float]], tolerance: float) -> None:
    assert len(ours) == len(theirs) > 0
    for row, other in zip(ours, theirs, strict=True):
        assert row == pytest.approx(other, rel=tolerance, abs=tolerance)


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The log of a run by one process, made once for each of its settings."""
    made: dict[str, Path] = {}

    def folder(function: Any, **options: Any) -> Path:
        key = f"{function.__name__} {options}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp("one")
            together(1, function, made[key], options)
        return made[key]

    return folder


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (2, {"precision": "64-true"}),
        pytest.param(2, {"precision": "32-true"}, marks=pytest.mark.slow),
        pytest.param(4, {"precision": "64-true", "window": 1, "normalise": True}, marks=pytest.mark.slow),
    ],
)
def test_losses_are_those_of_one_process(tmp_path: Path, by_one: Any, count: int, options: dict[str, Any]) -> None:
    results = together(count, on_pairs, tmp_path, options)
    one = by_one(on_pairs, **options)
    same(logged(tmp_path), logged(one), TOLERANCE[options["precision"]])
    # All have the same figures, and the files are there once.
    strip = [{k: v for k, v in result.items() if k not in ("seconds", *TIMES)} for result in results]
    assert all(found == strip[0] for found in strip)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in one.iterdir())
    steps = [row["step"] for row in logged(tmp_path)]
    assert steps == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]


@pytest.mark.slow
def test_weights_that_are_shared_out_give_the_same_losses(tmp_path: Path, by_one: Any) -> None:
    options = {"precision": "32-true", "ema": 0.0}
    results = together(2, on_pairs, tmp_path, {**options, "sharded": True})
    one = by_one(on_pairs, **options)
    same(logged(tmp_path), logged(one), TOLERANCE["32-true"])
    # The model is whole in the end, in every process, and so is the checkpoint.
    assert results[0]["weights"] == results[1]["weights"]
    weights = [read_checkpoint(place / "checkpoints" / "best.ckpt")["state_dict"] for place in (tmp_path, one)]
    assert {name: x.shape for name, x in weights[0].items()} == {name: x.shape for name, x in weights[1].items()}


def test_what_a_task_learns_is_shared_out_too(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    (alone,) = together(1, on_learned_states, one, {"lr": 0.05})
    both = together(2, on_learned_states, two, {"lr": 0.05, "sharded": True})
    same(logged(two), logged(one), TOLERANCE["32-true"])
    # It is the caller's task that has it in the end.
    for found in both:
        for name, values in alone["learned"].items():
            np.testing.assert_allclose(found["learned"][name], values, rtol=1e-3, atol=1e-5)
    options = {"sharded": True, "shapes": {0.5: (3, 3)}}
    for told in together(2, on_learned_states, tmp_path / "small", options, must_end=False):
        assert "takes models of one size, not a curriculum" in told


def test_what_sharing_weights_out_cannot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"takes several processes, .* got 1, resume=False, ema=0.9, 32-true"):
        on_pairs(tmp_path, {"sharded": True, "precision": "32-true"})


def test_an_automaton_with_a_pool_is_that_of_one_process(tmp_path: Path, by_one: Any) -> None:
    options = {"precision": "64-true"}
    together(2, on_states, tmp_path, options)
    one = by_one(on_states, **options)
    same(logged(tmp_path), logged(one), 1e-11)
    pools = [read_checkpoint(place / "checkpoints" / "last.ckpt")["update_state"]["pool"] for place in (tmp_path, one)]
    assert torch.equal(pools[0]["age"], pools[1]["age"])
    torch.testing.assert_close(pools[0]["samples"]["x"], pools[1]["samples"]["x"], rtol=0, atol=1e-6)


def test_a_contrast_of_the_rows_of_all_has_the_closed_form_s_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(5, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    found = [row for part in together(2, contrasted, query, key) for row in part]
    q, k = query.numpy(), key.numpy()
    weights = np.exp(q @ k.T)
    expected = (weights / weights.sum(1, keepdims=True) - np.eye(5)) @ k / 5
    # Each process has its part of the mean over all rows.
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("count", [2, 3])
def test_the_loss_of_all_rows_has_the_closed_form_s_gradient_at_each_process_s_rows(count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    query, key = (torch.randn(5, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    parts = together(count, gradients_of_rows, query, key)
    found = [np.concatenate([np.array(part[side]) for part in parts]) for side in (0, 1)]
    q, k = query.numpy(), key.numpy()
    weights = np.exp(q @ k.T)
    slope = (weights / weights.sum(1, keepdims=True) - np.eye(5)) / 5
    # A key is a negative of every query, most of which are other processes'.
    np.testing.assert_allclose(found[0], slope @ k, rtol=1e-12)
    np.testing.assert_allclose(found[1], slope.T @ q, rtol=1e-12)


def test_second_derivatives_between_processes_are_refused() -> None:
    for said in together(2, second_derivatives):
        assert len(said) == 3
        assert all("trying to differentiate twice" in each for each in said), said


def test_each_process_saves_its_share_of_a_batch_that_is_not_finite(tmp_path: Path) -> None:
    first, second = together(2, on_pairs, tmp_path, {"spoilt": list(range(39)), "accumulate": 1}, must_end=False)
    paths = [tmp_path / f"nonfinite_update_1{name}.safetensors" for name in ("", "_process_1")]
    share = "this process's share of the batch is saved in"
    assert first.splitlines()[0].endswith(f"{share} {paths[0]}, those of the other processes are beside it"), first
    assert second.splitlines()[0].endswith(f"{share} {paths[1]}"), second
    alone = together(1, on_pairs, tmp_path / "one", {"spoilt": list(range(39)), "accumulate": 1}, must_end=False)
    assert "the batch is saved in" in alone[0]
    whole = load_file(tmp_path / "one" / "nonfinite_update_1.safetensors")
    shares = [load_file(path) for path in paths]
    for name, tensor in whole.items():
        assert torch.equal(torch.cat([share[name] for share in shares]), tensor), name


@pytest.mark.parametrize(
    ("lost", "where", "kept"),
    [
        (0, "check", "kept in {}: configuration"),
        (0, "prepare", "kept in {}: configuration"),
        (1, "check", "kept in {}: pairs, teacher"),
        # The first process is by then in its first update, or about to be.
        (1, "build", r"(there is no checkpoint yet|kept in {}: pairs, teacher, .*)"),
    ],
)
def test_a_process_that_is_lost_before_training_is_told_in_a_line(
    tmp_path: Path, lost: int, where: str, kept: str
) -> None:
    write_pairs(tmp_path)
    found = together(2, by_command, tmp_path, [*PAIRS, "hydra.run.dir=run"], lost, where, must_end=False)
    assert found[lost] == -signal.SIGKILL
    process = "" if lost else " (process 1)"
    told = f"cellgraph train{process}: one of the 2 processes that train together has gone: the others stop; "
    place = re.escape(str(tmp_path / "run"))
    go_on = f"; go on with: torchrun --nproc-per-node 2 -m cellgraph train resume={place}"
    assert re.fullmatch(f"SystemExit: {re.escape(told)}{kept.format(place)}{go_on}", found[1 - lost]), found


@pytest.mark.slow
def test_a_lost_process_ends_the_run_and_as_many_go_on_to_the_bit(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    together(2, on_pairs, whole, {})
    first, second = together(2, on_pairs, broken, {}, signal.SIGKILL, 10, must_end=False)
    assert second == -signal.SIGKILL
    told = first.splitlines()[0]
    last = broken / "checkpoints" / "last.ckpt"
    assert told == (
        "LostProcessError: one of the 2 processes that train together has gone: the others stop; "
        f"{last} is the last checkpoint; go on with: go on"
    )
    assert read_checkpoint(last)["global_step"] == 4
    together(2, on_pairs, broken, {"resume": True})
    for name in ("last.ckpt", "best.ckpt"):
        assert differences(*(read_checkpoint(place / "checkpoints" / name) for place in (broken, whole))) == []
    assert logged(broken) == logged(whole)


@pytest.mark.slow
def test_asked_to_stop_all_stop_after_the_same_update_and_one_goes_on_alone(tmp_path: Path, by_one: Any) -> None:
    options = {"precision": "64-true", "window": 1}
    stopped = together(2, on_pairs, tmp_path, options, signal.SIGTERM, 7, must_end=False)
    assert stopped == ["SystemExit: 143"] * 2
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 4
    together(1, on_pairs, tmp_path, {**options, "resume": True})
    same(logged(tmp_path), logged(by_one(on_pairs, **options)), TOLERANCE["64-true"])


def test_each_process_has_its_part_of_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = EmbeddedPairs(torch.randn(30, 2), torch.randn(30, 2), dialogue=[str(row // 3) for row in range(30)])

    def rows(**options: Any) -> list[torch.Tensor]:
        return [
            batch.index
            for batch in DialogueLoader(pairs, 4, seed=1, window=2, num_batches=6, drop_last=True, **options)
        ]

    whole = rows()
    monkeypatch.setattr(processes, "world", lambda: 3)
    parts = []
    for number in range(3):
        monkeypatch.setattr(processes, "rank", lambda number=number: number)
        parts.append(rows(shared=True))
    assert [len(part) for part in parts[0]] == [2] * 6
    for batch, *theirs in zip(whole, *parts, strict=True):
        assert torch.equal(batch, torch.cat(theirs))
    with pytest.raises(ValueError, match="3 processes cannot share a batch of 2: start fewer of them"):
        DialogueLoader(pairs, 2, drop_last=True, shared=True)


def test_a_sweep_within_torchrun_is_refused_and_a_run_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="start the sweep without it, and with processes=2"):
        verb.main(["-m", "seed=0,1"])
    with pytest.raises(ValueError, match="start the sweep without it, and with processes=2"):
        verb.main(["sweep=data"])
    command = RunFolder.command("train", resume="runs/today")
    assert command == "torchrun --nproc-per-node 2 -m cellgraph train resume=runs/today"
    assert RunFolder.command("evaluate", "runs/today") == "cellgraph evaluate runs/today"


PAIRS = (
    *("teacher=lsa", "teacher.width=8", "lattice=small", "model.num_steps=3", "model.surface_channels=1"),
    *("cell.channels=8", "cell.hidden=8", "data=file", "data.source.path=pairs.jsonl", "data.test=10"),
    *("data.validation=10", "adapters_first.max_steps=2", "training.compile=false", "training.max_steps=4"),
    *("training.val_every=2", "training.batch_size=8", "training.warmup_steps=2", "training.accelerator=cpu"),
    "training.precision=32-true",
)


def write_pairs(folder: Path) -> None:
    rows = [
        {"question": f"Where does the {animal} {verb} by the {place}?", "answer": f"the {animal} {verb} at the {place}"}
        for animal in ("heron", "otter", "badger", "falcon", "beetle")
        for place in ("river", "forest", "meadow", "desert")
        for verb in ("eat", "sleep", "hide")
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_how_many_processes_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert [wanted(count) for count in (1, 2, 4)] == [0, 2, 4]
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        wanted(0)
    with pytest.raises(ValueError, match="processes"):
        wanted("two")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    assert wanted(2) == 0


@pytest.mark.slow
def test_a_sweep_whose_runs_have_two_processes_each(tmp_path: Path) -> None:
    write_pairs(tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cellgraph", "train", *PAIRS, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=600, check=False
        )

    done = run(
        "-m", "processes=2", "seed=0,1", "hydra.sweep.dir=many", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Held-out pairs") == 2
    assert run("seed=1", "hydra.run.dir=one").returncode == 0
    many, one = tmp_path / "many", tmp_path / "one"
    same(logged(many / "1"), logged(one), 2e-4)
    assert logged(many / "0") != logged(many / "1")
    # Nothing else has been written: no sweep within the sweep.
    assert sorted(path.name for path in many.iterdir()) == ["0", "1", "multirun.yaml"]
    done = run("-m", "processes=2", "seed=0,1", "hydra.sweep.dir=none", "data.source.path=missing.jsonl")
    assert done.returncode != 0
    assert "missing.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_torchrun_trains_judges_and_writes_once(tmp_path: Path) -> None:
    write_pairs(tmp_path)

    def run(count: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "-m", "cellgraph"]
        started = torchrun if count > 1 else [sys.executable, "-m", "cellgraph"]
        command = [*started, "train", *PAIRS, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=300, check=False
        )

    done = run(1, "processes=2", "seed=0", "hydra.run.dir=many/0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Held-out pairs") == 1
    done = run(2, "seed=1", "hydra.run.dir=many/1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Held-out pairs") == 1
    done = run(1, "seed=1", "hydra.run.dir=one")
    assert done.returncode == 0, done.stderr
    many, one = tmp_path / "many" / "1", tmp_path / "one"
    same(logged(many), logged(one), 2e-4)
    # TensorBoard's names have the time in them.
    names = [
        sorted(str(path.relative_to(place)).partition("events.")[0] for path in place.rglob("*") if path.is_file())
        for place in (many, one)
    ]
    assert names[0] == names[1]
    # What is wrong is told once.
    done = run(2, "hydra.run.dir=many/1")
    assert done.returncode == 1
    assert done.stderr.count("many/1 holds a run already") == 1
    assert "(process 1)" not in done.stderr
