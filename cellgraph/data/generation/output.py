"""The output: the file of pairs, and beside it the record of what was asked, from which a run goes on."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cellgraph.files import writing

from ..pairs import QAPair
from ..readers import read_pairs
from .client import Reply
from .lines import Lines, json_line
from .plan import Topic

__all__ = ["Job", "Output"]


@dataclass(frozen=True)
class Job:
    """One question to a model: for pairs of a topic, for the n-th time.

    Args:
        topic: The topic.
        turn: How many jobs there have been for it before.
    """

    topic: Topic
    turn: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is known by in the record."""
        return self.topic.category, self.topic.name, self.turn


#: A job whose pairs may not be in the file, the size of that before them, and the pairs.
_Unwritten = tuple[Job, int, list[QAPair]]


class Output:
    """A file of pairs that grows job by job, and its record.

    The record has a line for each request that was made, each reply as soon as it is there, and each job that is done,
    with its pairs; these are written to the record first, then to the file, and then it is recorded that they are.
    Whenever a process is killed, opening the output again completes the file from the record, and what had been replied
    is not asked again.

    Args:
        path: The file, ``.jsonl`` or ``.ndjson``. Pairs that are in it already stay, and count.

    Raises:
        ValueError: If the suffix is another one, or the file or its record is damaged.
        OSError: If one of them cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in (".jsonl", ".ndjson"):
            raise ValueError(f"pairs are written to a .jsonl or .ndjson file, got {self.path.name!r}")
        self.record_path = self.path.with_name(f"{self.path.name}.record")
        self._file, self._record = Lines(self.path), Lines(self.record_path)
        self.pairs: list[QAPair] = []
        #: Number of requests, of the tokens of all replies, and of jobs done for each topic.
        self.requests = self.tokens_in = self.tokens_out = 0
        self.turns: Counter[tuple[str, str]] = Counter()
        #: Jobs since the last that gave a pair, for each topic.
        self.fruitless: Counter[tuple[str, str]] = Counter()
        #: Why entries were no new pairs: "exact", "near", "malformed"; and "unreadable" replies.
        self.refused: Counter[str] = Counter()
        self._replies: dict[tuple[str, str, int], list[tuple[Reply, int | None]]] = {}

    @contextlib.contextmanager
    def opened(self) -> Iterator[Output]:
        """Keep the output to this process, mend what a killed one left behind, and read it.

        Raises:
            ValueError: If another process writes it, or the file or its record is damaged.
            OSError: If they cannot be read or written.
        """
        place = self.path.with_name(f".{self.path.name}.lock")
        # A lock that cannot be made would look like one that is taken.
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        lock = FileLock(place)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"{self.path} is being written by another process") from None
        try:
            self._open()
            yield self
        finally:
            lock.release()

    def replies(self, job: Job) -> Sequence[tuple[Reply, int | None]]:
        """The replies there have been to a job that is not done, each with how many pairs it was asked for; ``None`` in
        records of older versions."""
        return self._replies.get(job.key, ())

    def asked(self, job: Job) -> None:
        """Record that a request is made."""
        self._write({"event": "asked"}, job)
        self.requests += 1

    def replied(self, job: Job, reply: Reply, count: int | None = None) -> None:
        """Record a reply, and how many pairs were asked for."""
        self._write({"event": "reply", "reply": asdict(reply), "count": count}, job)
        self._note_reply(job.key, reply, count)

    def done(self, job: Job, pairs: Sequence[QAPair], refused: Counter[str]) -> None:
        """Record that a job is done, and write its new pairs to the file."""
        content = b"".join(map(_pair_line, pairs))
        self._write({"event": "done", "size": self._file.size, "pairs": [_row(pair) for pair in pairs]}, job, refused)
        self._file.append(content)
        self._write({"event": "written"}, job)
        self.pairs += pairs
        self._note_done(job.key, len(pairs), refused)

    def _write(self, event: dict[str, Any], job: Job, refused: Counter[str] | None = None) -> None:
        counted = {} if refused is None else {"refused": dict(refused)}
        line = {**event, "category": job.topic.category, "topic": job.topic.name, "turn": job.turn, **counted}
        self._record.append(json_line(line))

    def _open(self) -> None:
        self._record.mend()
        unwritten: _Unwritten | None = None
        if self.record_path.exists():
            lines = self.record_path.read_bytes().split(b"\n")
            for number, line in enumerate(lines, start=1):
                if line:
                    try:
                        unwritten = self._replay(json.loads(line), unwritten)
                    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                        raise ValueError(f"{self.record_path}, line {number}: damaged") from None
        if self.turns and not self.path.exists() and not (unwritten and unwritten[1] == 0):
            raise ValueError(
                f"{self.path} is gone and its record is not: put it back, or remove {self.record_path} too"
            )
        if unwritten is not None:
            self._complete(*unwritten)
        # A torn line that is not from the record is somebody else's: reading tells where it is, and nothing is lost.
        self._file.end_last_line()
        if self._file.size:
            self.pairs = read_pairs(self.path)

    def _replay(self, event: dict[str, Any], unwritten: _Unwritten | None) -> _Unwritten | None:
        """Note a line of the record; gives the job that is done and not known to be written."""
        kind, key = event["event"], (str(event["category"]), str(event["topic"]), int(event["turn"]))
        if kind == "asked":
            self.requests += 1
        elif kind == "reply":
            count = event.get("count")
            self._note_reply(key, Reply(**event["reply"]), None if count is None else int(count))
        elif kind == "done":
            pairs = [QAPair(**row) for row in event["pairs"]]
            self._note_done(key, len(pairs), Counter(event["refused"]))
            return Job(Topic(key[0], key[1], 0), key[2]), int(event["size"]), pairs
        elif kind == "written":
            return None
        else:
            raise ValueError(f"unknown event {kind!r}")
        return unwritten

    def _complete(self, job: Job, size: int, pairs: Sequence[QAPair]) -> None:
        """Write what the lines of the last job lack in the file."""
        content = b"".join(map(_pair_line, pairs))
        there = self.path.read_bytes() if self.path.exists() else b""
        if size <= len(there) and content.startswith(there[size:]):
            self._file.append(content[len(there) - size :])
            self._write({"event": "written"}, job)

    def _note_reply(self, key: tuple[str, str, int], reply: Reply, count: int | None) -> None:
        self._replies.setdefault(key, []).append((reply, count))
        self.tokens_in += reply.tokens_in
        self.tokens_out += reply.tokens_out

    def _note_done(self, key: tuple[str, str, int], count: int, refused: Counter[str]) -> None:
        self._replies.pop(key, None)
        topic = key[:2]
        self.turns[topic] = key[2] + 1
        self.fruitless[topic] = 0 if count else self.fruitless[topic] + 1
        self.refused.update(refused)


def _row(pair: QAPair) -> dict[str, str]:
    return {"question": pair.question, "answer": pair.answer, "category": pair.category, "topic": pair.topic}


def _pair_line(pair: QAPair) -> bytes:
    return json_line(_row(pair))
