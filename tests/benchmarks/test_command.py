"""``cellgraph bench``: every question at a tiny size, its JSON, its plans and its errors."""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from benching import ANY_SHAPE, TINY, bench, interrupt, interrupted
from processes import run_inside

from cellgraph import GMLPCell, Lattice
from cellgraph.benchmarks import batch, command, memory, scale, step
from cellgraph.benchmarks.measure import Contender, PeakMemory
from cellgraph.benchmarks.report import Report
from cellgraph.benchmarks.setting import Setting
from cellgraph.benchmarks.workload import library_contender

#: However busy the machine is.
PATIENT = "--longest 1000 --budget 10000"


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling is what takes the time, and is tested with the cell."""
    monkeypatch.setattr(batch, "compile_cell", lambda cell, device: None)
    monkeypatch.setattr("cellgraph.benchmarks.workload.compile_cell", lambda cell, device: None)


def test_step_has_the_floor_the_backends_and_the_peers(capsys, tmp_path) -> None:
    what = "--backends stencil scatter --neighbourhoods 6 26 --checkpoint 0 2 --batch 1 3 --dtypes float32 bfloat16"
    how = f"--steps 2 --cone-steps 2 3 --rounds 2 --slot 0 {PATIENT} --require 0.0001"
    found, printed = bench(capsys, tmp_path, "step", *TINY, *what.split(), *how.split())
    rows = found["rows"]
    full = [row for row in rows if row["rollout"] == "full"]
    floors = {(row["mode"], row["dtype"]): row["samples_per_s"] for row in full if row["backend"] == "floor"}
    assert len(floors) == 4
    for row in rows:
        assert row["samples_per_s"] > 0
        # Of a light cone most cells are not computed.
        cells = pytest.approx(row["samples_per_s"] * 27 * row["num_steps"]) if row["rollout"] == "full" else None
        assert row["cell_steps_per_s"] == cells
        assert row["samples_per_s_lower"] <= row["samples_per_s"] <= row["samples_per_s_upper"]
    for row in full:
        floor = floors[row["mode"], row["dtype"]] * 2 / row["num_steps"]
        assert row["floor_ratio"] == pytest.approx(row["samples_per_s"] / floor)
    ours = [row for row in full if row["backend"] in ("stencil", "scatter")]
    # Two backends in two modes; for the first one the other dtype, neighbourhood and batch in both, checkpoints in one;
    # and, beside a light cone as long, the rollout of three steps.
    assert len(ours) == 4 + 6 + 1 + 2
    cones = [(row["backend"], row["num_steps"], row["mode"]) for row in rows if row["rollout"] == "light cone"]
    assert sorted(cones) == [
        (name, steps, mode) for name in ("floor", "stencil") for steps in (2, 3) for mode in ("forward", "train")
    ]
    assert {row["backend"] for row in rows} == {"floor", "stencil", "scatter", "pyg", "conv3d", "python_loop"}
    assert "python_loop: measured on 64 cells, extrapolated by the number of cells" in printed
    assert any("stencil with 26 neighbours takes" in line for line in found["answers"])
    assert sum("x the full rollout" in line for line in found["answers"]) == 4
    assert [line.partition(":")[0] for line in found["answers"][-2:]] == ["forward", "train"]
    assert all("auto takes" in line for line in found["answers"][-2:])
    assert any("stencil with a checkpoint every 2 steps takes" in line for line in found["answers"])


def test_what_cannot_run_is_skipped_with_its_reason(capsys, tmp_path, monkeypatch) -> None:
    def build(setting: Setting, device: torch.device) -> None:
        raise ValueError("needs a GPU\nand more")

    monkeypatch.setattr(step, "library_contender", build)
    how = f"--steps 1 --rounds 1 --backends stencil --peers conv3d --cone-steps {PATIENT}"
    found, printed = bench(capsys, tmp_path, "step", *TINY, "--dtypes", "bfloat16", *how.split())
    assert {item["reason"] for item in found["skipped"]} == {"needs a GPU"}
    both = [f"stencil {mode} bfloat16 batch 1, 6 neighbours, 1 steps" for mode in ("train", "forward")]
    assert f"not measured: {'; '.join(both)}: needs a GPU" in printed
    assert "conv3d" in {row["backend"] for row in found["rows"]}


def test_nothing_measured_does_not_meet_what_is_required(capsys, tmp_path) -> None:
    how = "--budget 0 --require 0.9 --backends stencil scatter --modes forward"
    with pytest.raises(ValueError, match=r"not measured in forward: \['stencil', 'scatter'\]"):
        command.main(["step", *TINY, *how.split()])


def test_batch_names_the_best(capsys, tmp_path) -> None:
    found, printed = bench(
        capsys, tmp_path, "batch", *TINY, "--steps", "1", "--rounds", "1", "--batch", "8", "2", "--samples", "64"
    )
    assert [row["batch"] for row in found["rows"]] == [2, 8]
    assert [row["updates"] for row in found["rows"]] == [32, 8]
    assert all(-1 <= row["quality"] <= 1 for row in found["rows"])
    assert "best batch: " in printed


def test_the_best_batch_is_the_fastest_that_learns_as_much() -> None:
    rows = [
        {"batch": 1, "samples_per_s": 10.0, "quality": 0.50},
        {"batch": 8, "samples_per_s": 30.0, "quality": 0.49},
        {"batch": 64, "samples_per_s": 40.0, "quality": 0.30},
    ]
    said = batch.answer(rows, 100)
    assert said.startswith("best batch: 8 ")
    assert "fastest: 64" in said
    assert "learns most from a sample: 1 " in said


def test_batches_stop_before_memory_or_patience_end(monkeypatch) -> None:
    last = argparse.Namespace(setting=Setting("stencil", batch=4), peak_bytes=2**30, seconds=[3.0])
    monkeypatch.setattr(batch, "free_memory", lambda device: 10 * 2**30)
    cpu = torch.device("cpu")
    assert batch._too_much(last, 8, 60, cpu) == ""
    assert batch._too_much(last, 32, 60, cpu) == "would take 8.0 GiB of the 10.0 GiB free"
    assert "a call would take 6 s, more than the 5 s allowed" in batch._too_much(last, 8, 5, cpu)


def test_memory_is_attributed(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "in_fresh_process", lambda function, *arguments: function(*arguments))
    how = "--backend stencil --batch 2 --steps 6 --checkpoint 0 3"
    found, printed = bench(capsys, tmp_path, "memory", *TINY, *how.split())
    whole, kept = found["rows"]
    cell = GMLPCell(Lattice((3, 3, 3)))
    count = sum(parameter.numel() for parameter in cell.parameters())
    for row in (whole, kept):
        assert row["parameters_bytes"] == row["gradients_bytes"] == 4 * count
        # AdamW keeps two numbers a parameter, and a counter a tensor.
        assert 8 * count <= row["optimiser_bytes"] <= 8 * count + 8 * len(list(cell.parameters()))
    state = 2 * 27 * 64 * 4
    # Uncompiled, each of six steps leaves several states; checkpoints leave the starts of two chunks.
    assert whole["activations_bytes"] > 6 * 4 * state
    assert 2 * state <= kept["activations_bytes"] < whole["activations_bytes"] / 3
    assert "How much memory do I need?" in printed


def test_a_gpus_memory_is_not_taken_for_the_processes() -> None:
    peak = PeakMemory(torch.device("cuda"))
    peak.before, peak.bytes = 30 * 2**20, 40 * 2**20
    found = memory.whole(peak, 1500 * 2**20)
    assert found == {"allocated_bytes": 70 * 2**20}
    row = {"checkpoint": 0, "batch": 1, "num_steps": 2, "dtype": "float32", "activations_bytes": 2**21, **found}
    said = memory.answer([row])
    assert "0.07 GiB of the GPU's memory" in said
    assert "libraries" not in said


def test_scale_measures_both_series(capsys, tmp_path) -> None:
    found, printed = bench(
        capsys, tmp_path, "scale", *ANY_SHAPE, "--cells", "27", "125", "--steps", "1", "2", "--rounds", "1"
    )
    assert [(row["num_cells"], row["num_steps"]) for row in found["rows"]] == [(27, 2), (125, 2), (1000, 1), (1000, 2)]
    assert "time ~ cells^" in printed
    assert "time ~ steps^" in printed


def test_scale_measures_each_size_once_and_fits_nothing_to_one(capsys, tmp_path) -> None:
    """Cubes of 26 and 27 cells are one."""
    given = ("--cells", "26", "27", "27", "--steps", "1", "1", "--rounds", "1")
    found, printed = bench(capsys, tmp_path, "scale", *ANY_SHAPE, *given)
    assert [(row["num_cells"], row["num_steps"]) for row in found["rows"]] == [(27, 2), (1000, 1)]
    assert "~" not in printed
    row = {"series": "cells", "mode": "train", "num_cells": 27, "samples_per_s": 1.0, "peak_bytes": 1}
    assert list(scale.growth([row, row])) == []


def test_exponents_are_those_of_a_power_law() -> None:
    sizes = [10, 100, 1000, 10_000]
    assert scale.exponent(sizes, [3 * size**1.3 for size in sizes]) == pytest.approx(1.3)
    rows = [
        {"series": "cells", "mode": "train", "num_cells": n, "samples_per_s": n**-1.5, "peak_bytes": n**2}
        for n in sizes
    ]
    (said,) = scale.growth(rows)
    assert said == "train: time ~ cells^1.50, memory ~ cells^2.00 (fitted from 1,000 to 10,000 cells)"


def test_scale_stops_before_memory_or_patience_end(monkeypatch) -> None:
    monkeypatch.setattr(scale, "free_memory", lambda device: 10 * 2**30)
    last = {"num_cells": 1000, "num_steps": 2, "samples_per_s": 1.0, "peak_bytes": 2**30, "build_bytes": 0}
    cpu = torch.device("cpu")
    larger = Setting("stencil", (20, 20, 20), num_steps=2)
    assert scale._too_much(last, larger, 10, cpu) == "would take 8.0 GiB of the 10.0 GiB free"
    assert "a call would take 8 s" in scale._too_much(last, larger, 5, cpu)
    assert scale._too_much(None, larger, 5, cpu) == ""


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_keeps_what_was_measured(capsys, tmp_path, monkeypatch, signum: int, code: int) -> None:
    def run(options: argparse.Namespace, report: Report, device: torch.device) -> None:
        report.add(Setting("stencil"), seconds=[0.5])
        os.kill(os.getpid(), signum)

    monkeypatch.setattr(step, "run", run)
    with pytest.raises(SystemExit) as stopped:
        command.main(["step", "--json", str(tmp_path / "figures.json")])
    assert stopped.value.code == code
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["rows"][0]["samples_per_s"] == 4.0
    assert "interrupted" in found["answers"][0]


def test_an_interruption_before_any_figure_leaves_the_file_of_earlier_ones(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(step, "run", interrupt)
    (tmp_path / "figures.json").write_text("earlier")
    with pytest.raises(SystemExit):
        command.main(["step", "--json", str(tmp_path / "figures.json")])
    assert (tmp_path / "figures.json").read_text() == "earlier"
    assert "interrupted by Ctrl-C: nothing had been measured" in capsys.readouterr().out


def test_batches_that_were_measured_before_an_interruption_are_kept(capsys, tmp_path, monkeypatch) -> None:
    def build(setting: Setting, device: torch.device) -> Contender:
        return library_contender(setting, device) if setting.batch < 8 else interrupt()

    monkeypatch.setattr(batch, "library_contender", build)
    how = "--steps 1 --rounds 1 --batch 2 4 8 --backend stencil"
    found, printed = interrupted(capsys, tmp_path, "batch", *TINY, *how.split())
    assert [row["batch"] for row in found["rows"]] == [2, 4]
    assert all(row["samples_per_s"] > 0 for row in found["rows"])
    assert "interrupted by Ctrl-C: these are the figures up to there" in printed


def test_no_trial_begins_after_an_interruption(capsys, tmp_path, monkeypatch) -> None:
    tried: list[str] = []
    whole = step.Lineup.play

    def play(lineup: step.Lineup) -> None:
        whole(lineup)
        interrupt()

    monkeypatch.setattr(step.Lineup, "play", play)
    monkeypatch.setattr(step, "auto_ways", lambda base, modes, lineup: tried.extend(modes) or {})
    how = f"--steps 1 --rounds 1 --backends stencil --peers --cone-steps {PATIENT}"
    found, _ = interrupted(capsys, tmp_path, "step", *TINY, *how.split())
    assert tried == []
    assert "stencil" in {row["backend"] for row in found["rows"]}


@pytest.mark.parametrize("name", command.QUESTIONS)
def test_quick_changes_only_options_there_are(name: str) -> None:
    module = command.QUESTIONS[name]
    assert set(module.QUICK) <= set(module.DEFAULTS)
    options = command.parse([name, "--quick"])
    for option, value in (module.DEFAULTS | module.QUICK).items():
        assert getattr(options, option) == value


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["step", "--batch", "0"], "--batch must be at least 1, got 0"),
        (["step", "--json", "/no/such/folder/x.json"], "--json must name a file in a folder that exists"),
        (["step", "--device", "cuda"], "torch sees no GPU"),
        (["latency", "/no/such/run"], "/no/such/run is no folder of a finished run of questions and answers"),
        (["latency", "R", "--teacher", "lsa"], "a run has a teacher and a lattice of its own: expected no --teacher"),
        (["latency", "R", "--shape", "3", "3", "3", "--teacher", "lsa"], "expected no --teacher or --shape beside R"),
        (["latency", "R", "--dtypes", "bfloat16"], "unrecognized arguments: --dtypes bfloat16"),
        (["scale", "--shape", "3", "3", "3"], "unrecognized arguments: --shape 3 3 3"),
        (["speed"], "invalid choice: 'speed'"),
    ],
)
def test_errors_are_one_line(arguments: list[str], expected: str, tmp_path: Path) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run_inside(tmp_path, "bench", *arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert expected in done.stderr.strip().splitlines()[-1]
