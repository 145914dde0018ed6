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
from rich.text import Text

from cellgraph.answering.bank import read_answers, read_lines
from cellgraph.answering.confidence import PRECISION
from cellgraph.answering.run import FinishedRun
from cellgraph.answering.session import Answer, Session
from cellgraph.answering.terminal import converse, show_answer
from cellgraph.data import QAPair, read_pairs
from cellgraph.teacher import default_cache_folder
from cellgraph.texts import printable

DECODERS = ("bank", "generate", "both")


def main(arguments: Sequence[str]) -> None:
    """Talk to a run: one question, a file of questions, or a conversation."""
    parser = argparse.ArgumentParser(prog="cellgraph ask", description=main.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("question", nargs="?", help="ask this and end; without it, a conversation")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="ask these: one a line, or a column `question`")
    parser.add_argument("--json", action="store_true", help="one JSON object for each answer, on a line")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="answers for each question (5)")
    parser.add_argument("--decoder", choices=DECODERS, default="bank", help="what puts answers into words (bank)")
    parser.add_argument("--bank", type=Path, metavar="FILE", help="answers of your own: one a line, or `answer`")
    parser.add_argument("--approximate", action="store_true", help="search by a graph of neighbours, for large banks")
    parser.add_argument("--lexical", action="store_true", help="let shared words count, too: BM25 beside the network")
    parser.add_argument("--no-memory", action="store_true", help="let every question stand alone, of a dialogue or not")
    parser.add_argument(
        "--precision",
        type=float,
        default=PRECISION,
        metavar="P",
        help=f'"I do not know" below the confidence at which P of the validation answers were right ({PRECISION})',
    )
    given = parser.parse_args(arguments)
    if given.question is not None and given.questions is not None:
        raise ValueError("expected a question or --questions FILE, got both")
    if given.lexical and given.approximate:
        raise ValueError("--lexical looks at every answer, --approximate only at some: expected one of them, got both")
    # Files first: what is wrong with them is told before anything slow.
    asked = [] if given.questions is None else _read_asked(given.questions, alone=given.no_memory)
    own = None if given.bank is None else read_answers(given.bank)
    notes = Console(stderr=True)
    session = _open(given, own, notes)
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


def _open(given: argparse.Namespace, own: list[str] | None, notes: Console) -> Session:
    run = FinishedRun.load(given.run)
    decoder = None if given.decoder == "bank" else run.decoder()
    bank = run.bank(own, approximate=given.approximate)
    parts = ", ".join(f"{len(pairs):,} of {part}" for part, pairs in vars(run.pairs).items())
    source = f" ({parts} pairs)" if own is None else f", {given.bank}"
    # As it stands: rich would take [brackets] and :colons: of a path for markup.
    notes.print(Text(printable(f"bank: {len(bank):,} distinct answers{source}")))
    with notes.status("calibrating the confidence on the validation pairs, the first time only"):
        lexical = run.lexical(bank) if given.lexical else None
        confidence = run.confidence(bank, precision=given.precision, lexical=lexical)
    if lexical is not None:
        share = f"{lexical.blend.weight:.0%}, the best by the validation pairs"
        notes.print(f"words count for {share}", highlight=False)
    return Session(
        run.model,
        run.teacher,
        bank,
        confidence,
        lexical=lexical,
        decoder=decoder,
        top=given.top,
        use_memory=not given.no_memory,
        reader=run.reader,
    )


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
    if path.suffix.lower() in (".txt", ""):
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
