"""A model of pairs in a few lines: the figures of the command, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from generators import states_after
from processes import run_inside

from cellgraph import CellGraph, GMLPCell, Lattice, PairDataset, PairModel, RunFolder, load
from cellgraph.answering import FinishedRun
from cellgraph.data import QAPair
from cellgraph.teacher import LSATeacher
from cellgraph.training import read_checkpoint

SETTINGS = {"max_steps": 6, "batch_size": 8, "val_every": 2, "compile": False, "accelerator": "cpu"}


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path / "cache"))
    rows = [
        {"question": f"where is the {a} {b} {c}", "answer": f"the {a} is {c} of {b}", "topic": a + b}
        for a in ("heron", "otter", "badger", "falcon", "beetle", "salmon")
        for b in ("river", "forest", "meadow", "desert", "harbour")
        for c in ("north", "south", "east")
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def data(path: Path) -> PairDataset:
    return PairDataset.read(path, teacher=LSATeacher(12)).split(test=0.2, validation=0.1, seed=3)


def model(path: Path, **options: Any) -> PairModel:
    told = {"num_steps": 1, "surface_channels": 2, "adapters_first": {"max_steps": 4, "batch_size": 16}, "seed": 5}
    return PairModel(data(path), Lattice((2, 3, 3)), **{**told, **options})


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds_train"} for row in rows]


def test_the_figures_are_those_of_the_command(pairs: Path, tmp_path: Path) -> None:
    done = run_inside(
        tmp_path,
        *("train", "teacher=lsa", "teacher.width=12", "data=file", f"data.source.path={pairs}", "data.test=0.2"),
        *("data.validation=0.1", "data.seed=3", "lattice.shape=[2,3,3]", "lattice.neighbourhood=6"),
        *("model.num_steps=1", "model.surface_channels=2", "seed=5", "hydra.run.dir=run"),
        "adapters_first={max_steps:4,batch_size:16,lr:1e-4}",
        *(f"training.{name}={value}" for name, value in SETTINGS.items()),
    )
    assert done.returncode == 0, done.stderr
    command = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    before = states_after(77)
    made = model(pairs, adapters_first={"max_steps": 4, "batch_size": 16, "lr": 1e-4}).fit(progress=False, **SETTINGS)
    assert states_after() == before
    torch.rand(3)  # what is drawn in between changes no figure
    before = states_after()
    figures = made.evaluate()
    assert states_after() == before
    assert timeless(figures.rows) == timeless(command["rows"])
    assert figures.differences == command["differences"]
    load(tmp_path / "run")
    assert states_after() == before
    weights = CellGraph.from_pretrained(tmp_path / "run" / "model").state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in made.network.state_dict().items())


def test_printed_it_is_the_table(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = model(pairs).fit(progress=False, **SETTINGS)
    figures = made.evaluate()
    assert capsys.readouterr().out == ""
    lines = str(figures).splitlines()
    for row in figures.rows:
        shown = next(line for line in lines if re.match(rf" *{re.escape(row['name'])} +[-\d]", line))
        # What ranks by words has no embedding.
        assert row["cosine_teacher"] is None or f"{row['cosine_teacher']:.3f}" in shown
        assert f"{row['mrr']:.3f}" in shown


def test_progress_is_shown_unless_told_otherwise(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model(pairs).fit(**SETTINGS)
    assert "parameters: gmlp " in capsys.readouterr().out


def test_a_folder_holds_what_asking_takes(pairs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    made = model(pairs, folder=folder).fit(progress=False, **SETTINGS)
    run = FinishedRun.load(folder)
    question = run.embed(["where is the otter meadow east"])
    torch.testing.assert_close(run.model(question).embedding, made.network(question).embedding)
    with pytest.raises(ValueError, match="holds a run already"):
        model(pairs, folder=folder).fit(progress=False, **SETTINGS)


def test_it_is_fitted_anew_or_goes_on(pairs: Path, tmp_path: Path) -> None:
    made = model(pairs)
    first = made.fit(progress=False, **SETTINGS).network
    again = made.fit(progress=False, **SETTINGS).network
    names = dict(first.named_parameters())
    assert all(torch.equal(value, names[name]) for name, value in again.named_parameters())
    made = model(pairs, folder=tmp_path / "run").fit(progress=False, **SETTINGS)
    made.fit(progress=False, resume=True, **{**SETTINGS, "max_steps": 9})
    assert read_checkpoint(RunFolder(tmp_path / "run").last)["global_step"] == 9


def test_trials_of_many_settings_have_folders_of_their_own_and_are_trained_once(pairs: Path, tmp_path: Path) -> None:
    rates = {"path": 1.0, "path.linear": 0.5, "answer_adapter": 0.2, "answer_adapter.decoder": 0.1}
    # Of trials that begin alike, only the last setting tells them apart.
    trials = {"lr_multipliers": [rates], "weight_decay": [0.01], "betas": [[0.9, 0.98]], "max_steps": [2, 3]}
    fitted = model(pairs, folder=tmp_path / "run", control_trials=trials).fit(**SETTINGS, progress=False)
    told = {row["name"]: row["trials"] for row in fitted.evaluate().rows}
    assert (told["adapters alone"], told["linear + MLP"]) == (2, 2)
    written = {stage: stage.training.stat().st_mtime_ns for stage in RunFolder(tmp_path / "run").stages()}
    names = [stage.path.name for stage in written]
    assert len(written) == 1 + 2 * 2
    assert max(len(name) for name in names) == 120 < len(f"linear + MLP, lr_multipliers={rates}, betas=[0.9, 0.98]")
    steps = [json.loads(stage.training.read_text())["settings"]["max_steps"] for stage in written]
    assert sorted(steps) == [2, 2, 3, 3, 4]
    fitted.evaluate()
    assert {stage: stage.training.stat().st_mtime_ns for stage in written} == written


def test_a_cell_of_ones_own_choice_is_used(pairs: Path) -> None:
    lattice = Lattice((2, 3, 3))
    made = PairModel(data(pairs), lattice, cell=GMLPCell(lattice, 4, hidden=8), num_steps=1, surface_channels=2)
    assert "2 x 3 x 3" in repr(made) or "(2, 3, 3)" in repr(made)
    assert made._make(in_features=12).cell.channels == 4
    with pytest.raises(ValueError, match="the cell must be on"):
        PairModel(data(pairs), Lattice((2, 4, 4)), cell=GMLPCell(lattice, 4, hidden=8))


def test_what_does_not_fit_is_told(pairs: Path) -> None:
    with pytest.raises(ValueError, match="is not split"):
        PairModel(PairDataset.read(pairs, teacher="lsa"), Lattice((2, 3, 3)))
    with pytest.raises(ValueError, match="there is no network yet"):
        model(pairs).evaluate()
    with pytest.raises(ValueError, match=r"fit takes settings of training: .*'lrr'"):
        model(pairs).fit(lrr=1)
    names = r"\['lsa', 'minilm', 'static', 'tfidf'\]"
    with pytest.raises(ValueError, match=rf"teacher must be one of {names} or a teacher, got 'bert'"):
        PairDataset.read(pairs, teacher="bert")
    with pytest.raises(ValueError, match=r"teacher must have width, .* lacks width, fingerprint"):
        PairDataset.of([("a", "b")], teacher=object())  # type: ignore[arg-type]


def test_pairs_are_taken_as_they_are() -> None:
    pair = QAPair("a", "b", topic="c")
    assert PairDataset.of([pair, ("d", "e")], teacher="lsa").pairs == [pair, QAPair("d", "e")]
    assert PairDataset.of([("d", "e", "f"), ["g", "h"]], teacher="lsa").pairs == [
        QAPair("d", "e", "f"),
        QAPair("g", "h"),
    ]


@pytest.mark.parametrize("wrong", [("q",), (), 1, None, "ab", b"ab", {"question": "q", "answer": "a"}, ("q",) * 7])
def test_what_is_no_pair_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="a pair must be a QAPair or a question and an answer, got "):
        PairDataset.of([("a", "b"), wrong], teacher="lsa")
    with pytest.raises(ValueError, match="answer must be text, got int"):
        PairDataset.of([("a", 1)], teacher="lsa")  # type: ignore[list-item]
