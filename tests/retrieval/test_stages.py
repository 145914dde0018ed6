"""What is trained beside a network: its settings, what of it is new, and which of several trials is kept."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from cellgraph import CellGraph, GMLPCell, Lattice, RunFolder
from cellgraph.retrieval import (
    AdaptersAlone,
    EmbeddedPairs,
    LinearMLP,
    PathAlone,
    QuestionAnswering,
    Retrieval,
    TrainSettings,
    standard_objective,
)
from cellgraph.retrieval.controls import with_frozen_cell, without_lateral_messages
from cellgraph.retrieval.stages import ADAPTERS_ALONE, FROZEN, LINEAR_MLP, NO_LATERAL, Stages
from cellgraph.teacher import LSATeacher
from cellgraph.training import Job

SETTINGS = TrainSettings(
    max_steps=6, batch_size=8, warmup_steps=1, val_every=3, ema=0.0, lr=1e-3, accelerator="cpu", compile=False,
    lr_multipliers={},
)  # fmt: skip


def network(**options: Any) -> CellGraph:
    cell = GMLPCell(Lattice((3, 3, 3)), 8, hidden=8, heads=2)
    return CellGraph(cell, in_features=8, num_steps=2, path="linear", **options)


def stages(folder: Path, settings: TrainSettings = SETTINGS, new: Any = network, **options: Any) -> Stages:
    generator = torch.Generator().manual_seed(0)
    question = torch.randn(60, 8, generator=generator)
    answer = question @ torch.randn(8, 8, generator=generator)
    parts = EmbeddedPairs(question[:40], answer[:40]), EmbeddedPairs(question[40:], answer[40:])

    def made() -> CellGraph:
        torch.manual_seed(0)
        model = new()
        model.fit_adapters(question[:40], answer[:40])
        return model

    job = Job(RunFolder(folder), settings, Console(file=io.StringIO()))
    task = Retrieval(standard_objective(), *parts)
    return Stages(task, job, made, **{"first": {}, "trials": {}, **options})


def test_baselines_learn_at_the_rates_of_the_network(tmp_path: Path) -> None:
    cell = GMLPCell(Lattice((2, 3, 3)), 8, hidden=8)
    model = CellGraph(cell, in_features=8, num_steps=2, path="none")
    adapters = model.question_adapter, model.answer_adapter
    told = stages(tmp_path, replace(SETTINGS, lr_multipliers={"cell": 3.0, "answer_adapter.decoder": 0.1}))
    assert told.settings(AdaptersAlone(*adapters), {}).lr_multipliers == {"answer_adapter.decoder": 0.1}
    mlp = LinearMLP(*adapters, hidden=4)
    own = {name.split(".")[0] for name, _ in mlp.named_parameters()} - {"question_adapter", "answer_adapter"}
    of_mlp = told.settings(mlp, {"lr": 0.5})
    assert of_mlp.lr_multipliers == dict.fromkeys(sorted(own), 3.0) | {"answer_adapter.decoder": 0.1}
    assert (of_mlp.max_steps, of_mlp.lr, of_mlp.compile) == (SETTINGS.max_steps, 0.5, False)
    # One with a lattice has the network's; what is frozen learns at no rate.
    assert told.settings(with_frozen_cell(model), {}) == told.job.settings
    # The path is the network's own, and learns at its rate.
    path, adapter = network().path, network().answer_adapter
    assert told.settings(PathAlone(path, adapter), {}).lr_multipliers == {"answer_adapter.decoder": 0.1}
    both = {"mlp": 3.0, "answer_adapter.decoder": 0.1}
    assert told.settings(PathAlone(path, adapter, hidden=3), {}).lr_multipliers == both
    # What is said of the objective, or of everything, is said of theirs.
    told = stages(tmp_path, replace(SETTINGS, lr_multipliers={"terms": 0.5, "": 2.0}))
    assert told.settings(mlp, {}).lr_multipliers == {"terms": 0.5, "": 2.0}


def test_the_best_of_the_trials_is_taken_and_each_is_trained_once(tmp_path: Path) -> None:
    trials = {"lr": [1e-6, 3e-2], "weight_decay": [0.0, 0.1]}
    _, found = stages(tmp_path, trials=trials).baselines()
    assert list(found) == [ADAPTERS_ALONE, LINEAR_MLP]
    for name, one in found.items():
        assert one.trials == 4
        folders = [folder for folder in RunFolder(tmp_path).stages() if folder.path.name.startswith(name)]
        assert len(folders) == 4
        alone = [
            stages(tmp_path, trials={"lr": [lr], "weight_decay": [decay]}).baselines()[1][name]
            for lr in trials["lr"]
            for decay in trials["weight_decay"]
        ]
        assert one.score == max(each.score for each in alone)
        assert one.score > alone[0].score  # the small rate learns nothing
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("training.json")}
    _, again = stages(tmp_path, trials=trials).baselines()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("training.json")} == written
    question = torch.randn(3, 8)
    for name in found:
        assert torch.equal(again[name].model(question).embedding, found[name].model(question).embedding)


def test_baselines_that_have_a_lattice(tmp_path: Path) -> None:
    _, found = stages(tmp_path, lattices=True).baselines()
    assert list(found) == [ADAPTERS_ALONE, LINEAR_MLP, FROZEN, NO_LATERAL]
    frozen, new = found[FROZEN].model, stages(tmp_path).new()
    assert isinstance(frozen, CellGraph)
    # Its cell is the new one's, but where that was zero; what is around it has learned.
    for (name, now), before in zip(frozen.cell.named_parameters(), new.cell.parameters(), strict=True):
        assert torch.equal(now, before) or not before.any(), name
    assert frozen.cell.out_weight.std() > 0.1
    assert not torch.equal(frozen.path.linear.weight, new.path.linear.weight)
    assert frozen.readout.weight.any()
    straight = found[NO_LATERAL].model
    assert isinstance(straight, CellGraph)
    assert straight.lattice.num_directions == 2


def test_without_lateral_messages_a_cell_hears_its_column_alone() -> None:
    model = without_lateral_messages(network())
    torch.nn.init.normal_(model.cell.out_weight)
    torch.nn.init.normal_(model.cell.gate_weight)
    x = torch.randn(1, 27, 8, requires_grad=True)
    for _ in range(3):
        y = model.cell(x)
    node = 26
    y = model.cell(model.cell(x))
    (grad,) = torch.autograd.grad(y[0, node].sum(), x)
    heard = set(grad[0].abs().sum(-1).nonzero().flatten().tolist())
    assert heard == {8, 17, 26}


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        ({"lr": 0.1}, "control_trials must be lists of values by the name of a setting, got {'lr': 0.1}"),
        ({"lr": []}, "control_trials must be lists"),
        ({"rate": [1.0]}, "control_trials must be settings of training, got 'rate'"),
        ({"lr": [1.0, -1.0]}, "control_trials: training setting lr must be positive, got -1.0"),
    ],
)
def test_trials_that_are_none_are_refused(trials: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        QuestionAnswering(lambda: None, LSATeacher(8), standard_objective(), control_trials=trials)  # type: ignore[arg-type]
