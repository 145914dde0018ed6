"""The verb ``ask``: a conversation with a run."""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from cellgraph.answering.bank import is_text, read_lines
from cellgraph.answering.session import Answer, Session, checked_question
from cellgraph.answering.terminal import converse, show_answer
from cellgraph.cli.opening import add_options, open_session
from cellgraph.data import QAPair, read_pairs
from cellgraph.teacher import default_cache_folder


def main(arguments: Sequence[str]) -> None:
    """Talk to a run: one question, a file of questions, or a conversation."""
    parser = argparse.ArgumentParser(prog="cellgraph ask", description=main.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("question", nargs="?", help="ask this and end; without it, a conversation")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="ask these: one a line, or a column `question`")
    parser.add_argument("--json", action="store_true", help="one JSON object for each answer, on a line")
    add_options(parser)
    given = parser.parse_intermixed_args(arguments)
    if given.question is not None and given.questions is not None:
        raise ValueError("expected a question or --questions FILE, got both")
    if given.question is not None:
        checked_question(given.question)
    # Files first: what is wrong with them is told before anything slow.
    asked = [] if given.questions is None else _read_asked(given.questions, alone=given.no_memory)
    notes = Console(stderr=True)
    session = open_session(given, notes)
    show: Callable[[Answer], None] = functools.partial(
        show_answer, console=Console(), decoder=given.decoder, asked=given.questions is not None
    )
    if given.json:
        show = _print_json
    if given.question is not None:
        show(session.ask(given.question))
    elif given.questions is not None:
        _ask_all(session, asked, show, notes)
    else:
        converse(session, show, console=notes, history=default_cache_folder().parent / "ask_history")


def _ask_all(session: Session, asked: list[QAPair], show: Callable[[Answer], None], notes: Console) -> None:
    """Ask each question alone, those of one dialogue as its turns."""
    dialogue = ""
    # Where answers scroll by, they are the progress.
    for pair in track(asked, "asking", console=notes, disable=sys.stdout.isatty(), transient=True):
        if not pair.dialogue or pair.dialogue != dialogue:
            session.reset()
        dialogue = pair.dialogue
        show(session.ask(pair.question))


def _read_asked(path: Path, *, alone: bool) -> list[QAPair]:
    if is_text(path):
        return [QAPair(line, "") for line in read_lines(path)]
    place = "" if alone else None
    pairs = read_pairs(path, answer="question", topic="", category="", dialogue=place, turn=place)
    # The turns of a dialogue stand together.
    first: dict[str, int] = {}
    places = [first.setdefault(pair.dialogue, row) if pair.dialogue else row for row, pair in enumerate(pairs)]
    order = sorted(range(len(pairs)), key=lambda row: (places[row], pairs[row].turn, row))
    return [pairs[row] for row in order]


def _print_json(answer: Answer) -> None:
    written = json.dumps(answer.to_dict(), ensure_ascii=False)
    # JSON lets these stand, but they act on a terminal, or end a line for many that read lines.
    print(re.sub("[\x7f-\x9f\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", written), flush=True)
