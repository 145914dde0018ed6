"""The experiment from Python: dialogues with memory, fairness of the controls, and parts that do not fit."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.data import QAPair, Split
from cellgraph.experiment import Experiment
from cellgraph.retrieval import AdaptersAlone, LinearMLP, Objective, TrainSettings
from cellgraph.teacher import EmbeddingCache, LSATeacher

SETTINGS = TrainSettings(max_steps=6, batch_size=8, warmup_steps=1, val_every=3, ema=0.0, accelerator="cpu")


def dialogues(names: str, turns: int = 3) -> list[QAPair]:
    """Talks in which the answer depends on the turn."""
    return [
        QAPair(f"tell {name} more about {name} please", f"part {turn} of {name} story {turn}", dialogue=name, turn=turn)
        for name in names.split()
        for turn in range(turns)
    ]


def make(folder: Path, **options: object) -> Experiment:
    cell_options = {"hidden": 8, "heads": 2, "memory_channels": 2}
    model = functools.partial(
        lambda **o: CellGraph(GMLPCell(Lattice((2, 3, 3)), 6, **cell_options), **o), num_steps=2, surface_channels=2
    )
    parts: dict = {
        "teacher": LSATeacher(8, min_texts=1),
        "cache": EmbeddingCache(folder / "cache"),
        "model": model,
        "objective": Objective(internal=0.1, turn=1.0),
        "settings": SETTINGS,
    }
    return Experiment(folder / "run", **(parts | options))


def split() -> Split:
    return Split(
        train=dialogues("ant bee cow dog eel fox gnu hen ibis jay kiwi lynx"),
        validation=dialogues("mole newt owl"),
        test=dialogues("pig quail rat"),
    )


def test_dialogues_train_with_memory_and_turns(tmp_path: Path) -> None:
    job = make(tmp_path)
    evaluation = job.run(split)
    assert evaluation.pairs_train == 36
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/surface", "train/internal", "train/dialogue", "train/turn"} <= set(header)
    assert 0 < job.validation_mrr <= 1


def test_controls_learn_at_the_rates_of_the_network(tmp_path: Path) -> None:
    job = make(tmp_path, settings=replace(SETTINGS, lr_multipliers={"cell": 3.0, "answer_adapter.decoder": 0.1}))
    model = CellGraph(GMLPCell(Lattice((2, 3, 3)), 6, hidden=8), teacher_width=8, num_steps=2)
    adapters = model.question_adapter, model.answer_adapter
    assert job._control_settings(AdaptersAlone(*adapters)).lr_multipliers == {"answer_adapter.decoder": 0.1}
    mlp = LinearMLP(*adapters, hidden=4)
    multipliers = job._control_settings(mlp).lr_multipliers
    own = {name.split(".")[0] for name, _ in mlp.named_parameters()} - {"question_adapter", "answer_adapter"}
    assert multipliers == dict.fromkeys(sorted(own), 3.0) | {"answer_adapter.decoder": 0.1}
    assert job._control_settings(mlp).max_steps == SETTINGS.max_steps


def test_the_first_stage_trains_the_adapters_and_leaves_the_cell(tmp_path: Path) -> None:
    job = make(tmp_path, adapters_first={"max_steps": 4})
    pairs = split()
    embedded = job.embed(pairs)
    model = job._new_model(embedded["train"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert job._train_adapters(model, embedded) > 0
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(("question_adapter.encoder", "answer_adapter.decoder")) for name in changed)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.run(split)
    with pytest.raises(ValueError, match="holds a run already"):
        make(tmp_path).run(split)
