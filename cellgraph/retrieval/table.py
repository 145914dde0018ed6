"""The table: an evaluation for people, on the console and as Markdown, and for programs, as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cellgraph.files import write_atomically, write_json, writing
from cellgraph.folder import RunFolder
from cellgraph.retrieval.evaluation import RECALLS, SPACES, Evaluation, Row
from cellgraph.retrieval.nearest import NearestAnswers
from cellgraph.texts import escaped_markdown, markdown_table, one_line

#: Longer texts are cut.
SHOWN_CHARS = 100

#: What stands for a figure that a system has not.
ABSENT = "-"

#: Columns of retrieval on the console.
_RETRIEVAL = (*(f"R@{k}" for k in RECALLS), "MRR", "95 %")

#: Columns of the Markdown table.
HEADINGS = (
    "system",
    "cosine surface",
    "cosine teacher",
    "cosine centred",
    "R@1",
    "R@5",
    "R@10",
    "MRR [95 %]",
    "R@1 CSLS",
    "MRR CSLS [95 %]",
    "parameters",
    "train s",
    "trials",
)


def print_evaluation(
    evaluation: Evaluation, examples: Sequence[NearestAnswers] = (), *, console: Console | None = None
) -> None:
    """Print the table, the reference's lead and a few nearest answers.

    Args:
        evaluation: What :func:`~cellgraph.retrieval.evaluation.evaluate` found.
        examples: What :func:`~cellgraph.retrieval.nearest.nearest_answers` found.
        console: Where to; the terminal by default.
    """
    tables = [_plain_table(evaluation), _csls_table(evaluation)]
    if evaluation.differences:
        tables.append(_difference_table(evaluation))
    spaced = [part for table in tables for part in (table, Text())]
    notes = [Text(" ".join(_caption(evaluation))), *map(Text, _lines(examples))]
    (console or Console()).print(Group(*spaced, *notes))


def markdown(evaluation: Evaluation, examples: Sequence[NearestAnswers] = ()) -> str:
    """The same as Markdown text.

    Args:
        evaluation: What :func:`~cellgraph.retrieval.evaluation.evaluate` found.
        examples: What :func:`~cellgraph.retrieval.nearest.nearest_answers` found.
    """
    lines = ["# Evaluation", "", *_caption(evaluation), ""]
    lines += markdown_table(HEADINGS, map(_cells, evaluation.rows))
    if evaluation.differences:
        lines += ["", "## Lead in mean reciprocal rank (paired bootstrap)", ""]
        rows = [
            [
                escaped_markdown(f"{row['name']} - {row['against']}"),
                _signed(row),
                _probability(row),
                _signed(row, "_csls"),
            ]
            for row in evaluation.differences
        ]
        lines += markdown_table(["comparison", "difference [95 %]", "p", "with CSLS"], rows)
    if examples:
        lines += ["", "## Nearest answers", ""]
        for example in examples:
            lines.append(f"- **{escaped_markdown(example.question, SHOWN_CHARS)}**")
            lines.append(f"  - true answer (rank {example.rank:g}): {escaped_markdown(example.answer, SHOWN_CHARS)}")
            lines += [f"  - {score:.3f}: {escaped_markdown(text, SHOWN_CHARS)}" for text, score in example.nearest]
    return "\n".join(lines) + "\n"


def save_evaluation(
    evaluation: Evaluation, folder: str | os.PathLike[str], examples: Sequence[NearestAnswers] = ()
) -> tuple[Path, Path]:
    """Write ``evaluation.json`` and ``evaluation.md``, each whole or not at all.

    Args:
        evaluation: What :func:`~cellgraph.retrieval.evaluation.evaluate` found.
        folder: Where to; made if it is missing.
        examples: What :func:`~cellgraph.retrieval.nearest.nearest_answers` found.

    Returns:
        The paths of the two files.

    Raises:
        OSError: If a file cannot be written; one of that name from before is then untouched.
    """
    run = RunFolder(folder)
    with writing(run.evaluation):
        # A figure that is not finite is a bug upstream and no valid JSON.
        write_json(run.evaluation, evaluation.to_dict())
    with writing(run.table):
        write_atomically(run.table, markdown(evaluation, examples).encode())
    return run.evaluation, run.table


def _plain_table(evaluation: Evaluation) -> Table:
    table = _rich_table("Held-out pairs", "system", "surface", "teacher", "centred", *_RETRIEVAL)
    for row in evaluation.rows:
        table.add_row(Text(row["name"]), *_cosines(row), *_retrieval(row))
    return table


def _csls_table(evaluation: Evaluation) -> Table:
    table = _rich_table("Re-ranked by CSLS, and the cost", "system", *_RETRIEVAL, "parameters", "train s", "trials")
    for row in evaluation.rows:
        table.add_row(Text(row["name"]), *_retrieval(row, "_csls"), *_cost(row))
    return table


def _difference_table(evaluation: Evaluation) -> Table:
    title = f"Lead of {evaluation.differences[0]['name']} in MRR, paired"
    table = _rich_table(title, "over", "MRR [95 %]", "p", "with CSLS [95 %]")
    for row in evaluation.differences:
        table.add_row(Text(row["against"]), _signed(row), _probability(row), _signed(row, "_csls"))
    return table


def _rich_table(title: str, *headings: str) -> Table:
    # Without edges and padding the widest table fits 80 columns.
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    return table


def _retrieval(row: Row, suffix: str = "") -> list[str]:
    figures = [_figure(row[f"recall_at_{k}{suffix}"]) for k in RECALLS] + [_figure(row["mrr" + suffix])]
    low, high = row["mrr_low" + suffix], row["mrr_high" + suffix]
    return [*figures, ABSENT if low is None else f"{low:.3f}-{high:.3f}"]


def _caption(evaluation: Evaluation) -> list[str]:
    chance = evaluation.to_dict()["chance"]
    over = "pairs" if evaluation.groups == evaluation.pairs_test else f"{evaluation.groups:,} groups of pairs"
    return [
        f"{evaluation.pairs_train:,} training pairs, {evaluation.pairs_test:,} held out with {evaluation.candidates:,} "
        f"distinct answers;",
        f"chance: R@1 {chance['recall_at_1']:.4f}, MRR {chance['mrr']:.4f}.",
        f"Surface, teacher: cosine in that space; centred: in teacher space, less the training mean of the answers. "
        f"R@k: share of questions whose own answer is among the first k. MRR: mean reciprocal rank, with its bootstrap "
        f"95 % interval over {over}. p: probability of no lead, two-sided, likewise. "
        f"Trials: settings of which this is the best by validation, of closed forms by cross-validation. "
        f"CSLS: re-ranked with k = {evaluation.csls_k}.",
    ]


def _cells(row: Row) -> list[str]:
    figures = _cosines(row) + [_figure(row[f"recall_at_{k}"]) for k in RECALLS]
    figures += [_with_interval(row), _figure(row["recall_at_1_csls"]), _with_interval(row, "_csls")]
    return [escaped_markdown(row["name"]), *figures, *_cost(row)]


def _cost(row: Row) -> list[str]:
    return [f"{row['parameters']:,}", f"{row['seconds_train']:.1f}", f"{row['trials']}"]


def _with_interval(row: Row, suffix: str = "") -> str:
    if row["mrr" + suffix] is None:
        return ABSENT
    return f"{row['mrr' + suffix]:.3f} [{row['mrr_low' + suffix]:.3f}, {row['mrr_high' + suffix]:.3f}]"


def _cosines(row: Row) -> list[str]:
    return [_figure(row[f"cosine_{space}"]) for space in SPACES]


def _figure(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"


def _probability(row: Row) -> str:
    return f"{row['mrr_p']:.2g}" if row["mrr_p"] >= 0.001 else "<0.001"


def _signed(row: Row, suffix: str = "") -> str:
    if row["mrr" + suffix] is None:
        return ABSENT
    return f"{row['mrr' + suffix]:+.3f} [{row['mrr_low' + suffix]:+.3f}, {row['mrr_high' + suffix]:+.3f}]"


def _lines(examples: Sequence[NearestAnswers]) -> list[str]:
    lines = []
    for example in examples:
        lines += ["", f"Q: {one_line(example.question, SHOWN_CHARS)}"]
        lines.append(f"   true answer (rank {example.rank:g}): {one_line(example.answer, SHOWN_CHARS)}")
        lines += [f"   {score:.3f}  {one_line(text, SHOWN_CHARS)}" for text, score in example.nearest]
    return lines
