"""What is trained beside a network: its settings, what of it is new, and which of several trials is kept."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from cellgraph import CellGraph, GMLPCell, Lattice, RunFolder
from cellgraph.retrieval import (
    AdaptersAlone,
    Control,
    EmbeddedPairs,
    LinearMLP,
    MemoryBank,
    Objective,
    PathAlone,
    QuestionAnswering,
    Retrieval,
    TrainSettings,
    standard_objective,
)
from cellgraph.retrieval.perceptron import ResidualPerceptron
from cellgraph.retrieval.stages import ADAPTERS_ALONE, BEST_MLP, FROZEN, LINEAR_MLP, NO_LATERAL, Stages
from cellgraph.retrieval.trials import Trials, TrialSettings
from cellgraph.retrieval.twins import with_frozen_cell, with_perceptron, without_lateral_messages
from cellgraph.teacher import LSATeacher
from cellgraph.training import Job

SETTINGS = TrainSettings(
    max_steps=6, batch_size=8, warmup_steps=1, val_every=3, ema=0.0, lr=1e-3, accelerator="cpu", compile=False,
    lr_multipliers={},
)  # fmt: skip


def network(**options: Any) -> CellGraph:
    cell = GMLPCell(Lattice((3, 3, 3)), 8, hidden=8, heads=2)
    return CellGraph(cell, in_features=8, num_steps=2, path="linear", **options)


def stages(
    folder: Path,
    settings: TrainSettings = SETTINGS,
    new: Any = network,
    *,
    trials: Any = None,
    bent: bool = False,
    **options: Any,
) -> Stages:
    generator = torch.Generator().manual_seed(0)
    question = torch.randn(600 if bent else 60, 8, generator=generator)
    answer = question @ torch.randn(8, 8, generator=generator)
    answer = answer.abs() if bent else answer
    parts = EmbeddedPairs(question[:-20], answer[:-20]), EmbeddedPairs(question[-20:], answer[-20:])

    def made() -> CellGraph:
        torch.manual_seed(0)
        model = new()
        model.fit_adapters(question[:-20], answer[:-20])
        return model

    job = Job(RunFolder(folder), settings, Console(file=io.StringIO()))
    task = Retrieval(standard_objective(), *parts)
    return Stages(task, job, made, trials=Trials(trials or {}), **{"first": {}, **options})


def test_baselines_learn_at_the_rates_of_the_network(tmp_path: Path) -> None:
    cell = GMLPCell(Lattice((2, 3, 3)), 8, hidden=8)
    model = CellGraph(cell, in_features=8, num_steps=2, path="none")
    adapters = model.question_adapter, model.answer_adapter
    told = stages(tmp_path, replace(SETTINGS, lr_multipliers={"cell": 3.0, "answer_adapter.decoder": 0.1}))
    assert told.settings(AdaptersAlone(*adapters), TrialSettings()).lr_multipliers == {"answer_adapter.decoder": 0.1}
    mlp = LinearMLP(*adapters, hidden=4)
    own = {name.split(".")[0] for name, _ in mlp.named_parameters()} - {"question_adapter", "answer_adapter"}
    of_mlp = told.settings(mlp, TrialSettings({"lr": 0.5}))
    assert of_mlp.lr_multipliers == dict.fromkeys(sorted(own), 3.0) | {"answer_adapter.decoder": 0.1}
    assert (of_mlp.max_steps, of_mlp.lr, of_mlp.compile) == (SETTINGS.max_steps, 0.5, False)
    # One with a lattice has the network's; what is frozen learns at no rate.
    assert told.settings(with_frozen_cell(model), TrialSettings()) == told.job.settings
    # The path is the network's own, and learns at its rate.
    path, adapter = network().path, network().answer_adapter
    assert told.settings(PathAlone(path, adapter), TrialSettings()).lr_multipliers == {"answer_adapter.decoder": 0.1}
    both = {"mlp": 3.0, "answer_adapter.decoder": 0.1}
    assert told.settings(PathAlone(path, adapter, hidden=3), TrialSettings()).lr_multipliers == both
    # What is said of a part of the cell, or of what reads it off, is said of nothing in the cell's place.
    for given, wanted in (
        ({"cell.transport": 0.0}, {}),
        ({"cell.position": 0.0, "cell": 3.0}, {"mlp": 3.0}),
        ({"readout": 0.0}, {}),
        ({"cell": 1.0, "readout": 0.02}, {"mlp": 1.0}),
        ({"readout": 0.02, "cell": 1.0}, {"mlp": 1.0}),
        ({"cell": 3.0, "ce": 1.0}, {"mlp": 3.0}),
        ({"blocks": 2.0}, {"mlp": 2.0}),
    ):
        told = stages(tmp_path, replace(SETTINGS, lr_multipliers=given))
        assert told.settings(with_perceptron(network()), TrialSettings()).lr_multipliers == wanted
    # What is said of the objective, or of everything, is said of theirs.
    told = stages(tmp_path, replace(SETTINGS, lr_multipliers={"terms": 0.5, "": 2.0}))
    assert told.settings(mlp, TrialSettings()).lr_multipliers == {"terms": 0.5, "": 2.0}


@pytest.mark.parametrize("part", ["cell.transport", "cell.position", "readout"])
def test_a_perceptron_learns_beside_a_network_of_which_a_part_is_frozen(tmp_path: Path, part: str) -> None:
    _, found = stages(tmp_path, replace(SETTINGS, lr_multipliers={part: 0.0})).baselines()
    before = dict(with_perceptron(network()).mlp.named_parameters())
    after = dict(found[LINEAR_MLP].model.mlp.named_parameters())
    assert any(not before[name].any() and after[name].any() for name in before)


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


@pytest.mark.slow
def test_the_best_perceptron_is_one_of_those_that_were_tried(tmp_path: Path) -> None:
    trials = {"lr": [1e-6, 1e-2], "mlp": {"hidden": [2, 300], "layers": [2]}}
    # What no linear map can do.
    options: dict[str, Any] = {"bent": True, "settings": replace(SETTINGS, max_steps=60, batch_size=64)}
    told = stages(tmp_path, trials=trials, **options)
    _, found = told.baselines()
    assert list(found) == [ADAPTERS_ALONE, LINEAR_MLP, BEST_MLP]
    assert [one.trials for one in found.values()] == [2, 2, 2 + 4]
    best = found[BEST_MLP]
    scores = {}
    for number, trial in enumerate(Trials(trials).of_perceptron):
        assert (tmp_path / "stages" / f"{BEST_MLP}, {trial}").is_dir()
        if trial.training["lr"] != 1e-2:  # the small rate learns nothing
            continue
        # Alone in a folder it ends where it ended among the others.
        given = {"lr": [trial.training["lr"]], "mlp": {key: [value] for key, value in trial.mlp.items()}}
        stages(tmp_path / str(number), trials=given, **options).baselines()
        alone, among = (RunFolder(place).stage(f"{BEST_MLP}, {trial}") for place in (tmp_path / str(number), tmp_path))
        weights = [(stage.model / "model.safetensors").read_bytes() for stage in (alone, among)]
        assert weights[0] == weights[1]
        scores[str(trial)] = json.loads(among.training.read_text())["val/mrr"]
    assert best.score == max(scores.values()) > found[LINEAR_MLP].score > found[ADAPTERS_ALONE].score
    assert scores[str(best.trial)] == best.score
    assert best.trial == TrialSettings({"lr": 1e-2}, mlp={"hidden": 300, "layers": 2})  # two units learn little
    assert best.model.parameter_counts()["mlp"] == 2 * (2 * 8 * 300 + 300 + 8 + 2 * 8)
    told_best = f"best MLP: the best of 6 by validation has {best.trial}\n"
    assert told_best in told.job.console.file.getvalue()  # type: ignore[attr-defined]
    # Of equal size it is where nothing is said of its width.
    wanted = found[LINEAR_MLP].model.parameter_counts()["mlp"]
    other = stages(tmp_path / "other", trials={"mlp": {"dropout": [0.5]}}).baselines()[1]
    assert other[BEST_MLP].model.parameter_counts()["mlp"] == wanted
    assert other[BEST_MLP].trials == 2
    # Where none of the sizes is better than the equal one, it is this.
    worse = stages(tmp_path / "worse", trials={"mlp": {"hidden": [1], "dropout": [0.9]}}).baselines()[1]
    assert worse[BEST_MLP].score == worse[LINEAR_MLP].score
    assert worse[BEST_MLP].model.parameter_counts() == worse[LINEAR_MLP].model.parameter_counts()


def test_baselines_are_tried_at_temperatures(tmp_path: Path) -> None:
    trials = {"objective": {"temperature": [0.02, 1.0]}}
    _, found = stages(tmp_path, trials=trials).baselines()
    assert [one.trials for one in found.values()] == [2, 2]
    ends = {}
    for stage in RunFolder(tmp_path).stages():
        rows = list(csv.DictReader(stage.metrics.open()))
        ends[stage.path.name] = float(next(row["train/temperature"] for row in rows if row["train/temperature"]))
    # They are learned from there.
    for name in (ADAPTERS_ALONE, LINEAR_MLP):
        assert ends[f"{name}, objective.temperature=0.02"] == pytest.approx(0.02, rel=0.1)
        assert ends[f"{name}, objective.temperature=1.0"] == pytest.approx(1.0, rel=0.1)
    # The temperature of one is not that of the next.
    assert stages(tmp_path / "as told").task.objective.readings()["temperature"] == pytest.approx(0.07)


def test_a_temperature_is_that_of_all_comparisons_of_a_copy() -> None:
    objective = standard_objective(turn=0.5, temperature=0.05)
    other = objective.with_temperature(0.5)
    for told, temperature in ((objective, 0.05), (other, 0.5)):
        banks = {id(part) for part in told.modules() if isinstance(part, MemoryBank)}
        assert len(banks) == 1
        assert told.readings()["temperature"] == pytest.approx(temperature)
    assert other.functions["dialogue"] is other.terms["dialogue"]
    with pytest.raises(ValueError, match=r"temperature must be at least 0\.01, got 0\.001"):
        objective.with_temperature(0.001)


def test_what_perceptrons_add_is_their_formula() -> None:
    torch.manual_seed(0)
    told = ResidualPerceptron(6, hidden=5, layers=2, dropout=0.4)
    x = torch.randn(3, 6)
    assert torch.equal(told(x), torch.zeros(3, 6))
    for parameter in told.parameters():
        torch.nn.init.normal_(parameter)
    weights = [parameter.detach().double() for parameter in told.parameters()]
    y = x.double()
    for scale, shift, w1, b1, w2, b2 in (weights[:6], weights[6:]):
        h = (y - y.mean(1, keepdim=True)) / (y.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt() * scale + shift
        z = h @ w1.T + b1
        y = y + z * 0.5 * (1 + torch.erf(z / 2**0.5)) @ w2.T + b2
    torch.testing.assert_close(told.eval()(x).double(), y - x.double(), atol=1e-4, rtol=1e-4)


def test_hidden_units_are_left_out_in_training_alone() -> None:
    torch.manual_seed(0)
    told = ResidualPerceptron(3, hidden=4, dropout=0.3)
    for parameter in told.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.constant_(told[1].bias, 2.0)  # all units speak
    x = torch.randn(1, 3).expand(20_000, 3)
    some, whole = told.train()(x), told.eval()(x[:1])
    # Each of the four units is there or not.
    assert len(set(some[:, 0].detach().numpy().round(4).tolist())) == 2**4
    torch.testing.assert_close(some.mean(0, keepdim=True), whole, atol=0.05, rtol=0.05)


def test_a_perceptron_that_an_earlier_version_saved_is_read(tmp_path: Path) -> None:
    path, adapter = network().path, network().answer_adapter
    now = PathAlone(path, adapter, hidden=3)
    now.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["layers"], config["dropout"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert {"mlp.0.weight", "mlp.1.weight", "mlp.3.weight"} <= now.state_dict().keys()
    question = torch.randn(4, 8)
    assert torch.equal(Control.from_pretrained(tmp_path)(question).embedding, now(question).embedding)
    deeper = PathAlone(path, adapter, hidden=3, layers=2, dropout=0.5).eval()
    torch.nn.init.normal_(deeper.mlp[-1].weight)
    deeper.save_pretrained(tmp_path)
    assert torch.equal(Control.from_pretrained(tmp_path)(question).embedding, deeper(question).embedding)


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
        (
            {"rate": [1.0]},
            "control_trials must be settings of training, or under mlp hidden, layers, dropout, or under ",
        ),
        ({"mlp.hidden": [8]}, ".* under objective temperature; got 'mlp.hidden'"),
        ({"mlp": {"width": [8]}}, ".* got 'mlp.width'"),
        ({"mlp": [8]}, ".* got 'mlp'"),
        ({"mlp": {"hidden": 8}}, "control_trials must be lists of values by the name of a setting"),
        ({"mlp": {"hidden": [0]}}, "control_trials.mlp: hidden must be positive, got 0"),
        ({"mlp": {"hidden": [1.5]}}, "control_trials.mlp: hidden must be an integer, got 1.5"),
        ({"mlp": {"dropout": [1.0]}}, r"control_trials.mlp: dropout must be in \[0, 1\), got 1.0"),
        ({"objective": {"temperature": [0.001]}}, "control_trials.objective: temperature must be at least 0.01"),
        ({"objective": {"surface": [0.1]}}, ".* got 'objective.surface'"),
        ({"max_steps": [5, 0]}, "control_trials: training setting max_steps must be positive, got 0"),
        ({"lr": [1.0, -1.0]}, "control_trials: training setting lr must be positive, got -1.0"),
    ],
)
def test_trials_that_are_none_are_refused(trials: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        QuestionAnswering(lambda: None, LSATeacher(8), standard_objective(), control_trials=trials)  # type: ignore[arg-type]


def test_temperatures_need_an_objective_that_has_one() -> None:
    objective = Objective([("nearness", lambda predicted: predicted.embedding.square().mean(), 1.0)])
    trials = {"objective": {"temperature": [0.1]}}
    with pytest.raises(ValueError, match=r"^control_trials\.objective\.temperature: the objective has none"):
        QuestionAnswering(lambda: None, LSATeacher(8), objective, control_trials=trials)  # type: ignore[arg-type]


def test_a_start_that_is_not_to_be_had_is_refused_before_anything_is_embedded() -> None:
    def make(in_features: int, **options: Any) -> CellGraph:
        return CellGraph(GMLPCell(Lattice((3, 4, 4)), 8, hidden=8), in_features=in_features, num_steps=4, **options)

    def checked(start: str, **options: Any) -> None:
        task = QuestionAnswering(lambda: None, LSATeacher(8), standard_objective(), start=start)  # type: ignore[arg-type]
        task.check(lambda in_features: make(in_features, **options), TrainSettings(max_steps=2))

    checked("ridge")
    checked("ridge", path="none")
    with pytest.raises(ValueError, match="got 'rigde'"):
        checked("rigde")
    with pytest.raises(ValueError, match="start='ridge' sets the path or a linear adapter, got path='none' and a Auto"):
        checked("ridge", path="none", adapter="autoencoder")
