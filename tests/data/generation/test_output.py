"""The output: whatever is cut off at whatever byte, opening it again completes it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from cellgraph.data import QAPair
from cellgraph.data.generation import Output, Reply, Topic
from cellgraph.data.generation.lines import Lines
from cellgraph.data.generation.output import Job

TOPIC = Topic("nature", "rivers", 9)


def pair(number: int) -> QAPair:
    return QAPair(f"Question {number}?", f"Ä{number}", category="nature", topic="rivers")


def write(path: Path) -> None:
    """Two jobs, and a third that has been replied to."""
    with Output(path).opened() as output:
        for turn in range(2):
            job = Job(TOPIC, turn)
            output.asked(job)
            output.replied(job, Reply("no", 5, 6))
            output.replied(job, Reply("yes", 7, 8))
            output.done(job, [pair(3 * turn + number) for number in range(3)], Counter(near=1))
        output.asked(Job(TOPIC, 2))
        output.replied(Job(TOPIC, 2), Reply("third", 1, 2))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "pairs.jsonl"
    write(path)
    with Output(path).opened() as output:
        assert output.pairs == [pair(number) for number in range(6)]
        assert (output.requests, output.tokens_in, output.tokens_out) == (3, 25, 30)
        assert output.turns == {("nature", "rivers"): 2}
        assert output.refused == {"near": 2}
        assert output.replies(Job(TOPIC, 2)) == [(Reply("third", 1, 2), None)]
        assert not output.replies(Job(TOPIC, 1))


def test_any_byte_may_be_the_last_one(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    write(whole)
    record, file = Path(f"{whole}.record").read_bytes(), whole.read_bytes()
    events = [json.loads(line) for line in record.splitlines()]
    borders = {index + shift for index, byte in enumerate(record) if byte == 10 for shift in (-1, 0, 1)}
    for size in sorted({0, *borders, *range(0, len(record), 7)}):
        path = tmp_path / f"{size}" / "pairs.jsonl"
        path.parent.mkdir()
        Path(f"{path}.record").write_bytes(record[:size])
        ends = [index for index, byte in enumerate(record[:size]) if byte == 10]
        # A line that lacks nothing but its end is whole.
        kept = len(ends) + (record[size : size + 1] == b"\n")
        done = [event for event in events[:kept] if event["event"] == "done"]
        written = sum(event["event"] == "written" for event in events[:kept])
        if done:
            # As long as the jobs before made it, with any part of the last one's lines until those are known written.
            length = sum(len(line) for line in file.splitlines(keepends=True)[: 3 * len(done)])
            part = size % (length - done[-1]["size"] + 1)
            path.write_bytes(file[:length] if written == len(done) else file[: done[-1]["size"] + part])
        with Output(path).opened() as output:
            assert len(output.pairs) == 3 * len(done)
            assert output.requests == sum(event["event"] == "asked" for event in events[:kept])
        if done:
            assert path.read_bytes() == file[:length]
        shutil.rmtree(path.parent)


def test_a_job_that_gives_nothing_counts(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    with Output(path).opened() as output:
        for turn in range(2):
            output.done(Job(TOPIC, turn), [], Counter(unreadable=3))
    with Output(path).opened() as output:
        assert output.fruitless == {("nature", "rivers"): 2}
        output.done(Job(TOPIC, 2), [pair(1)], Counter())
        assert output.fruitless == {("nature", "rivers"): 0}


def test_pairs_that_are_there_already_stay(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"question": "Who?", "answer": "I."}')  # without an end of line
    with Output(path).opened() as output:
        output.done(Job(TOPIC, 0), [pair(1)], Counter())
    assert [json.loads(line)["question"] for line in path.read_text().splitlines()] == ["Who?", "Question 1?"]


def test_somebody_elses_torn_line_is_told_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"question": "Who?", "answer": "I."}\n{"question": "Wh')
    with pytest.raises(ValueError, match="line 2: invalid JSON"), Output(path).opened():
        pass
    assert path.read_text().endswith('{"question": "Wh')


def test_a_file_that_was_edited_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[4:]))
    with Output(path).opened() as output:
        assert output.pairs == [pair(0), pair(4), pair(5)]


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write(path)
    record = Path(f"{path}.record")
    record.write_bytes(record.read_bytes().replace(b'"asked"', b"asked", 1))
    with pytest.raises(ValueError, match=r"pairs.jsonl.record, line 1: damaged"), Output(path).opened():
        pass


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write(path)
    path.unlink()
    with pytest.raises(ValueError, match=r"pairs.jsonl is gone and its record is not"), Output(path).opened():
        pass


def test_another_process_is_kept_out(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    with Output(path).opened(), pytest.raises(ValueError, match="another process"), Output(path).opened():
        pass


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", Path("/proc")):
        if folder.exists():
            with pytest.raises(OSError, match=rf"cannot write {folder}/.*"), Output(folder / "pairs.jsonl").opened():
                pass


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got 'pairs.csv'"):
        Output(tmp_path / "pairs.csv")


def test_a_line_that_cannot_be_written_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    lines = Lines(path)
    lines.append(b"one\n")

    def full(descriptor: int, content: bytes) -> int:
        if len(content) < 4:
            raise OSError(28, "No space left on device")
        return write_some(descriptor, bytes(content)[:2])

    from cellgraph.data.generation import lines as module

    write_some = module.os.write
    monkeypatch.setattr(module.os, "write", full)
    with pytest.raises(OSError, match=r"cannot write .*file: No space left on device"):
        lines.append(b"three\n")
    monkeypatch.undo()
    assert path.read_bytes() == b"one\n"


def test_a_reply_that_was_cut_within_a_character_is_kept(tmp_path: Path) -> None:
    path, job = tmp_path / "pairs.jsonl", Job(TOPIC, 0)
    with Output(path).opened() as output:
        output.asked(job)
        output.replied(job, Reply("so \ud83d", 1, 2, cut=True))
    with Output(path).opened() as output:
        assert output.replies(job) == [(Reply("so \ufffd", 1, 2, cut=True), None)]
