"""The experiment from Python: dialogues with memory, fairness of the controls, and parts that do not fit."""

from __future__ import annotations

import functools
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cellgraph import CellGraph, GMLPCell, Lattice, RunFolder
from cellgraph.data import QAPair, Split
from cellgraph.retrieval import LinearMLP, QuestionAnswering, TrainSettings, controls, stages, standard_objective
from cellgraph.runs import Experiment
from cellgraph.teacher import EmbeddingCache, LSATeacher
from cellgraph.training import Interrupted, read_checkpoint, train

SETTINGS = TrainSettings(
    max_steps=6, batch_size=8, warmup_steps=1, val_every=3, lr=1e-3, noise=0.0, compile=False, accelerator="cpu"
)


def dialogues(names: str, turns: int = 3) -> list[QAPair]:
    """Talks in which the answer depends on the turn."""
    return [
        QAPair(f"tell {name} more about {name} please", f"part {turn} of {name} story {turn}", dialogue=name, turn=turn)
        for name in names.split()
        for turn in range(turns)
    ]


def make(folder: Path, *, settings: TrainSettings = SETTINGS, **options: object) -> Experiment:
    torch.manual_seed(0)
    cell_options = {"hidden": 8, "heads": 2, "memory_channels": 2}
    model = functools.partial(
        CellGraph, GMLPCell(Lattice((2, 3, 3)), 6, **cell_options), num_steps=2, surface_channels=2
    )
    task = QuestionAnswering(
        split,
        LSATeacher(8, min_texts=1),
        standard_objective(internal=0.1, turn=1.0),
        cache=EmbeddingCache(folder / "cache"),
        **{"adapters_first": {}, **options},
    )
    return Experiment(RunFolder(folder / "run"), task, model, settings)


def split() -> Split:
    return Split(
        train=dialogues("ant bee cow dog eel fox gnu hen ibis jay kiwi lynx"),
        validation=dialogues("mole newt owl"),
        # Of words that the teacher knows, each its own way.
        test=dialogues("ant-bee cow-dog-eel fox-gnu-hen-ibis"),
    )


def timeless(rows: list[dict]) -> list[dict]:
    """Rows of a table without the time that training took."""
    return [{name: value for name, value in row.items() if name != "seconds_train"} for row in rows]


def test_dialogues_train_with_memory_and_turns(tmp_path: Path) -> None:
    experiment = make(tmp_path)
    evaluation = experiment.run()
    assert evaluation.pairs_train == 36
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/surface", "train/internal", "train/dialogue", "train/turn"} <= set(header)
    assert 0 < experiment.score <= 1


def test_the_first_stage_trains_the_adapters_and_leaves_the_cell(tmp_path: Path) -> None:
    def built(**options: object) -> CellGraph:
        experiment = make(tmp_path / str(options), **options)
        job = experiment._job("")
        experiment.task.prepare(job)
        model = experiment.task.build(experiment.model, job)
        assert isinstance(model, CellGraph)
        return model

    before, after = built().state_dict(), built(adapters_first={"max_steps": 4}).state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(("question_adapter.encoder", "answer_adapter.decoder")) for name in changed)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    make(tmp_path).run()
    with pytest.raises(ValueError, match="holds a run already"):
        make(tmp_path).run()


def test_the_table_says_of_how_many_settings_a_row_is_the_best(tmp_path: Path) -> None:
    trials = {"lr": [1e-3, 3e-3], "mlp": {"hidden": [2, 4], "layers": [2]}}
    rows = {row["name"]: row for row in make(tmp_path, control_trials=trials).run().rows}
    assert list(rows)[-4:] == ["adapters alone", "linear + MLP", "best MLP", "lattice"]
    assert [rows[name]["trials"] for name in list(rows)[-4:]] == [2, 2, 4, 1]
    assert all(row["seconds_train"] > 0 for name, row in rows.items() if name in list(rows)[-4:])
    assert rows["adapters alone"]["parameters"] < rows["best MLP"]["parameters"] != rows["linear + MLP"]["parameters"]


def test_what_stands_beside_the_network_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"adapters_first": {"max_steps": 4}}
    trained: list[object] = []

    def counted(model: object, *args: object, **options: object) -> object:
        trained.append(type(model).__name__)
        return train(model, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(stages, "train", counted)
    experiment = make(tmp_path, **first)
    table = experiment.run()
    # The first stage, and the two trained baselines, which start from where it ends.
    assert trained == ["AdaptersAlone", "AdaptersAlone", "LinearMLP"]
    again = make(tmp_path, **first).evaluate()
    assert len(trained) == 3
    assert timeless(again.rows) == timeless(table.rows)
    assert again.rows[-1]["seconds_train"] == pytest.approx(table.rows[-1]["seconds_train"], abs=1e-3)
    # With other settings they are others.
    other = make(tmp_path, settings=replace(SETTINGS, weight_decay=0.5), **first).evaluate()
    assert len(trained) == 6
    same = [row == before for row, before in zip(timeless(other.rows), timeless(table.rows), strict=True)]
    assert same == [True] * 8 + [False, False, True]


def test_baselines_of_a_folder_that_lacks_some_are_the_same(tmp_path: Path) -> None:
    first = {"adapters_first": {"max_steps": 4}}
    table = make(tmp_path, **first).run()
    for lost in ("first", "adapters alone", "linear + MLP"):
        shutil.rmtree(tmp_path / "run" / "stages" / lost)
        assert timeless(make(tmp_path, **first).evaluate().rows) == timeless(table.rows)


def test_a_linear_path_with_all_controls_at_the_rates_that_are_set_by_default(tmp_path: Path) -> None:
    settings = replace(SETTINGS, lr_multipliers=TrainSettings().lr_multipliers)
    experiment = make(tmp_path, settings=settings, lattice_controls=True)
    experiment.model = functools.partial(experiment.model, path="linear")
    table = experiment.run()
    names = [row["name"] for row in table.rows]
    assert names[-5:] == ["adapters alone", "linear + MLP", "cell frozen at random", "no lateral messages", "lattice"]
    assert timeless(experiment.evaluate().rows) == timeless(table.rows)


def test_controls_that_cannot_be_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    experiment = make(tmp_path, lattice_controls=True)
    experiment.model = functools.partial(experiment.model, output_nodes="front")
    with pytest.raises(ValueError, match="no one direction leads from the input to the output surface"):
        experiment.run()
    assert not (tmp_path / "run" / "pairs").exists()


def test_a_stopped_baseline_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(tmp_path / "whole").run()
    steps = []

    class Stop(LinearMLP):
        def transform(self, surface: torch.Tensor) -> torch.Tensor:
            if self.training:
                steps.append(1)
                if len(steps) == 4:
                    signal.raise_signal(signal.SIGTERM)
            return super().transform(surface)

    monkeypatch.setattr(controls, "LinearMLP", Stop)
    with pytest.raises(Interrupted) as caught:
        make(tmp_path / "stopped").run()
    assert caught.value.code == 143
    stage = RunFolder(tmp_path / "stopped" / "run").stage("linear + MLP")
    # The fourth of the turns, three for each update.
    assert read_checkpoint(stage.last)["global_step"] == 2
    table = make(tmp_path / "stopped").evaluate()
    assert len(steps) == 6 * 3
    assert timeless(table.rows) == timeless(whole.rows)
