"""The verbs ``ask`` and ``fit-decoder`` of the command ``cellgraph``."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from cellgraph.analysis import predict
from cellgraph.answering.bank import read_answers, read_lines
from cellgraph.answering.confidence import PRECISION
from cellgraph.answering.generator import GenerativeDecoder, train_tokenizer
from cellgraph.answering.run import ANSWERING, BATCH, FinishedRun
from cellgraph.answering.session import Answer, Session
from cellgraph.answering.terminal import converse, show_answer
from cellgraph.data import QAPair, Split, read_pairs
from cellgraph.files import write_atomically
from cellgraph.teacher import default_cache_folder

DECODERS = ("bank", "generate", "both")


def ask(arguments: Sequence[str]) -> None:
    """Talk to a run: one question, a file of questions, or a conversation."""
    parser = argparse.ArgumentParser(prog="cellgraph ask", description=ask.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("question", nargs="?", help="ask this and end; without it, a conversation")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="ask these: one a line, or a column `question`")
    parser.add_argument("--json", action="store_true", help="one JSON object for each answer, on a line")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="answers for each question (5)")
    parser.add_argument("--decoder", choices=DECODERS, default="bank", help="what puts answers into words (bank)")
    parser.add_argument("--bank", type=Path, metavar="FILE", help="answers of your own: one a line, or `answer`")
    parser.add_argument("--approximate", action="store_true", help="search by a graph of neighbours, for large banks")
    parser.add_argument("--no-memory", action="store_true", help="let every question stand alone")
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
    # Files first: what is wrong with them is told before anything slow.
    asked = [] if given.questions is None else _read_asked(given.questions)
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


def fit_decoder(arguments: Sequence[str]) -> None:
    """Fit the generative decoder of a run to its training answers; goes on where it was interrupted."""
    from cellgraph.answering import fitting  # brings Lightning's training along

    parser = argparse.ArgumentParser(prog="cellgraph fit-decoder", description=fit_decoder.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("--max-epochs", type=int, default=fitting.DecoderSettings.max_epochs, help="most passes")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    run = FinishedRun.load(given.run)
    folder = given.run / ANSWERING / "decoder"
    if (folder / "config.json").exists():
        raise ValueError(f"{folder} holds a decoder already: remove it to fit another")
    texts = {part: [pair.answer for pair in pairs] for part, pairs in vars(run.pairs).items()}
    embeddings = {part: run.embed(answers) for part, answers in texts.items()}
    torch.manual_seed(given.seed)
    decoder = GenerativeDecoder(train_tokenizer(texts["train"]), run.teacher.width)
    decoder.standardise(embeddings["train"])
    fitting.fit_decoder(
        decoder,
        (embeddings["train"], decoder.tokens(texts["train"])),
        (embeddings["validation"], decoder.tokens(texts["validation"])),
        folder=folder,
        settings=fitting.DecoderSettings(max_epochs=given.max_epochs, seed=given.seed),
        resume_hint=f"cellgraph fit-decoder {given.run}",
    )
    questions = run.embed([pair.question for pair in run.pairs.test])
    sources = {
        "true answer": embeddings["test"],
        "lattice": predict(run.model, questions, batch_size=BATCH).embedding,
        "question (teacher alone)": questions,
        "mean answer": embeddings["train"].mean(0).expand(len(questions), -1),
    }
    report = fitting.judge_decoder(decoder, texts["test"], sources)
    write_atomically(folder / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    print(f"{len(questions):,} held-out answers, said from the embedding of")
    print(f"{'':<26}perplexity  token F1  chrF")
    for name, row in report.items():
        print(f"{name:<26}{row['perplexity']:>10.1f}  {row['token_f1']:>8.3f}  {row['chrf']:.3f}")


def read_questions(source: str, pairs: Split) -> list[QAPair]:
    """Pairs to be asked, from ``test``, a file, or ``CATEGORY=FILE``.

    The column of categories of a run's own pairs says how they were made, so it is not taken for one of questions.

    Args:
        source: What was given.
        pairs: The pairs of the run.

    Raises:
        ValueError: If the file is damaged.
        OSError: If it cannot be opened.
    """
    if source == "test":
        return [replace(pair, category="") for pair in pairs.test]
    category, _, path = source.rpartition("=")
    read = read_pairs(path)
    return [replace(pair, category=category) for pair in read] if category else read


def _open(given: argparse.Namespace, own: list[str] | None, notes: Console) -> Session:
    run = FinishedRun.load(given.run)
    decoder = None if given.decoder == "bank" else run.decoder()
    bank = run.bank(own, approximate=given.approximate)
    parts = ", ".join(f"{len(pairs):,} of {part}" for part, pairs in vars(run.pairs).items())
    notes.print(f"bank: {len(bank):,} distinct answers" + (f" ({parts} pairs)" if own is None else f", {given.bank}"))
    with notes.status("calibrating the confidence on the validation pairs, the first time only"):
        confidence = run.confidence(bank, precision=given.precision)
    return Session(
        run.model,
        run.teacher,
        bank,
        confidence,
        decoder=decoder,
        top=given.top,
        use_memory=not given.no_memory,
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


def _read_asked(path: Path) -> list[QAPair]:
    if path.suffix.lower() in (".txt", ""):
        return [QAPair(line, "") for line in read_lines(path)]
    pairs = read_pairs(path, answer="question")
    # The turns of a dialogue stand together.
    first: dict[str, int] = {}
    places = [first.setdefault(pair.dialogue, row) if pair.dialogue else row for row, pair in enumerate(pairs)]
    order = sorted(range(len(pairs)), key=lambda row: (places[row], pairs[row].turn, row))
    return [pairs[row] for row in order]


def _print_json(answer: Answer) -> None:
    print(json.dumps(answer.to_dict(), ensure_ascii=False), flush=True)
