"""The command ``data check``: what is wrong with a file of pairs."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from cellgraph.cli.data.columns import Embedder, add_columns, read
from cellgraph.data.checks import (
    CHECKS,
    KINDS,
    CheckSettings,
    Inspection,
    change_lines,
    check_format,
    inspect_pairs,
    inspection_dict,
    inspection_markdown,
    kind_rows,
    write_clean,
)
from cellgraph.files import write_atomically, write_json, writing
from cellgraph.texts import one_line

#: Exit status where something is to be removed or repaired; 1 is an error, 2 a wrong command line.
FAULTS = 3

#: What the options of several values may name.
_NAMES = {"without": [check for check in CHECKS if check != "rows"], "remove": [*KINDS], "keep": [*KINDS]}
#: What the options that are thresholds say.
_TOLD = {
    "min_question_chars": "shortest question, in characters",
    "max_question_chars": "longest question",
    "min_answer_chars": "shortest answer",
    "max_answer_chars": "longest answer",
    "near": "likeness of near duplicates, of question and answer: Jaccard index of runs of five letters",
    "neighbour": "cosine of neighbours, of question and answer",
    "coherence": "share of shuffled pairs that a pair's similarity must reach",
    "language": "code of the language expected; by default the one of most rows",
    "language_confidence": "probability of another language",
    "min_language_chars": "shortest text whose language is told",
    "test": "pairs that training would hold out to judge by, a number or a share, where there is no split",
    "validation": "the same to validate by",
    "seed": "seed of that split, and of the shuffled pairs",
}


def main(arguments: Sequence[str]) -> None:
    """Find duplicates, damaged and doubtful pairs, and leakage; exit status 3 if any is to be removed or repaired."""
    given = _parsed(arguments)
    settings = _settings(given)
    if given.fix is not None:
        check_format(given.file, given.fix)
        changes = given.fix.with_name(f"{given.fix.stem}.changes.jsonl")
        if changes.exists() and given.file.exists() and changes.samefile(given.file):
            raise ValueError(f"{changes} would be the list of changes, and is the file itself: choose another --fix")
    rows = read(given.file, given)
    needs_teacher = not {"coherence", "neighbours"} <= set(settings.without)
    bar = _progress()
    tasks: dict[str, TaskID] = {}

    def show(check: str, share: float) -> None:
        if check not in tasks:
            tasks[check] = bar.add_task(check, total=1.0)
        bar.update(tasks[check], completed=share)

    embed = Embedder(given.teacher, functools.partial(show, "embedding")) if needs_teacher else None
    with bar:
        inspection = inspect_pairs(rows, settings, embed=embed, progress=show)
    name = given.file.name or str(given.file)
    out = given.out or Path(f"{given.file.resolve().stem}-check")
    _tell(inspection, name)
    with writing(out, what="the report in "):
        write_json(out / "report.json", inspection_dict(inspection, name))
        write_atomically(out / "report.md", inspection_markdown(inspection, name).encode())
    print(f"all findings with their reasons: {out / 'report.md'}, report.json")
    if given.fix is not None:
        with writing(given.fix, what="the clean file "):
            # The list first: no clean file without it.
            write_atomically(changes, "".join(change_lines(inspection)).encode())
            write_clean(given.file, given.fix, inspection, question=given.question, answer=given.answer)
        print(f"{len(rows) - len(inspection.removed):,} rows: {given.fix}; what was left out or changed: {changes}")
    if not inspection.is_clean:
        sys.exit(FAULTS)


def _parser() -> argparse.ArgumentParser:
    kinds = "; ".join(f"{name} ({kind.action}): {kind.meaning}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="cellgraph data check", description=main.__doc__, epilog=f"Kinds of findings, and what happens: {kinds}."
    )
    parser.add_argument("file", type=Path, nargs="?", help="pairs in any format that training reads")
    parser.add_argument("--fix", type=Path, metavar="OUT", help="write the clean file, and beside it what it lacks")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the report (NAME-check by default)")
    add_columns(parser)
    parser.add_argument("--without", nargs="+", default=[], metavar="CHECK", help=", ".join(_NAMES["without"]))
    for action, told in (("remove", "remove what is found of these kinds"), ("keep", "only tell of these kinds")):
        parser.add_argument(f"--{action}", nargs="+", default=[], metavar="KIND", help=told)
    thresholds = parser.add_argument_group("thresholds")
    for field in fields(CheckSettings):
        if field.name in _TOLD:
            default = None if field.default is MISSING else field.default
            shown = "" if default is None else f" ({default})"
            kind: Any = {"language": str, "test": _number, "validation": _number}.get(field.name, type(default))
            thresholds.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=kind,
                default=default,
                metavar="X",
                help=_TOLD[field.name] + shown,
            )
    return parser


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    given = parser.parse_args(arguments)
    for option, names in _NAMES.items():
        values = getattr(given, option)
        if given.file is None and len(values) > 1 and values[-1] not in names:
            # Behind the option it was taken for one of its values.
            given.file = Path(values.pop())
        wrong = next((value for value in values if value not in names), None)
        if wrong is not None:
            parser.error(f"argument --{option}: expected some of {', '.join(names)}, got {wrong}")
    if given.file is None:
        parser.error("the following arguments are required: file")
    return given


def _settings(given: argparse.Namespace) -> CheckSettings:
    both = sorted(set(given.remove) & set(given.keep))
    if both:
        raise ValueError(f"--remove and --keep both name {', '.join(both)}")
    actions = dict.fromkeys(given.remove, "remove") | dict.fromkeys(given.keep, "note")
    return CheckSettings(
        without=tuple(given.without), actions=actions, **{name: getattr(given, name) for name in _TOLD}
    )


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def _progress() -> Progress:
    columns = (TextColumn("{task.description:<12}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _tell(inspection: Inspection, name: str) -> None:
    """The short table."""
    rows, removed, repaired = len(inspection.rows), len(inspection.removed), len(inspection.repaired)
    print(f"{one_line(name)}: {rows:,} rows")
    kinds = kind_rows(inspection)
    if kinds:
        print(f"\n{'kind':<12} {'rows':>7}  {'':<9} the row ...")
        for kind, count, happens, meaning in kinds:
            print(f"{kind:<12} {count:>7,}  {happens:<9} {meaning}")
        print()
    for check, reason in inspection.undone.items():
        print(f"not checked: {check}, {one_line(reason)}")
    print(f"to be removed {removed:,}, to be repaired {repaired:,}, staying {rows - removed:,}")
