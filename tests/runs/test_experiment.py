"""The experiment from Python: dialogues with memory, fairness of the controls, and parts that do not fit."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, zscore
from sklearn.metrics.pairwise import cosine_similarity

from cellgraph import CellGraph, GMLPCell, Lattice, RunFolder
from cellgraph.data import QAPair, Split
from cellgraph.retrieval import PathAlone, QuestionAnswering, TrainSettings, stages, standard_objective, twins
from cellgraph.retrieval.blend import WEIGHTS
from cellgraph.retrieval.lexical import BM25
from cellgraph.runs import Experiment
from cellgraph.teacher import EmbeddingCache, LSATeacher, load_teacher
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
    assert all(name.startswith("path.") for name in changed)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    make(tmp_path).run()
    with pytest.raises(ValueError, match="holds a run already"):
        make(tmp_path).run()


def test_the_table_says_of_how_many_settings_a_row_is_the_best(tmp_path: Path) -> None:
    trials = {"lr": [1e-3, 3e-3], "mlp": {"hidden": [2, 4], "layers": [2]}}
    rows = {row["name"]: row for row in make(tmp_path, control_trials=trials).run().rows}
    assert list(rows)[-4:] == ["adapters alone", "linear + MLP", "best MLP", "lattice"]
    assert [rows[name]["trials"] for name in list(rows)[-4:]] == [2, 2, 6, 1]
    assert all(row["seconds_train"] > 0 for name, row in rows.items() if name in list(rows)[-4:])
    assert rows["adapters alone"]["parameters"] < rows["best MLP"]["parameters"]


def test_network_and_words_together_are_weighed_on_the_validation_pairs(tmp_path: Path) -> None:
    rng, words = np.random.default_rng(0), [f"{a}{b}o" for a in "bdfklmn" for b in "aeu"]
    asked = []
    for _ in range(90):
        first, second, third, fourth = rng.choice(words, 4, replace=False)
        asked.append(QAPair(f"{first} {second} {third}", f"{second} {third} {fourth}"))
    pairs = Split(train=asked[:30], validation=asked[30:60], test=asked[60:])
    experiment = make(tmp_path)
    experiment.task.split = lambda: pairs
    table = experiment.run()
    network = CellGraph.from_pretrained(tmp_path / "run" / "model")
    teacher = load_teacher(tmp_path / "run" / "teacher")

    def both(part: list[QAPair], weight: float) -> np.ndarray:
        """Ranks by the formula, equal answers being one."""
        texts = list(dict.fromkeys(pair.answer for pair in part))
        with torch.no_grad():
            found = network(teacher.encode([pair.question for pair in part])).query
            cosines = cosine_similarity(found, network.key(teacher.encode(texts)))
        words = BM25([pair.answer for pair in part]).scores([pair.question for pair in part]).numpy()
        words = words[:, [[pair.answer for pair in part].index(text) for text in texts]]
        own = [texts.index(pair.answer) for pair in part]
        scores = (1 - weight) * zscore(cosines, axis=1) + weight * zscore(words, axis=1)
        return rankdata(-scores.round(6), axis=1)[range(len(part)), own]

    figures = {weight: (1 / both(pairs.validation, weight)).mean() for weight in WEIGHTS}
    best = max(WEIGHTS, key=lambda weight: figures[weight].round(6))
    rows = {row["name"]: row for row in table.rows}
    row, lattice = rows["lattice + BM25"], rows["lattice"]
    assert row["mrr"] == pytest.approx((1 / both(pairs.test, best)).mean(), abs=1e-5)
    assert figures[best] > max(figures[0.0], figures[1.0])
    assert row["mrr"] != pytest.approx(lattice["mrr"], abs=1e-3)
    assert row["parameters"] == lattice["parameters"] + 1
    assert row["seconds_train"] > lattice["seconds_train"]
    assert row["trials"] == lattice["trials"] + 21 == 22
    assert row["cosine_teacher"] is None


def test_what_stands_beside_the_network_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"adapters_first": {"max_steps": 4}}
    trained: list[object] = []

    def counted(model: object, *args: object, **options: object) -> object:
        trained.append(type(model).__name__)
        return train(model, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(stages, "training", SimpleNamespace(train=counted))
    experiment = make(tmp_path, **first)
    table = experiment.run()
    # The first stage, and the two trained baselines, which start from where it ends.
    assert trained == ["PathAlone", "PathAlone", "PathAlone"]
    again = make(tmp_path, **first).evaluate()
    assert len(trained) == 3
    assert timeless(again.rows) == timeless(table.rows)
    assert again.rows[-1]["seconds_train"] == pytest.approx(table.rows[-1]["seconds_train"], abs=1e-3)
    # With other settings they are others.
    other = make(tmp_path, settings=replace(SETTINGS, weight_decay=0.5), **first).evaluate()
    assert len(trained) == 6
    same = [row == before for row, before in zip(timeless(other.rows), timeless(table.rows), strict=True)]
    assert same == [True] * 10 + [False, False, True]


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"control_trials": {"accelerator": ["cpu", "cuda"]}}, "control_trials: accelerator must be a device of this"),
        ({"control_trials": {"lr_multipliers": [{"mlp": 2.0}]}}, "control_trials: lr_multipliers must be .* got 'mlp'"),
        (
            {"control_trials": {"lr_multipliers": [{"cell": 2.0}], "mlp": {"hidden": [4]}}},
            "control_trials: lr_multipliers must be .* got 'cell'",
        ),
        ({"control_trials": {"optimizer": ["adamw", "schedule_free"]}}, "control_trials: .* needs schedulefree: pip"),
        ({"control_trials": {"optimizer": ["schedule_free"], "betas": [(0.0, 0.9)]}}, "needs a first beta above 0"),
        ({"adapters_first": {"max_steps": 2, "optimizer": "adamw_8bit"}}, "adapters_first: .* needs bitsandbytes"),
        (
            {"adapters_first": {"max_steps": 2, "lr_multipliers": {"readout": 2.0}}},
            "adapters_first: lr_mult.*'readout'",
        ),
        ({"settings": replace(SETTINGS, optimizer="adamw_8bit")}, "optimizer='adamw_8bit' needs bitsandbytes"),
    ],
)
def test_what_cannot_be_trained_by_is_refused_before_anything_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    found = importlib.util.find_spec
    lean = ("bitsandbytes", "schedulefree")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in lean else found(name, *rest))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        make(tmp_path, **options).run()
    assert not (tmp_path / "run" / "pairs").exists()


def test_trials_of_factors_that_fit_every_baseline_are_trained(tmp_path: Path) -> None:
    trials = {"lr_multipliers": [{"answer_adapter": 0.5}]}
    first = {"max_steps": 2, "lr_multipliers": {"path": 0.5}}
    assert make(tmp_path, control_trials=trials, adapters_first=first).run().rows


def test_a_stopped_baseline_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(tmp_path / "whole").run()
    steps = []

    class Stop(PathAlone):
        def answer(self, question: torch.Tensor) -> tuple[torch.Tensor, ...]:
            if self.training and self.mlp is not None:
                steps.append(1)
                if len(steps) == 4:
                    signal.raise_signal(signal.SIGTERM)
            return super().answer(question)

    monkeypatch.setattr(twins, "PathAlone", Stop)
    with pytest.raises(Interrupted) as caught:
        make(tmp_path / "stopped").run()
    assert caught.value.code == 143
    stage = RunFolder(tmp_path / "stopped" / "run").stage("linear + MLP")
    # The fourth of the turns, three for each update.
    assert read_checkpoint(stage.last)["global_step"] == 2
    table = make(tmp_path / "stopped").evaluate()
    assert len(steps) == 6 * 3
    assert timeless(table.rows) == timeless(whole.rows)
