"""The verb `cellgraph automaton`, in a process of its own: a whole run and its files, resumed, and mistakes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from generators import states_after
from processes import run, run_inside
from rich.console import Console
from safetensors.torch import load_file

from cellgraph import RunFolder, load
from cellgraph.configuration import read_config
from cellgraph.runs import build_experiment
from cellgraph.training import Job

FAST = ("experiment=majority", "task.width=9", "training.max_steps=6", "training.batch_size=4", "training.val_every=3")
SMALL = ("cell.channels=4", "update.hidden=8", "training.num_steps=[3,5]", "pool=persistent", "pool.size=8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("automaton")
    done = run(folder, "automaton", *FAST, *SMALL, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout


def test_a_run_trains_judges_and_draws(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    for name in ("config.yaml", "loss.png", "majority.png", "checkpoints/last.ckpt"):
        assert (folder / name).stat().st_size > 0
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert set(evaluation["held_out"]) == {"accuracy", "cell_accuracy", "accuracy_later"}
    assert evaluation["training"]["updates"] == 6
    assert "accuracy_later" in printed
    assert str(folder.name) in printed.replace("\n", "")
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["step"] for row in rows if row["val/loss"]] == ["3", "6"]
    weights = load_file(folder / "automaton.safetensors")
    assert weights["cell.updating.inner.weight"].size(0) == 8
    assert (
        sum(tensor.numel() for name, tensor in weights.items() if name.startswith("cell."))
        >= (evaluation["training"]["parameters"])
    )


def test_a_finished_run_is_judged_again(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    before = (folder / "automaton.safetensors").read_bytes()
    figures = json.loads((folder / "evaluation.json").read_text())["held_out"]
    done = run_inside(folder.parent, "automaton", "resume=run")
    assert done.returncode == 0, done.stderr
    assert (folder / "automaton.safetensors").read_bytes() == before
    assert json.loads((folder / "evaluation.json").read_text())["held_out"] == figures


def test_training_begins_with_another_runs_weights(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    config = read_config(RunFolder(folder)) | {"seed": 7}
    weights = load_file(folder / "automaton.safetensors")
    for begun in (None, str(folder)):
        experiment = build_experiment(config | {"weights_from": begun}, tmp_path)
        job = Job(experiment.folder, experiment.settings, Console(quiet=True))
        model = experiment.task.build(experiment.model, job)
        assert model.training
        same = [torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items()]
        assert all(same) == (begun is not None)
    experiment = build_experiment(config | {"weights_from": str(tmp_path / "none")}, tmp_path)
    with pytest.raises(ValueError, match="holds no trained automaton"):
        experiment.task.build(experiment.model, job)
    # It goes on from its own checkpoint, whatever became of the other run.
    experiment.folder.last.parent.mkdir()
    experiment.folder.last.touch()
    experiment.task.build(experiment.model, job)
    with pytest.raises(ValueError, match=r"weights_from must be a builtins\.str, got 5"):
        build_experiment(config | {"weights_from": 5}, tmp_path)


def test_a_run_goes_on_where_the_run_that_it_began_with_is_gone(finished: tuple[Path, str], tmp_path: Path) -> None:
    for name in ("digits", "elsewhere"):
        (tmp_path / name).mkdir()
    shutil.copytree(finished[0], tmp_path / "digits" / "1")
    begun = run_inside(
        tmp_path, "automaton", *FAST, *SMALL, "hydra.run.dir=run", "seed=1", "weights_from='digits/${seed}'"
    )
    assert begun.returncode == 0, begun.stderr
    folder = tmp_path / "run"
    # From another directory it is the same run.
    assert read_config(RunFolder(folder))["weights_from"] == str(tmp_path / "digits" / "1")
    weights, figures = (folder / "automaton.safetensors").read_bytes(), (folder / "evaluation.json").read_text()
    shutil.rmtree(tmp_path / "digits")
    done = run_inside(tmp_path / "elsewhere", "automaton", f"resume={folder}")
    assert done.returncode == 0, done.stderr
    assert (folder / "automaton.safetensors").read_bytes() == weights
    assert json.loads((folder / "evaluation.json").read_text())["held_out"] == json.loads(figures)["held_out"]
    # What has no checkpoint yet begins with the other run's still.
    shutil.rmtree(folder / "checkpoints")
    done = run_inside(tmp_path, "automaton", "resume=run")
    assert f"{tmp_path}/digits/1 holds no trained automaton" in done.stderr


def test_a_run_is_exported_and_the_program_is_the_automaton(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    done = run_inside(folder.parent, "export", "run", "--torch", "cells.pt2")
    assert done.returncode == 0, done.stderr
    assert "state -> next_state, differs by at most " in done.stdout
    before = states_after(77)
    automaton = load(folder)
    assert states_after() == before
    x = automaton.task.sample(3, torch.Generator().manual_seed(5)).x
    (found,) = torch.export.load(folder.parent / "cells.pt2").module()(x)
    # The most steps of training.
    torch.testing.assert_close(found, automaton(x, num_steps=5).x, rtol=1e-5, atol=1e-5)


def test_a_run_is_reported_with_its_pictures_and_figures(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    done = run_inside(folder.parent, "report", "run", "--quick")
    assert (done.returncode, done.stdout) == (0, "the report is run/report/report.html\n"), done.stderr
    figures = json.loads((folder / "report" / "report.json").read_text())
    assert figures["held_out"] == json.loads((folder / "evaluation.json").read_text())["held_out"]
    assert figures["pictures"] == ["majority.png"]
    assert (folder / "report" / "majority.png").read_bytes() == (folder / "majority.png").read_bytes()
    assert set(figures["parameters"]) == {name for name, _ in load(folder).named_parameters()}
    assert "majority.png" in (folder / "report" / "report.html").read_text()


def test_figures_that_cannot_be_written_are_shown(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "run"))
    (folder / "evaluation.json").unlink()
    (folder / "evaluation.json").mkdir()
    done = run_inside(tmp_path, "evaluate", "run")
    assert "accuracy_later" in done.stdout
    assert done.stderr == "cellgraph evaluate: [Errno 21] Is a directory: 'run/evaluation.json'\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--torch", "in"], "expected a file to write, got in: it is a folder"),
        (["--onnx", "in"], "expected a file to write, got in: it is a folder"),
        (["--torch", "a", "--onnx", "in/../a"], "--onnx and --torch are two files, got in/../a for both"),
    ],
)
def test_files_that_cannot_be_are_refused_before_an_export(
    finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("export_onnx", "export_torch"):
        monkeypatch.setattr(f"cellgraph.cli.export.{name}", None)
    done = run_inside(tmp_path, "export", finished[0], *arguments)
    assert done.stderr == f"cellgraph export: {message}\n"


def test_a_sweep_trains_each_and_its_folder_is_not_taken_twice(tmp_path: Path) -> None:
    sweep = ("automaton", "-m", *FAST, *SMALL, "hydra.sweep.dir=sweep", "seed=0,1")
    done = run_inside(tmp_path, *sweep)
    assert done.returncode == 0, done.stderr
    weights = [load_file(tmp_path / "sweep" / job / "automaton.safetensors") for job in ("0", "1")]
    name = "cell.updating.inner.weight"
    assert not weights[0][name].equal(weights[1][name])
    alone = run_inside(tmp_path, "automaton", *FAST, *SMALL, "hydra.run.dir=alone", "seed=1")
    assert alone.returncode == 0, alone.stderr
    assert load_file(tmp_path / "alone" / "automaton.safetensors")[name].equal(weights[1][name])

    before = {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*") if path.is_file()}
    again = run_inside(tmp_path, *sweep, "task.width=7")
    assert again.returncode == 1
    assert again.stderr == "cellgraph automaton: sweep holds a sweep already: choose another folder\n"
    assert {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_sweeps_that_start_in_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    # As if the name were the second's: it is none of the command line's.
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    named = "# @package _global_\ndefaults: [majority]\nhydra: {sweep: {dir: now}}\n"
    (tmp_path / "conf" / "experiment" / "named.yaml").write_text(named)
    for _ in range(2):
        sweep = ("-m", "experiment=named", *FAST[1:], *SMALL, "training.max_steps=1", "training.val_every=1", "seed=0")
        done = run_inside(tmp_path, "automaton", "--config-dir=conf", *sweep)
        assert done.returncode == 0, done.stderr
    places = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("automaton.safetensors"))
    assert places == ["now-2/0/automaton.safetensors", "now/0/automaton.safetensors"]
    assert (tmp_path / "now-2" / "multirun.yaml").stat().st_size > 0


@pytest.mark.slow
def test_two_processes_do_not_go_on_with_one_run(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    with RunFolder(folder).locked():
        done = run(folder.parent, "automaton", "resume=run")
    assert (done.returncode, done.stdout) == (1, "")
    where = f"process {os.getpid()} on {socket.gethostname()}"
    assert done.stderr == f"cellgraph automaton: {folder} is in use by {where}: wait for it, or stop it\n"
