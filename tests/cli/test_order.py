"""The words of a command line in another order: they mean the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import run_inside

PAIR = '{"question": "What is blue?", "answer": "The sky is."}\n'


@pytest.mark.parametrize(
    ("given", "usual"),
    [
        ("ask nowhere --top 3 How?", "ask nowhere How? --top 3"),
        ("ask --top 3 nowhere How?", "ask nowhere How? --top 3"),
        ("evaluate --questions test nowhere", "evaluate nowhere --questions test"),
        ("evaluate --questions test b.csv nowhere", "evaluate nowhere --questions test b.csv"),
        ("data report a.jsonl --out r no.jsonl", "data report a.jsonl no.jsonl --out r"),
        ("data check --remove exact no.jsonl", "data check no.jsonl --remove exact"),
        ("data check --keep exact near no.jsonl --out r", "data check no.jsonl --keep exact near --out r"),
        ("data check --without language no.jsonl", "data check no.jsonl --without language"),
        ("embed --teacher lsa teacher.width=8 no.jsonl", "embed no.jsonl --teacher lsa teacher.width=8"),
        ("embed teacher.width=8 --teacher lsa no.jsonl seed=3", "embed no.jsonl --teacher lsa teacher.width=8 seed=3"),
    ],
)
def test_what_a_command_is_about_may_come_behind_its_options(tmp_path: Path, given: str, usual: str) -> None:
    """It is not there, and that is said of it alone."""
    pytest.importorskip("ftfy")
    (tmp_path / "a.jsonl").write_text(PAIR)
    done, expected = (run_inside(tmp_path, *line.split()) for line in (given, usual))
    assert (done.returncode, done.stderr) == (expected.returncode, expected.stderr)
    assert done.returncode == 1
    assert ": nowhere is no " in done.stderr or "no.jsonl" in done.stderr or "got seed=3" in done.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evaluate", "the following arguments are required: run"),
        ("evaluate --questions", "the following arguments are required: run"),
        ("data check", "the following arguments are required: file"),
        ("data check --remove exact", "the following arguments are required: file"),
        ("data check a.jsonl --remove exact exakt", "argument --remove: expected some of unreadable, "),
        ("data check --remove a.jsonl", "got a.jsonl"),
        ("data check a.jsonl --without rows", "argument --without: expected some of "),
    ],
)
def test_a_wrong_command_line_is_one(tmp_path: Path, line: str, message: str) -> None:
    pytest.importorskip("ftfy")
    (tmp_path / "a.jsonl").write_text(PAIR)
    done = run_inside(tmp_path, *line.split())
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
