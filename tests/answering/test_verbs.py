"""A finished run, asked by the verbs `ask`, `fit-decoder` and `evaluate`."""

from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from asked import cellgraph, session
from rich.console import Console

from cellgraph.answering import FinishedRun
from cellgraph.answering.terminal import show_answer
from cellgraph.cli.evaluate import read_questions
from cellgraph.retrieval import QuestionAnswering

pytestmark = pytest.mark.usefixtures("_own_cache")


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


def test_questions_of_one_dialogue_are_its_turns_and_those_of_two_files_are_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = '{"question": "Where does the %s eat?", "answer": "the %s eats by the river", "dialogue": "%s", "turn": %d}\n'
    first = [("otter", "a", 1), ("heron", "", 0), ("otter", "a", 0)]
    for name, rows in (("one.jsonl", first), ("two.jsonl", [("heron", "a", 1), ("salmon", "a", 0)])):
        (tmp_path / name).write_text("".join(row % (animal, animal, *place) for animal, *place in rows))
    heard: list[list[list[int]]] = []

    def predictions(*args: object, dialogues: list[list[int]]) -> dict[str, object]:
        heard.append(dialogues)
        return own(*args, dialogues=dialogues)  # type: ignore[arg-type]

    own = QuestionAnswering.predictions
    monkeypatch.setattr(QuestionAnswering, "predictions", predictions)
    cellgraph(monkeypatch, "evaluate", folder, "--questions", tmp_path / "one.jsonl", f"more={tmp_path / 'two.jsonl'}")
    assert heard == [[[2, 0], [1], [4, 3]]]


@pytest.mark.parametrize(
    ("arguments", "shown", "name"),
    [([], "Held-out pairs", "evaluation.json"), (["--questions"], "Questions by category", "questions.json")],
)
def test_figures_that_cannot_be_written_are_shown(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    shown: str,
    name: str,
) -> None:
    run = Path(shutil.copytree(folder, tmp_path / "run"))
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir()
    with pytest.raises(SystemExit) as stopped:
        cellgraph(monkeypatch, "evaluate", run, *arguments)
    assert str(stopped.value).startswith("cellgraph evaluate: [Errno 21] ")
    assert str(run / name) in str(stopped.value)
    assert ".part" not in str(stopped.value)
    assert shown in capsys.readouterr().out


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
        # Before the run is read.
        (["ask", "nowhere", "Who?", "--top", "0"], "top must be at least 1, got 0"),
        (["ask", "nowhere", " "], "blank"),
        (["ask", "nowhere", "Who?", "--precision", "80"], "precision must lie between 0 and 1, got 80.0"),
        (["ask", "nowhere", "Who?", "--precision", "nan"], "precision must be a number, got nan"),
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


def test_a_bank_tells_which_answers_it_has_and_how_many_it_leaves_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bank = tmp_path / "bank.txt"
    # To a teacher that counts words, the first two are one, and the last two are nothing.
    bank.write_text("the otter eats by the river\nby the river the otter eats\nZanzibar\nXylophone\n")
    monkeypatch.setenv("COLUMNS", "400")
    cellgraph(monkeypatch, "ask", folder, "A xylophone?", "--bank", bank)
    printed = capsys.readouterr()
    assert f"bank: 3 distinct answers, {bank}; 1 more left out, with the embedding of another" in printed.err
    assert all(text in printed.out for text in ("Xylophone", "Zanzibar"))
    bank.write_text("the otter eats by the river\nby the river the otter eats\n")
    with pytest.raises(SystemExit, match="2 distinct answers, got 1 and 1 more with the same embedding"):
        cellgraph(monkeypatch, "ask", folder, "Who?", "--bank", bank)


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
