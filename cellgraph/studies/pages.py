"""The pages of a study: its tables for people, as Markdown, and for programs, as CSV and JSON, and its figure."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cellgraph.files import write_atomically, write_json, writing
from cellgraph.studies.comparison import Comparison, Outcome
from cellgraph.studies.figure import draw
from cellgraph.studies.law import PowerLaw
from cellgraph.texts import escaped_markdown, markdown_table

#: What stands for a number that there is not.
ABSENT = "-"

HEADINGS = ("setting", "system", "seeds", "mean", "deviation", "less", "difference [95 %]", "p", "q")


def write_study(
    comparison: Comparison,
    folder: str | os.PathLike[str],
    *,
    law: PowerLaw | None = None,
    law_key: str = "",
    unfinished: Sequence[Path] = (),
) -> Path:
    """Write ``study.md``, ``study.csv``, ``study.json`` and ``study.png``.

    Args:
        comparison: What was found.
        folder: Where to; made where absent.
        law: A law that was fitted to one of the keys.
        law_key: That key.
        unfinished: Folders of runs that were left out.

    Returns:
        The Markdown file.

    Raises:
        OSError: If the folder cannot be written.
    """
    folder = Path(folder)
    with writing(folder, what="the study in "):
        folder.mkdir(parents=True, exist_ok=True)
        page = folder / "study.md"
        write_atomically(page, markdown(comparison, law=law, law_key=law_key, unfinished=unfinished).encode())
        write_atomically(folder / "study.csv", _csv(comparison).encode())
        write_json(folder / "study.json", _plain(comparison, law, unfinished))
        draw(comparison, folder / "study.png", law=law, law_key=law_key)
    return page


def print_study(comparison: Comparison, console: Console | None = None) -> None:
    """Print the settings, and below each what stands beside it.

    Args:
        comparison: What was found.
        console: Where to; the terminal by default.
    """
    table = Table("setting", box=SIMPLE_HEAD)
    for heading in ("mean ± deviation (seeds)", "difference [95 %]", "q"):
        table.add_column(heading, justify="right", no_wrap=True)
    for setting in comparison.settings:
        rows = [(setting, f"{setting.name}: {setting.system}")]
        # By name: values that Python takes for equal, such as true and 1, are two settings.
        rows += [(one, f"  {one.system}") for one in comparison.systems if one.name == setting.name]
        for outcome, name in rows:
            _, _, seeds, mean, deviation, _, difference, _, q = _row(outcome)
            spread = "" if deviation == ABSENT else f" ± {deviation}"
            table.add_row(Text(name), f"{mean}{spread} ({seeds})", difference, q)
    (console or Console()).print(table)


def markdown(
    comparison: Comparison, *, law: PowerLaw | None = None, law_key: str = "", unfinished: Sequence[Path] = ()
) -> str:
    """The tables as Markdown text.

    Args:
        comparison: What was found.
        law: A law that was fitted to one of the keys.
        law_key: That key.
        unfinished: Folders of runs that were left out.
    """
    lines = [
        "# Study",
        "",
        f"`{comparison.measure}` on held-out data in {comparison.runs} runs, by {_keys(comparison)}. Differences are "
        "paired by seed, their intervals and p of Student's t; q is p among all the comparisons here (Benjamini and "
        "Hochberg 1995). A single seed has neither.",
        "",
        "![study](study.png)",
        "",
        f"## Settings, by {comparison.system}",
        "",
        *markdown_table(HEADINGS, map(_row, comparison.settings)),
    ]
    if comparison.systems:
        lines += ["", f"## What stands beside it, less {comparison.system}", ""]
        lines += markdown_table(HEADINGS, map(_row, comparison.systems))
    if law is not None:
        lines += ["", f"## 1 - {comparison.measure} as a power of {law_key}", "", _told(law)]
    if unfinished:
        lines += ["", "## Left out, not finished", "", *(f"- `{path}`" for path in unfinished)]
    return "\n".join(lines) + "\n"


def _keys(comparison: Comparison) -> str:
    return ", ".join(f"`{key}`" for key in comparison.keys) or "the seed alone"


def _row(outcome: Outcome) -> list[str]:
    low, high = outcome.interval()
    interval = "" if math.isnan(low) else f" [{low:+.4f}, {high:+.4f}]"
    return [
        escaped_markdown(outcome.name),
        escaped_markdown(outcome.system),
        str(len(outcome.seeds)),
        _number(outcome.mean),
        _number(outcome.deviation),
        escaped_markdown(outcome.against) or ABSENT,
        ABSENT if math.isnan(outcome.lead) else f"{outcome.lead:+.4f}{interval}",
        _number(outcome.p, "{:.2g}"),
        _number(outcome.q, "{:.2g}"),
    ]


def _number(value: float, form: str = "{:.4f}") -> str:
    return ABSENT if math.isnan(value) else form.format(value)


def _told(law: PowerLaw) -> str:
    names = ("floor", "factor", "exponent")
    parts = []
    for number, name in enumerate(names):
        told = f"{name} {getattr(law, name):.4g}"
        if law.intervals:
            told += " [{:.4g}, {:.4g}]".format(*law.intervals[number])
        parts.append(told)
    return "; ".join(parts) + ("." if law.intervals else "; no intervals, as some size has one run alone.")


def _csv(comparison: Comparison) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*comparison.keys, "system", "seed", comparison.measure])
    for outcome in (*comparison.settings, *comparison.systems):
        for seed, value in zip(outcome.seeds, outcome.values, strict=True):
            writer.writerow([*outcome.setting.values(), outcome.system, seed, value])
    return text.getvalue()


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _plain(comparison: Comparison, law: PowerLaw | None, unfinished: Sequence[Path]) -> dict[str, Any]:
    def told(outcome: Outcome) -> dict[str, Any]:
        shown = {key: value if _is_plain(value) else str(value) for key, value in outcome.setting.items()}
        summary = {"mean": outcome.mean, "deviation": outcome.deviation, "difference": outcome.lead}
        low, high = outcome.interval()
        found = {**asdict(outcome), "setting": shown, **summary, "difference_low": low, "difference_high": high}
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in found.items()}

    return {
        "measure": comparison.measure,
        "system": comparison.system,
        "keys": list(comparison.keys),
        "runs": comparison.runs,
        "settings": [told(outcome) for outcome in comparison.settings],
        "systems": [told(outcome) for outcome in comparison.systems],
        "law": None if law is None else asdict(law),
        "unfinished": [str(path) for path in unfinished],
    }
