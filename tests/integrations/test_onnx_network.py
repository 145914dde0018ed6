"""An ONNX file in the place of its network: equal answers to a session, and no other network's file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from served import ANIMALS, PLACES, post, served, small_run

from cellgraph import CellGraph
from cellgraph.answering import FinishedRun, Session
from cellgraph.integrations.export import export_onnx
from cellgraph.integrations.onnx_network import TOLERANCE, OnnxNetwork
from cellgraph.retrieval import predict
from cellgraph.teacher import EmbeddingCache

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
pytestmark = pytest.mark.skipif(not HAS_ONNX, reason="onnx, onnxscript and onnxruntime are not installed (extra onnx)")

QUESTIONS = [f"Where does the {a} of the {p} sleep?" for a in ANIMALS[:4] for p in PLACES]


def exported(place: Path, *, num_steps: int = 3, **options: Any) -> tuple[FinishedRun, Path]:
    run = FinishedRun.load(small_run(place / "run", **options), EmbeddingCache(place / "cache"))
    assert isinstance(run.model, CellGraph)
    export_onnx(run.model, place / "cube.onnx", num_steps=num_steps)
    return run, place / "cube.onnx"


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> tuple[FinishedRun, Path]:
    return exported(tmp_path_factory.mktemp("memory"), memory=2)


def test_a_dialogue_is_answered_as_by_the_network(remembering: tuple[FinishedRun, Path]) -> None:
    run, file = remembering
    assert isinstance(run.model, CellGraph)
    bank = run.bank()
    network: Any = OnnxNetwork(file, run.model)
    assert network.remembers
    sessions = [Session(model, run.teacher, bank, run.confidence(bank)) for model in (run.model, network)]
    for question in QUESTIONS[:4]:
        wanted, found = (session.ask(question) for session in sessions)
        assert [each.text for each in found.answers] == [each.text for each in wanted.answers]
        for one, other in zip(found.answers, wanted.answers, strict=True):
            assert abs(one.score - other.score) <= TOLERANCE
        assert abs(found.confidence - wanted.confidence) <= TOLERANCE
        assert found.num_steps == wanted.num_steps
    counts = run.model.parameter_counts()
    assert network.parameter_counts() == counts
    asked = run.teacher.encode(QUESTIONS)
    dialogues = [[0, 1, 2], *([row] for row in range(3, len(QUESTIONS)))]
    told, wanted = (predict(each, asked, dialogues=dialogues, num_steps=3) for each in (network, run.model))
    torch.testing.assert_close(told.embedding, wanted.embedding, rtol=TOLERANCE, atol=TOLERANCE)
    with pytest.raises(ValueError, match="the file takes num_steps=3, got 4"):
        predict(network, asked, num_steps=4)
    # As many at a time as there are.
    answers, _ = sessions[1].answer(QUESTIONS, [None] * len(QUESTIONS))
    for question, found in zip(QUESTIONS, answers, strict=True):
        sessions[0].reset()
        assert abs(found.answers[0].score - sessions[0].ask(question).answers[0].score) <= TOLERANCE


@pytest.mark.slow
def test_it_takes_the_steps_of_its_file_and_ends_at_no_fixed_point(tmp_path: Path) -> None:
    from cellgraph.serving.limits import Limits
    from cellgraph.serving.respondent import Asked, Respondent

    run, file = exported(tmp_path, num_steps=5, path="none", tolerance=1e9)
    model = run.model
    assert isinstance(model, CellGraph)
    network: Any = OnnxNetwork(file, model)
    asked = run.teacher.encode(QUESTIONS[:3])
    with torch.no_grad():
        assert model(asked).num_steps == 1
        model.tolerance = 0.0
        wanted = model(asked, num_steps=5)
    found = network(asked)
    assert found.num_steps == 5
    torch.testing.assert_close(found.query, wanted.query, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(found.surface, wanted.surface, rtol=TOLERANCE, atol=TOLERANCE)
    bank = run.bank()
    session = Session(network, run.teacher, bank, run.confidence(bank))
    cells = Respondent(session, Limits()).respond([Asked(QUESTIONS[0], cells=True)])
    # Before the first step and after each.
    assert len(cells[0]["steps"]) == 6


def test_another_networks_file_is_refused(remembering: tuple[FinishedRun, Path], tmp_path: Path) -> None:
    _, file = remembering
    other = FinishedRun.load(small_run(tmp_path / "run", memory=2)).model
    assert isinstance(other, CellGraph)
    OnnxNetwork(file, other)
    with torch.no_grad():
        other.cell.out_weight.mul_(1.1)
    with pytest.raises(
        ValueError, match=r"cube.onnx is not this network's: its embedding differs by .*; export it again"
    ):
        OnnxNetwork(file, other)
    plain = FinishedRun.load(small_run(tmp_path / "plain")).model
    assert isinstance(plain, CellGraph)
    with pytest.raises(
        ValueError, match=r"expected inputs and outputs \['question'\] -> .* got \['question', 'memory'\]"
    ):
        OnnxNetwork(file, plain)


def test_it_is_served_with_equal_answers(remembering: tuple[FinishedRun, Path]) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed (extra serve)")
    from cellgraph.serving.app import create_app
    from cellgraph.serving.limits import Limits
    from cellgraph.serving.respondent import Respondent

    run, file = remembering
    assert isinstance(run.model, CellGraph)
    bank = run.bank()
    trust = run.confidence(bank)
    network: Any = OnnxNetwork(file, run.model)
    session = Session(run.model, run.teacher, bank, trust)
    with served(create_app(Respondent(Session(network, run.teacher, bank, trust), Limits()))) as port:
        for turn in range(3):
            given = {"question": QUESTIONS[turn], "dialogue": QUESTIONS[:turn]}
            status, _, found = post(port, "/ask", given)
            assert status == 200
            wanted = session.ask(QUESTIONS[turn]).to_dict()
            assert [each["text"] for each in found["answers"]] == [each["text"] for each in wanted["answers"]]
            for one, other in zip(found["answers"], wanted["answers"], strict=True):
                assert abs(one["score"] - other["score"]) <= TOLERANCE
        # Its cells are those of the network.
        assert post(port, "/cells", {"question": QUESTIONS[0]})[2]["shape"] == [3, 3, 3]
