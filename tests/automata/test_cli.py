"""The verb `cellgraph automaton`, in a process of its own: a whole run and its files, resumed, and mistakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from processes import run, run_inside
from safetensors.torch import load_file

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
