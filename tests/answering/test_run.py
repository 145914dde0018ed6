"""A finished run, asked: the session against its parts, memory, and the verbs `ask`, `fit-decoder` and `evaluate`."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from rich.console import Console
from scipy.stats import rankdata, zscore

from cellgraph import RunFolder
from cellgraph.answering import AnswerBank, FinishedRun, Session
from cellgraph.answering.relevance import relevant
from cellgraph.answering.terminal import show_answer
from cellgraph.cli import main
from cellgraph.cli.evaluate import read_questions
from cellgraph.retrieval import first_right
from cellgraph.retrieval.blend import WEIGHTS
from cellgraph.retrieval.lexical import BM25
from cellgraph.runs import load_experiment

ANIMALS = ["heron", "otter", "badger", "falcon", "beetle", "salmon", "spider", "weasel", "magpie", "lizard"]
PLACES = ["river", "forest", "meadow", "desert", "harbour", "mountain"]
SETTINGS = (
    "teacher=lsa",
    "teacher.width=12",
    "lattice=small",
    "model.num_steps=3",
    "model.surface_channels=1",
    "cell.channels=8",
    "cell.hidden=16",
    "cell.memory_channels=2",
    "data=file",
    "training.compile=false",
    "training.max_steps=6",
    "training.val_every=3",
    "training.batch_size=16",
    "training.warmup_steps=2",
    "adapters_first.max_steps=5",
    "adapters_first.batch_size=16",
    "data.test=30",
    "data.validation=30",
    "training.accelerator=cpu",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, its cells with memory."""
    place = tmp_path_factory.mktemp("job")
    rows = [
        {"question": f"Where is it that the {a} {t} near the {p}?", "answer": f"the {a} {t} by the {p}", "topic": a + p}
        for a in ANIMALS
        for p in PLACES
        for t in ("eats", "sleeps", "hides")
    ]
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        config = compose("train", overrides=[*SETTINGS, f"data.source.path={place / 'pairs.jsonl'}"])
    run = place / "run"
    RunFolder.claim(run, OmegaConf.to_yaml(config, resolve=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLGRAPH_CACHE", str(place / "cache"))
        patch.setattr("cellgraph.ops.fused.backend.load_operators", lambda: False)  # would be built anew in that cache
        load_experiment(run).run()
    return run


@pytest.fixture(autouse=True)
def _own_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(folder.parent / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("cellgraph.ops.fused.backend.load_operators", lambda: False)


def cellgraph(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["cellgraph", *map(str, arguments)])
    main()


def session(folder: Path, **options: object) -> Session:
    run = FinishedRun.load(folder)
    bank = run.bank()
    torch.manual_seed(1)
    # So few updates leave the cells all but silent, and memory without effect.
    torch.nn.init.normal_(run.model.cell.out_weight, std=0.5)
    return Session(run.model, run.teacher, bank, run.confidence(bank), **options)  # type: ignore[arg-type]


def test_an_answer_is_what_its_parts_give(folder: Path) -> None:
    run = FinishedRun.load(folder)
    bank = run.bank()
    assert len(bank) == 180
    confidence = run.confidence(bank)
    question = "Where is it that the otter sleeps near the river?"
    answer = Session(run.model, run.teacher, bank, confidence, top=3).ask(f"  {question} ")
    asked = run.teacher.encode([question])
    with torch.no_grad():
        predicted = run.model(asked).query
    texts = run.answers()
    embeddings = run.teacher.encode(texts)

    def nearest(embedding: torch.Tensor, known: torch.Tensor) -> list[tuple[float, str]]:
        own = torch.nn.functional.normalize(known.detach().double(), dim=1)
        scores = own @ torch.nn.functional.normalize(embedding[0].double(), dim=0)
        return sorted(zip(scores.tolist(), texts, strict=True), reverse=True)

    best = nearest(predicted, run.model.key(embeddings))
    assert [candidate.score for candidate in answer.answers] == pytest.approx([s for s, _ in best[:3]], abs=1e-5)
    assert answer.answers[0].text == best[0][1]
    assert answer.teacher_answers[0].score == pytest.approx(nearest(asked, embeddings)[0][0], abs=1e-5)
    logit = confidence.bias + confidence.weights[0] * best[0][0] + confidence.weights[1] * (best[0][0] - best[1][0])
    assert answer.confidence == pytest.approx(torch.sigmoid(torch.tensor(logit)).item(), abs=1e-4)
    assert answer.known == (confidence.threshold is not None and answer.confidence >= confidence.threshold)
    assert (answer.question, answer.num_steps, answer.generated) == (question, 3, None)
    assert 0 < answer.seconds["teacher"] + answer.seconds["lattice"] <= answer.seconds["total"]


def test_the_confidence_is_learned_among_the_answers_that_will_be_asked(folder: Path) -> None:
    run = FinishedRun.load(folder)
    threshold = run.equivalence_threshold()
    validation = run.pairs.validation
    foreign = AnswerBank(["nothing", "something"], run.embed(["nothing of this", "the otter eats"]))
    for bank, wanted in ((run.bank(), run.bank()), (foreign, None)):
        features, right = run._judged(bank, validation, threshold)
        if wanted is None:
            texts = [*foreign.texts, *(pair.answer for pair in validation)]
            wanted = AnswerBank(texts, torch.cat([foreign.embeddings, run.embed(texts[2:])]))
        with torch.no_grad():
            predicted = run.model(run.embed([pair.question for pair in validation])).query
            keys = torch.nn.functional.normalize(run.model.key(wanted.raw), dim=1)
        scores = torch.nn.functional.normalize(predicted, dim=1) @ keys.T
        target = torch.tensor([wanted.texts.index(pair.answer) for pair in validation])
        expected = relevant(wanted, run.embed([pair.answer for pair in validation]), target, threshold=threshold)
        assert torch.equal(right, first_right(scores, expected) <= 1)
        assert torch.allclose(features[:, 0], scores.amax(1), atol=1e-6)
    kept = set(folder.glob("answering/confidence-*.json"))
    assert run.confidence(foreign) == run.confidence(foreign)
    assert len(set(folder.glob("answering/confidence-*.json")) - kept) == 1


def test_words_count_as_much_as_is_best_on_the_validation_pairs(folder: Path) -> None:
    run = FinishedRun.load(folder)
    # The network alone would find everything.
    torch.manual_seed(1)
    torch.nn.init.normal_(run.model.readout.weight, std=3.0)
    validation, texts = run.pairs.validation, [*dict.fromkeys(run.answers())]
    known = torch.nn.functional.normalize(run.model.key(run.teacher.encode(texts)).detach().double(), dim=1)
    index = BM25(texts)

    def both(questions: list[str], weight: float) -> np.ndarray:
        with torch.no_grad():
            found = run.model(run.teacher.encode(questions)).query
        cosines = (torch.nn.functional.normalize(found.double(), dim=1) @ known.T).numpy()
        return (1 - weight) * zscore(cosines, axis=1) + weight * zscore(index.scores(questions).numpy(), axis=1)

    def figure(weight: float) -> float:
        ranks = rankdata(-both([pair.question for pair in validation], weight).round(6), axis=1)
        return float(np.mean([1 / row[texts.index(pair.answer)] for row, pair in zip(ranks, validation, strict=True)]))

    figures = {weight: figure(weight) for weight in WEIGHTS}
    bank = run.bank()
    lexical = run.lexical(bank)
    assert figures[lexical.blend.weight] == pytest.approx(max(figures.values()), abs=1e-5)
    assert lexical.blend.weight > 0.0
    assert figures[0.0] < figures[lexical.blend.weight]
    # It is learned once.
    (kept,) = folder.glob("answering/lexical-*.json")
    kept.write_text('{"weight": 0.45}')
    lexical = run.lexical(bank)
    assert lexical.blend.weight == 0.45
    # So is the confidence, from the blended scores.
    confidence = run.confidence(bank, lexical=lexical)
    threshold = run.equivalence_threshold()
    features, _ = run._judged(bank, validation, threshold, lexical)
    two = np.sort(both([pair.question for pair in validation], 0.45), axis=1)[:, -2:]
    np.testing.assert_allclose(features.numpy(), np.stack([two[:, 1], two[:, 1] - two[:, 0]], axis=1), atol=1e-3)
    assert confidence != run.confidence(bank)
    question = "Where is it that the otter sleeps near the river?"
    answer = Session(run.model, run.teacher, bank, confidence, lexical=lexical, top=3).ask(question)
    wanted = both([question], 0.45)[0]
    order = wanted.argsort()[::-1]
    assert [found.text for found in answer.answers] == [texts[i] for i in order[:3]]
    assert [found.score for found in answer.answers] == pytest.approx(wanted[order[:3]].tolist(), abs=1e-3)
    assert [found.bm25 for found in answer.answers] == index.scores([question])[0][order[:3].copy()].tolist()  # type: ignore[attr-defined]
    features = torch.tensor([[wanted[order[0]], wanted[order[0]] - wanted[order[1]]]])
    assert answer.confidence == pytest.approx(float(confidence.probability(features)), abs=1e-3)
    kept.write_text("{}")
    with pytest.raises(ValueError, match="is damaged, remove it to have it made again"):
        run.lexical(bank)
    kept.unlink()


def test_scores_that_are_blended_are_told_apart(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    question = "Where is it that the otter sleeps near the river?"
    cellgraph(monkeypatch, "ask", folder, question, "--lexical", "--json")
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    answers = json.loads(line)["answers"]
    assert [list(found) for found in answers] == [["text", "score", "rank", "cosine", "bm25"]] * 5
    assert [list(found) for found in json.loads(line)["teacher_answers"]] == [["text", "score", "rank"]] * 5
    assert all(-1 <= found["cosine"] <= 1 and found["bm25"] >= 0 for found in answers)
    weight = json.loads(next(folder.glob("answering/lexical-*.json")).read_text())["weight"]
    assert f"words count for {weight:.0%}, the best by the validation pairs" in captured.err
    cellgraph(monkeypatch, "ask", folder, question, "--lexical")
    shown = f"2. {answers[1]['score']:.3f} (cosine {answers[1]['cosine']:.3f}, BM25 {answers[1]['bm25']:.2f})  "
    assert shown in capsys.readouterr().out


def test_memory_goes_from_turn_to_turn(folder: Path) -> None:
    first, second = "Where is it that the heron eats near the river?", "Where is it that the otter hides?"
    talk = session(folder)
    assert talk.remembers
    alone = talk.ask(second).answers
    talk.reset()
    talk.ask(first)
    after = talk.ask(second).answers
    assert [turn.question for turn in talk.history] == [first, second]
    assert [c.score for c in after] != pytest.approx([c.score for c in alone], abs=1e-4)
    talk.reset()
    assert talk.history == []
    assert talk.ask(second).answers == alone
    forgetful = session(folder, use_memory=False)
    assert not forgetful.remembers
    forgetful.ask(first)
    assert forgetful.ask(second).answers == alone
    assert talk._memory is not None
    assert not talk._memory.requires_grad


def test_blank_questions_and_no_answers_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="blank"):
        session(folder).ask("  ")
    with pytest.raises(ValueError, match="top = 0"):
        session(folder, top=0)


def test_json_has_every_field(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "asked.txt").write_text("Where does the otter sleep?\n\nWhere does the heron eat?\n")
    (tmp_path / "talk.jsonl").write_text(
        '{"question": "Where does the heron eat?", "dialogue": "a", "turn": 1}\n'
        '{"question": "And who?", "dialogue": ""}\n'
        '{"question": "Where does the otter sleep?", "dialogue": "a", "turn": 0}\n'
    )
    cellgraph(monkeypatch, "ask", folder, "--questions", tmp_path / "asked.txt", "--json", "--top", "2")
    captured = capsys.readouterr()
    assert "bank: 180 distinct answers (120 of train, 30 of validation, 30 of test pairs)" in captured.err
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert [line["question"] for line in lines] == ["Where does the otter sleep?", "Where does the heron eat?"]
    for line in lines:
        assert list(line) == [
            "question",
            "answers",
            "confidence",
            "known",
            "generated",
            "teacher_answers",
            "num_steps",
            "seconds",
        ]
        assert [list(candidate) for candidate in line["answers"]] == [["text", "score", "rank"]] * 2
        assert len(line["teacher_answers"]) == 2
        assert set(line["seconds"]) == {"teacher", "lattice", "total"}
        assert 0 <= line["confidence"] <= 1
        assert line["generated"] is None
    cellgraph(monkeypatch, "ask", folder, "--questions", tmp_path / "talk.jsonl", "--json")
    talk = [json.loads(line)["question"] for line in capsys.readouterr().out.splitlines()]
    assert talk == ["Where does the otter sleep?", "Where does the heron eat?", "And who?"]


def test_a_conversation_through_a_pipe(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = "Where does the otter sleep?\n\n:help\n:history\n:reset\n:history\n:nonsense\n:quit\nWhere is the heron?\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    cellgraph(monkeypatch, "ask", folder)
    captured = capsys.readouterr()
    assert "each question builds on those before it" in captured.err
    assert captured.err.count("1. Where does the otter sleep?") == 1
    assert "all turns forgotten" in captured.err
    assert "no such command" in captured.err
    assert captured.out.count("teacher alone") == 1
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    cellgraph(monkeypatch, "ask", folder, "--no-memory")
    assert "each question stands alone" in capsys.readouterr().err


def test_what_is_not_known_is_said_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = session(folder, top=2).ask("Where is it that the otter sleeps near the river?")
    for known in (True, False):
        show_answer(replace(answer, known=known), console=Console(), decoder="bank", asked=True)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"> {answer.question}"
        assert lines[1].startswith("I do not know" if not known else answer.answers[0].text)
        assert [line.split()[0] for line in lines[2:-2]] == (["2."] if known else ["1.", "2."])


def test_answers_of_ones_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("the otter sleeps by the river\nthe weasel eats\nnothing at all\n")
    cellgraph(
        monkeypatch, "ask", folder, "Where is it that the weasel eats?", "--bank", tmp_path / "mine.txt", "--json"
    )
    found = json.loads(capsys.readouterr().out)
    assert {candidate["text"] for candidate in found["answers"]} == {
        "the otter sleeps by the river",
        "the weasel eats",
        "nothing at all",
    }


def test_the_decoder_is_fitted_once_and_speaks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="has no generative decoder yet: cellgraph fit-decoder"):
        cellgraph(monkeypatch, "ask", folder, "Who?", "--decoder", "both")
    cellgraph(monkeypatch, "fit-decoder", folder, "--max-epochs", "1")
    report = json.loads((folder / "answering" / "decoder" / "report.json").read_text())
    assert list(report) == ["true answer", "lattice", "question (teacher alone)", "mean answer"]
    assert all(row["perplexity"] > 1 and 0 <= row["token_f1"] <= 1 for row in report.values())
    assert "perplexity" in capsys.readouterr().out
    cellgraph(monkeypatch, "ask", folder, "Where does the otter sleep?", "--decoder", "both", "--json")
    assert isinstance(json.loads(capsys.readouterr().out)["generated"], str)
    cellgraph(monkeypatch, "ask", folder, "Where does the otter sleep?", "--decoder", "generate")
    shown = capsys.readouterr().out
    assert "generated" in shown
    assert "teacher alone" in shown
    assert "confidence" not in shown
    with pytest.raises(SystemExit, match="holds a decoder already"):
        cellgraph(monkeypatch, "fit-decoder", folder)


def test_questions_by_category(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "talk.yml").write_text(
        "categories: [chat]\nconversations:\n- [Hello there, the otter eats]\n- [Bye now, the heron hides]\n"
    )
    before = (folder / "evaluation.json").read_bytes()
    cellgraph(monkeypatch, "evaluate", folder, "--questions", "test", f"everyday={tmp_path / 'talk.yml'}")
    assert (folder / "evaluation.json").read_bytes() == before
    report = json.loads((folder / "questions.json").read_text())
    counts = {row["category"]: row["count"] for row in report["rows"]}
    assert counts["everyday"] == 2
    assert counts.pop("all") == sum(counts.values()) == 32
    systems = {"teacher alone", "ridge", "adapters alone", "lattice", "lattice + BM25"}
    assert {row["system"] for row in report["rows"]} == systems
    assert report["bank"] == 182
    assert "Questions by category" in capsys.readouterr().out
    run = FinishedRun.load(folder)
    assert all(pair.category == "" for pair in read_questions("test", run.pairs))
    assert {pair.category for pair in read_questions(str(tmp_path / "talk.yml"), run.pairs)} == {"chat"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["ask", "nowhere"],
            "nowhere is no folder of a finished run of questions and answers: model/config.json is missing",
        ),
        (["ask", "RUN", "Who?", "--questions", "x.txt"], "expected a question or --questions FILE, got both"),
        (["ask", "RUN", "Who?", "--lexical", "--approximate"], "expected one of them, got both"),
        (["ask", "RUN", "--questions", "nowhere.txt"], "nowhere.txt"),
        (["ask", "RUN", "Who?", "--bank", "nowhere.jsonl"], "nowhere.jsonl"),
        (["ask", "RUN", "Who?", "--top", "0"], "got top = 0"),
        (["ask", "RUN", " "], "blank"),
        (["ask", "RUN", "Who?", "--precision", "2"], "precision must lie between 0 and 1, got 2.0"),
        (["evaluate", "RUN", "--questions", "nowhere.jsonl"], "nowhere.jsonl"),
        (["fit-decoder", "nowhere"], "nowhere is no folder of a finished"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cellgraph(monkeypatch, *[str(folder) if argument == "RUN" else argument for argument in arguments])
    assert message in str(stopped.value)
    assert len(str(stopped.value).splitlines()) == 1


def test_paths_and_texts_are_shown_as_they_stand(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bank = tmp_path / "[" / "bold] :smile:.txt"
    bank.parent.mkdir()
    bank.write_text("[/x] otter\x1b[2J\n[/x] heron\x1b[2J\n")
    monkeypatch.setenv("COLUMNS", "400")
    cellgraph(monkeypatch, "ask", folder, "Who [/x]?", "--bank", bank)
    printed = capsys.readouterr()
    assert f"bank: 2 distinct answers, {bank}" in printed.err
    assert "[/x] otter\ufffd[2J" in printed.out
    assert "\x1b" not in printed.out
    with pytest.raises(SystemExit) as stopped:
        cellgraph(monkeypatch, "ask", folder, "Who?", "--bank", tmp_path / "no\x1b[2J.txt")
    assert "\x1b" not in str(stopped.value)


def test_a_terminal_without_the_signs_is_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bank.txt").write_text("otter é\nheron \U0001f600\n", encoding="utf-8")
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", output)
    cellgraph(monkeypatch, "ask", folder, "Who?", "--bank", tmp_path / "bank.txt")
    output.flush()
    shown = output.buffer.getvalue()  # type: ignore[attr-defined]
    assert rb"\xe9" in shown
    assert rb"\U0001f600" in shown
