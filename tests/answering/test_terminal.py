"""What is shown of texts and paths: as they stand, and without what acts on a terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cellgraph.answering import Answer, Candidate
from cellgraph.answering.terminal import show_answer
from cellgraph.cli.ask import _print_json, _read_asked
from cellgraph.cli.evaluate import read_questions
from cellgraph.data import QAPair, Split

WILD = "[/x] [bold]b[/] :smile: \x1b]0;title\x07\x1b[2J\x9b1mc\rd\u202ee"
TAME = "[/x] [bold]b[/] :smile: \ufffd]0;title\ufffd\ufffd[2J\ufffd1mc\ufffdd\ufffde"


def answer(known: bool) -> Answer:
    return Answer(
        question=WILD,
        answers=[Candidate(f"first {WILD}\nsecond line", 0.9, 1), Candidate(f"next {WILD}\nline", 0.8, 2)],
        confidence=0.7,
        known=known,
        generated=f"said {WILD}",
        teacher_answers=[Candidate(f"alone {WILD}", 0.6, 1)],
        num_steps=3,
        seconds={"total": 0.1},
    )


@pytest.mark.parametrize("known", [True, False])
def test_an_answer_is_shown_as_it_stands(known: bool) -> None:
    output = io.StringIO()
    show_answer(answer(known), console=Console(file=output, width=60), decoder="both", asked=True)
    shown = output.getvalue()
    assert "\x1b" not in shown
    assert f"> {TAME}\n" in shown
    assert f"generated  said {TAME}\n" in shown
    # A carriage return is white space, and a line that is cut has one space for it.
    line = TAME.replace("c\ufffdd", "c d")
    assert f"next {line} line\n" in shown
    assert f"alone {line}\n" in shown
    assert (f"first {TAME}\nsecond line  (confidence 70%)" if known else f"1. 0.900  first {line} second line") in shown


def test_json_lines_hold_the_text_and_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    given = answer(True)
    given.answers[0] = Candidate("a\x7f\x85\x9b\u2028\u2029é\U0001f600", 0.9, 1)
    _print_json(given)
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 1
    assert not {"\x1b", "\x07", "\x7f", "\x85", "\x9b"} & set(printed)
    assert "é\U0001f600" in printed
    assert json.loads(printed) == json.loads(json.dumps(given.to_dict()))


NOBODY = Split([], [], [])


@pytest.mark.parametrize(
    ("name", "source", "category"),
    [
        ("q.csv", "q.csv", "own"),
        ("q=1.csv", "q=1.csv", "own"),
        ("=.csv", "=.csv", "own"),
        ("q.csv", "hard=q.csv", "hard"),
        ("q=1.csv", "hard=q=1.csv", "hard"),
        ("q.csv", "a=b=q.csv", "a=b"),
        ("lr=1/seed=2/q.csv", "lr=1/seed=2/q.csv", "own"),
        ("lr=1/seed=2/q.csv", "hard=lr=1/seed=2/q.csv", "hard"),
        ("q.csv", "=q.csv", "own"),
    ],
)
def test_questions_are_found_whatever_their_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str, category: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("question,answer,category,topic,dialogue,turn\nWho?,Me,own,1,talk,3\n")
    assert read_questions(source, NOBODY) == [QAPair("Who?", "Me", category=category, dialogue="talk", turn=3)]


@pytest.mark.parametrize(
    ("source", "missing"), [("hard=no.csv", "no.csv"), ("no.csv", "no.csv"), ("a=b=c.csv", "b=c.csv")]
)
def test_questions_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, missing: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        read_questions(source, NOBODY)
    assert str(caught.value.filename) == missing


def test_questions_of_dialogues_stand_together_or_alone(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("question,dialogue,turn,topic\na2,a,1,x\nb,,,y\na1,a,0,z\n")
    assert [pair.question for pair in _read_asked(path, alone=False)] == ["a1", "a2", "b"]
    assert _read_asked(path, alone=True) == [QAPair(text, text) for text in ("a2", "b", "a1")]
    path.write_text("question,turn\na,left\n")
    assert _read_asked(path, alone=True) == [QAPair("a", "a")]
    path = tmp_path / "q.txt"
    path.write_text("one\u2028still\x0cone\x85!\n\r\ntwo\r\n", encoding="utf-8")
    assert [pair.question for pair in _read_asked(path, alone=False)] == ["one\u2028still\x0cone\x85!", "two"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"folder: expected a folder of .yml or .yaml dialogues, found none"):
        _read_asked(tmp_path / "folder", alone=False)
    (tmp_path / "folder" / "a.yml").write_text("conversations:\n- [Hi, Hello, Bye]\n")
    assert [pair.question for pair in _read_asked(tmp_path / "folder", alone=False)] == ["Hi", "Hello"]
