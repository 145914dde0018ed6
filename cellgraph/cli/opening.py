"""Opening: the options with which a run is made ready to be asked, and the session that they make."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from cellgraph.answering.bank import read_answers
from cellgraph.answering.confidence import PRECISION, check_precision
from cellgraph.answering.run import FinishedRun
from cellgraph.answering.session import Session
from cellgraph.numbers import at_least
from cellgraph.texts import printable

DECODERS = ("bank", "generate", "both")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`open_session`."""
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


def open_session(given: argparse.Namespace, notes: Console, *, exported: Callable[[Any], Any] | None = None) -> Session:
    """Make a run ready to be asked.

    Args:
        given: The ``run`` and the options.
        notes: Where it is told what is done.
        exported: Gives, of the run's network, the :class:`~cellgraph.integrations.onnx_network.OnnxNetwork` that
            answers in its place.

    Raises:
        ValueError: If the run cannot be asked, or options do not go together.
    """
    if given.lexical and given.approximate:
        raise ValueError("--lexical looks at every answer, --approximate only at some: expected one of them, got both")
    at_least(1, top=given.top)
    check_precision(given.precision)
    # Files first: what is wrong with them is told before anything slow.
    own = None if given.bank is None else read_answers(given.bank)
    run = FinishedRun.load(given.run)
    model: Any = run.model if exported is None else exported(run.model)
    # As it will be asked: a confidence learned otherwise would say nothing.
    how: dict[str, Any] = {
        "use_memory": not given.no_memory,
        "num_steps": None if exported is None else model.inference.num_steps,
    }
    decoder = None if given.decoder == "bank" else run.decoder()
    bank = run.bank(own, approximate=given.approximate)
    parts = ", ".join(f"{len(pairs):,} of {part}" for part, pairs in vars(run.pairs).items())
    source = f" ({parts} pairs)" if own is None else f", {given.bank}"
    more = f"; {bank.left_out:,} more left out, with the embedding of another" if bank.left_out else ""
    # As it stands: rich would take [brackets] and :colons: of a path for markup.
    notes.print(Text(printable(f"bank: {len(bank):,} distinct answers{source}{more}")))
    with notes.status("calibrating the confidence on the validation pairs, the first time only"):
        lexical = run.lexical(bank, **how) if given.lexical else None
        confidence = run.confidence(bank, precision=given.precision, lexical=lexical, **how)
    if lexical is not None:
        share = f"{lexical.blend.weight:.0%}, the best by the validation pairs"
        notes.print(f"words count for {share}", highlight=False)
    return Session(
        model,
        run.teacher,
        bank,
        confidence,
        lexical=lexical,
        decoder=decoder,
        top=given.top,
        use_memory=not given.no_memory,
        reader=run.reader,
    )
