"""The command ``data report``: metrics of a file of pairs, or of two side by side, on one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cellgraph.analysis.report import write_report
from cellgraph.analysis.report.dataset import DatasetStudy, render_dataset
from cellgraph.cli.data.columns import Embedder, add_columns, read
from cellgraph.data import QAPair
from cellgraph.data.metrics import Portrait, draw_portrait
from cellgraph.data.metrics.portrait import DISTINCT_WORDS
from cellgraph.data.metrics.wording import words_of
from cellgraph.files import writing
from cellgraph.texts import one_line, printable

#: What the page says that meanings are compared by.
_TEACHERS = {"lsa": "lsa, latent semantic analysis fitted to these very texts"}


def main(arguments: Sequence[str]) -> None:
    """Show how diverse, complex, coherent and balanced a file of pairs is, on one page with pictures."""
    parser = argparse.ArgumentParser(prog="cellgraph data report", description=main.__doc__)
    parser.add_argument("file", type=Path, help="pairs in any format that training reads")
    parser.add_argument("other", type=Path, nargs="?", help="a second file, to stand beside the first")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the report (NAME-report by default)")
    add_columns(parser)
    given = parser.parse_intermixed_args(arguments)
    files = [given.file] if given.other is None else [given.file, given.other]
    # Files first: what is wrong with them is told before anything slow.
    sets = {name: _pairs(path, given) for name, path in zip(_names(files), files, strict=True)}
    notes = Console(stderr=True)
    texts = list(dict.fromkeys(t for pairs in sets.values() for pair in pairs for t in (pair.question, pair.answer)))
    with notes.status("comparing meanings") as status:
        embed = Embedder(given.teacher, lambda share: status.update(f"comparing meanings: {share:.0%}"))
        vectors, place = embed(texts), {text: number for number, text in enumerate(texts)}
    equal_pairs = min(map(len, sets.values()))
    words = [sum(len(words_of(pair.answer)) for pair in pairs) for pairs in sets.values()]
    portraits = []
    for name, pairs in sets.items():
        with notes.status(f"measuring {name}"):
            portraits.append(
                draw_portrait(
                    name,
                    pairs,
                    vectors[[place[pair.question] for pair in pairs]],
                    vectors[[place[pair.answer] for pair in pairs]],
                    equal_pairs=equal_pairs,
                    equal_words=min(*words, DISTINCT_WORDS),
                )
            )
    study = DatasetStudy(portraits, _TEACHERS.get(given.teacher, given.teacher))
    out = given.out or Path(f"{'-and-'.join(path.resolve().stem for path in files)}-report")
    # First, so that it is not lost where it cannot be written.
    _tell(portraits)
    with writing(out, what="the report in "), notes.status("drawing"):
        page = write_report(study, out, title=" beside ".join(sets), page=render_dataset)
    print(f"the report is {page}")


def _pairs(path: Path, given: argparse.Namespace) -> list[QAPair]:
    rows = read(path, given)
    if rows.faults:
        number, reason = next(iter(rows.faults.items()))
        told = f"{len(rows.faults):,} of {len(rows):,} rows hold no pair and are left out, the first being row"
        print(f"{one_line(str(path))}: {told} {number + 1:,} ({one_line(reason, 100)}); see cellgraph data check")
    return [pair for pair in rows.pairs if pair is not None]


def _names(files: Sequence[Path]) -> list[str]:
    """Short names, with as much of the path as tells them apart."""
    for part in ("stem", "name"):
        short = [printable(getattr(path.resolve(), part)) for path in files]
        if len(set(short)) == len(short):
            return short
    longer = [printable("/".join(path.resolve().parts[-2:])) for path in files]
    if len(set(longer)) == len(longer):
        return longer
    return [f"{name} ({number})" for number, name in enumerate(longer, start=1)]


def _tell(portraits: Sequence[Portrait]) -> None:
    """The short table."""
    rows = [
        ("", [one_line(p.name, 20) for p in portraits]),
        ("pairs", [f"{p.numbers['pairs']:,}" for p in portraits]),
        *(
            (f"effective number of {part}", [f"{p.numbers['diversity'][part]['vendi']:.1f}" for p in portraits])
            for part in ("questions", "answers")
        ),
        ("words in a question, median", [f"{p.numbers['questions']['words']['0.5']:.0f}" for p in portraits]),
        ("words in an answer, median", [f"{p.numbers['answers']['words']['0.5']:.0f}" for p in portraits]),
        ("school year of answers, median", [f"{p.numbers['answers']['grade']['0.5']:.1f}" for p in portraits]),
        ("distinct pairs of words", [f"{p.numbers['answers']['distinct_2']:.1%}" for p in portraits]),
        ("own answer before a stranger's", [f"{p.numbers['coherence']['own_before_stranger']:.3f}" for p in portraits]),
        ("effective number of categories", [f"{p.numbers['balance']['category']['effective']:.1f}" for p in portraits]),
    ]
    for name, cells in rows:
        print(f"{name:<31}" + "".join(f"{cell:>22}" for cell in cells))
