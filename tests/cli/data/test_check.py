"""``cellgraph data check`` as a user runs it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from processes import run_inside

from cellgraph.data import read_pairs

for package in ("datasketch", "ftfy", "py3langid"):
    pytest.importorskip(package)

THINGS = ["river", "lamp", "copper", "violin", "glacier", "bakery", "parliament", "spider", "telescope", "harvest"]
GOOD = [
    {"question": f"What is the {part} of a {thing}?", "answer": f"The {part} of a {thing} is {told}.", "note": "kept"}
    for thing in THINGS
    for part, told in (
        ("origin", f"told in the old songs about {thing} makers"),
        ("weight", f"about {len(thing)} stones, as every {thing} keeper knows"),
        ("colour", f"seldom blue; most people paint their {thing} red"),
    )
]
PLANTED = [
    {"question": "what is the ORIGIN of a river", "answer": GOOD[0]["answer"], "note": ""},
    {"question": "Where is the cafÃ©?", "answer": "Beside the bakery of the origin.", "note": ""},
    {"question": "", "answer": "Nobody asked.", "note": ""},
]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_faults_are_told_reported_and_fixed(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", [*GOOD, *PLANTED])
    done = run_inside(tmp_path, "data", "check", file, "--fix", "out/clean.jsonl")
    assert done.returncode == 3, done.stderr
    assert "pairs.jsonl: 33 rows" in done.stdout
    assert "to be removed 2, to be repaired 1, staying 31" in done.stdout
    report = json.loads((tmp_path / "pairs-check" / "report.json").read_text())
    told = {(finding["row"], finding["kind"], finding["action"], finding["repeats"]) for finding in report["findings"]}
    wanted = {(31, "exact", "remove", 1), (32, "mojibake", "repair", None), (33, "unreadable", "remove", None)}
    assert wanted <= told
    assert all(action == "note" for *_, action, _ in told - wanted)
    page = (tmp_path / "pairs-check" / "report.md").read_text()
    assert "Row 31 (“what is the ORIGIN of a river”): repeats row 1." in page
    assert "Row 33: line 33: the question (column 'question') is missing or empty." in page
    changes = [json.loads(line) for line in (tmp_path / "out" / "clean.changes.jsonl").read_text().splitlines()]
    assert [(change["row"], change["action"], change["kinds"]) for change in changes] == [
        (31, "remove", ["exact"]),
        (33, "remove", ["unreadable"]),
        (32, "repair", ["mojibake"]),
    ]
    assert changes[0]["repeats"] == 1
    assert changes[2]["repaired"]["question"] == "Where is the café?"
    assert len(read_pairs(tmp_path / "out" / "clean.jsonl")) == 31
    again = run_inside(tmp_path, "data", "check", "out/clean.jsonl")
    assert again.returncode == 0, again.stdout
    assert "to be removed 0, to be repaired 0, staying 31" in again.stdout


def test_what_happens_is_chosen_by_kind(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", [*GOOD, PLANTED[0]])
    kept = run_inside(tmp_path, "data", "check", file, "--keep", "exact", "--without", "neighbours")
    assert kept.returncode == 0
    assert "not checked: neighbours, left out" in kept.stdout
    gone = run_inside(
        tmp_path, "data", "check", file, "--max-answer-chars", "60", "--keep", "length", "--remove", "answer"
    )
    assert "exact              1  removed" in gone.stdout
    both = run_inside(tmp_path, "data", "check", file, "--keep", "near", "--remove", "near")
    assert (both.returncode, both.stderr) == (1, "cellgraph data: --remove and --keep both name near\n")


def test_few_rows_are_checked_as_far_as_can_be(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", PLANTED[:2])
    done = run_inside(tmp_path, "data", "check", file, "--test", "2")
    assert "not checked: coherence, there is too little text to compare meanings" in done.stdout
    assert "not checked: leakage, training could not split what is left" in done.stdout


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (None, (), "No such file or directory: 'pairs.jsonl'"),
        (b"", (), "pairs.jsonl: no question-answer pairs in it, the file is empty"),
        (b'{"question": "A?", "answer": "B"}\n{', (), "pairs.jsonl, line 2: invalid JSON"),
        (b'{"question": "A?", "answer": "\xff"}\n', (), "pairs.jsonl: not UTF-8 text"),
        (b'{"q": "A?", "a": "B"}\n', (), "no column 'question' for the question; the columns are 'q', 'a'"),
        (b'{"question": "", "answer": "B"}\n', (), "line 1: the question (column 'question') is missing or empty"),
        (b'{"question": "A?", "answer": "B"}\n', ("--split", "part"), "no column 'part' for the split"),
        (b'{"question": "A?", "answer": "B"}\n', ("--fix", "out.csv"), "must end in .jsonl or .ndjson, got '.csv'"),
        (b'{"question": "A?", "answer": "B"}\n', ("--fix", "pairs.jsonl"), "pairs.jsonl is the file itself"),
        (b'{"question": "A?", "answer": "B"}\n', ("--near", "2"), "near must be above 0 and at most 1, got 2.0"),
        (b'{"question": "A?", "answer": "B"}\n', ("--teacher", "nobody"), "nobody"),
        (
            b'{"question": "A?", "answer": "B"}\n',
            ("--out", "pairs.jsonl/in"),
            "cannot write the report in pairs.jsonl/in",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, content: bytes | None, options: tuple[str, ...], said: str
) -> None:
    if content is not None:
        (tmp_path / "pairs.jsonl").write_bytes(content)
    done = run_inside(tmp_path, "data", "check", "pairs.jsonl", *options)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("cellgraph data: ")
    assert said in line


def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "pairs.jsonl", [*GOOD, PLANTED[0]])
    assert run_inside(tmp_path, "data", "check", file, "--fix", "clean.jsonl").returncode == 3
    before = (tmp_path / "clean.jsonl").read_bytes()
    write(file, GOOD)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    done = run_inside(tmp_path, "data", "check", file, "--fix", "clean.jsonl")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("cannot write the report in pairs-check: No space left on device")
    assert (tmp_path / "clean.jsonl").read_bytes() == before
    assert not [path for path in tmp_path.rglob(".*jsonl*") if path.is_file()]


def test_commands_are_listed(tmp_path: Path) -> None:
    assert "cellgraph data check" in run_inside(tmp_path, "data").stdout
    assert "expected one of" in run_inside(tmp_path, "data", "chekc").stderr


def test_the_list_of_changes_is_never_written_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.changes.jsonl", [*GOOD, *PLANTED])
    before = file.read_bytes()
    done = run_inside(tmp_path, "data", "check", file, "--fix", "pairs.jsonl")
    assert done.returncode == 1
    assert "would be the list of changes, and is the file itself: choose another --fix" in done.stderr
    assert file.read_bytes() == before
    assert not (tmp_path / "pairs.jsonl").exists()
