"""The report: rows of figures, as a table to read and as JSON to compute with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellgraph.texts import markdown_table

from .measure import Contender, spread
from .setting import Setting

#: What every row has after its setting.
FIGURES = (
    "samples_per_s",
    "samples_per_s_lower",
    "samples_per_s_upper",
    "cell_steps_per_s",
    "peak_bytes",
    "floor_ratio",
)
#: Columns of the JSON that the printed table has elsewhere.
_HIDDEN = ("samples_per_s_lower", "samples_per_s_upper", "note")


@dataclass
class Report:
    """What a benchmark found.

    Attributes:
        machine: See :func:`~cellgraph.benchmarks.machine.describe_machine`.
        settings: The options it was run with.
        rows: One dictionary a row: the setting's columns, :data:`FIGURES` and what the question adds.
        skipped: What could not be measured, and why.
        answers: Sentences that answer the question.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    def add(
        self,
        setting: Setting,
        *,
        seconds: Sequence[float] = (),
        peak_bytes: int | None = None,
        floor: float | None = None,
        note: str = "",
        more: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Add a row and return it.

        Args:
            setting: What was measured.
            seconds: Seconds of a call, one value a round; none gives a row without speeds.
            peak_bytes: Memory of a call.
            floor: Samples per second of the matrix products alone.
            note: What the reader of the row must know.
            more: Further columns.
        """
        row = setting.columns() | dict.fromkeys(FIGURES) | {"peak_bytes": peak_bytes}
        if seconds:
            speeds = spread([setting.batch / value for value in seconds])
            row["samples_per_s"] = speeds.median
            row["samples_per_s_lower"], row["samples_per_s_upper"] = speeds.lower, speeds.upper
            # Of a light cone most cells are never computed, and some once for all samples.
            if not setting.cone:
                row["cell_steps_per_s"] = speeds.median * setting.num_cells * setting.num_steps
            row["floor_ratio"] = speeds.median / floor if floor else None
        row |= {**(more or {}), "rounds": len(seconds), "note": note}
        self.rows.append(row)
        return row

    def add_contender(self, contender: Contender, *, floor: float | None = None) -> dict[str, Any]:
        """Add what was measured of a contender."""
        return self.add(
            contender.setting,
            seconds=contender.seconds,
            peak_bytes=contender.peak_bytes,
            floor=floor,
            note=contender.told,
            more={"first_call_s": contender.first_seconds},
        )

    def skip(self, what: object, reason: object) -> None:
        """Note what was left out, with the first line of the reason."""
        lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
        self.skipped.append({"what": str(what), "reason": lines[0] if lines else type(reason).__name__})

    def to_json(self) -> str:
        """The report as a JSON object."""
        names = ("machine", "settings", "rows", "skipped", "answers")
        return json.dumps({name: getattr(self, name) for name in names}, indent=2) + "\n"

    def to_markdown(self) -> str:
        """The report as a table in Markdown, with the machine above, and notes and answers below it."""
        machine = self.machine
        lines = [
            f"{machine['processor']}, {machine['cores']} cores ({machine['threads']} threads), "
            f"{_amount(machine['memory_bytes'])}, {machine['device']}, torch {machine['packages'].get('torch')}; "
            f"load at the start {machine['load']}",
            "",
        ]
        alike = _alike(self.rows)
        if alike:
            lines += [", ".join(f"{_heading(name)} {value}" for name, value in alike.items()), ""]
        lines += _table([{name: row[name] for name in row if name not in alike} for row in self.rows])
        lines += [""] if self.rows else []
        notes = dict.fromkeys(f"{row['backend']}: {row['note']}" for row in self.rows if row["note"])
        lines += [f"- {note}" for note in notes]
        for reason in dict.fromkeys(item["reason"] for item in self.skipped):
            of = "; ".join(item["what"] for item in self.skipped if item["reason"] == reason)
            lines.append(f"- not measured: {of}: {reason}")
        lines += [""] if notes or self.skipped else []
        return "\n".join(lines + self.answers)


def _alike(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Columns of the setting that are the same in all of several rows: they are said once, above the table."""
    if len(rows) < 2:
        return {}
    names = (*(name for name in Setting("").columns() if name not in ("backend", "mode")), "rounds")
    alike = {name: rows[0][name] for name in names if all(row[name] == rows[0][name] for row in rows)}
    return {name: value for name, value in alike.items() if value is not None}


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    shown = [name for name in names if name not in _HIDDEN and any(row.get(name) is not None for row in rows)]
    if not shown:
        return []
    headings = [_heading(name) for name in shown]
    return markdown_table(headings, [[_cell(name, row.get(name), row) for name in shown] for row in rows])


def _heading(name: str) -> str:
    if name == "samples_per_s":
        return "samples/s [quartiles]"
    if name.endswith("_ms"):
        return name[:-3].replace("_", " ") + ", ms"
    return name.replace("_per_s", "/s").removesuffix("_bytes").replace("_", " ")


def _cell(name: str, value: Any, row: Mapping[str, Any]) -> str:
    if value is None:
        return ""
    if name == "samples_per_s":
        return f"{value:.4g} [{row['samples_per_s_lower']:.4g}, {row['samples_per_s_upper']:.4g}]"
    if name == "cell_steps_per_s":
        return f"{value / 1e6:.3g} M"
    if name.endswith("_bytes"):
        return _amount(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _amount(size: float) -> str:
    mebibytes = size / 2**20
    return f"{mebibytes / 1024:.1f} GiB" if mebibytes >= 10_000 else f"{mebibytes:,.{0 if mebibytes >= 10 else 1}f} MiB"
