"""The account of an inspection: as plain types, as Markdown, and line by line of what was changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from cellgraph.texts import escaped_markdown, markdown_table, one_line

from .finding import KINDS, Finding
from .inspection import Inspection

__all__ = ["change_lines", "inspection_dict", "inspection_markdown", "kind_rows"]

#: Notes of a kind that the Markdown shows; removals and repairs are all there.
MOST_NOTES = 20
_HAPPENS = {"remove": "removed", "repair": "repaired", "note": "noted"}


def kind_rows(inspection: Inspection) -> list[tuple[str, int, str, str]]:
    """What was found, a row for each kind: its name, how many rows, what happens to them, and what it is."""
    return [
        (kind, count, _HAPPENS[inspection.settings.action(kind)], KINDS[kind].meaning)
        for kind, count in inspection.counts().items()
    ]


def inspection_dict(inspection: Inspection, name: str) -> dict[str, Any]:
    """An inspection as plain types: rows are counted from 1, as people do.

    Args:
        inspection: The inspection.
        name: What the file is called.
    """
    return {
        "file": name,
        "rows": len(inspection.rows),
        "removed": len(inspection.removed),
        "repaired": len(inspection.repaired),
        "counts": inspection.counts(),
        "not_checked": inspection.undone,
        "measured": inspection.numbers,
        "settings": _plain_settings(inspection),
        "findings": [_plain(inspection, finding) for finding in inspection.findings],
    }


def inspection_markdown(inspection: Inspection, name: str) -> str:
    """An inspection for people: all that is removed or repaired with its reasons, and the first of the notes."""
    removed, repaired = inspection.removed, inspection.repaired
    lines = [f"# Check of {escaped_markdown(name)}", ""]
    lines += [
        f"{len(inspection.rows):,} rows: {len(removed):,} to be removed, {len(repaired):,} to be repaired, "
        f"{len(inspection.rows) - len(removed):,} stay. Rows are counted from 1, without the header.",
        "",
    ]
    kinds = kind_rows(inspection)
    if kinds:
        table = [(f"{kind}: the row {meaning}", f"{count:,}", happens) for kind, count, happens, meaning in kinds]
        lines += [*markdown_table(("found", "rows", "what happens"), table), ""]
        lines += ["A row may have several findings.", ""]
    else:
        lines += ["Nothing was found.", ""]
    lines += [f"- Not checked: {check}, {escaped_markdown(reason)}." for check, reason in inspection.undone.items()]
    lines += [*_measured(inspection), ""]
    for kind, _, happens, meaning in kinds:
        found = [finding for finding in inspection.findings if finding.kind == kind]
        shown = found[:MOST_NOTES] if happens == "noted" else found
        more = (
            f" The first {len(shown)} of {len(found):,}; all are in the JSON beside." if len(shown) < len(found) else ""
        )
        lines += [f"## {kind}: {happens}", "", f"The row {meaning}.{more}", ""]
        lines += [*_told(inspection, shown), ""]
    settings = ", ".join(
        f"{name} {value}" for name, value in _plain_settings(inspection).items() if value not in ((), {})
    )
    lines += ["## Settings", "", escaped_markdown(settings)]
    return "\n".join(lines) + "\n"


def change_lines(inspection: Inspection) -> Iterator[str]:
    """What the clean file lacks or has otherwise, a JSON object a line: what happens to the row, why, and its texts."""
    for action, rows in (("remove", inspection.removed), ("repair", inspection.repaired)):
        for row, found in rows.items():
            before, after = inspection.rows.pairs[row], inspection.pairs[row]
            record = {
                "row": row + 1,
                "action": action,
                "kinds": [finding.kind for finding in found],
                "reasons": [finding.reason for finding in found],
                "repeats": next((finding.repeats + 1 for finding in found if finding.repeats is not None), None),
                **({} if before is None else asdict(before)),
            }
            if action == "repair" and after is not None:
                record["repaired"] = {"question": after.question, "answer": after.answer}
            yield json.dumps(record, ensure_ascii=False) + "\n"


def _plain_settings(inspection: Inspection) -> dict[str, Any]:
    settings = asdict(inspection.settings)
    return settings | {"without": list(settings["without"]), "actions": dict(settings["actions"])}


def _plain(inspection: Inspection, finding: Finding) -> dict[str, Any]:
    pair = inspection.rows.pairs[finding.row]
    return {
        "row": finding.row + 1,
        "kind": finding.kind,
        "action": inspection.settings.action(finding.kind),
        "reason": finding.reason,
        "repeats": None if finding.repeats is None else finding.repeats + 1,
        "value": finding.value,
        "question": None if pair is None else one_line(pair.question, 200),
        "answer": None if pair is None else one_line(pair.answer, 200),
    }


def _measured(inspection: Inspection) -> Iterator[str]:
    numbers = inspection.numbers
    if language := numbers.get("language"):
        told = ", ".join(f"{name} {count:,}" for name, count in list(language["rows"].items())[:8]) or "none"
        yield f"- Languages: {told}; {language['not_judged']:,} too short or uncertain."
    if judged := numbers.get("coherence"):
        if judged["judged"]:
            yield (
                f"- Coherence: median similarity {judged['own']['0.5']:.3f} of {judged['judged']:,} pairs, "
                f"{judged['shuffled']['0.5']:.3f} of shuffled ones; a question is nearer to its own answer than to a "
                f"stranger's with probability {judged['own_before_stranger']:.3f}. "
                f"Expected: {judged['threshold']:.3f}. {judged['not_judged']:,} pairs could not be judged."
            )
        else:
            yield "- Coherence: no pair could be judged."
    if split := numbers.get("leakage"):
        told = ", ".join(f"{count:,} {part}" for part, count in split["rows"].items())
        yield f"- The file has no split; training would make one of {told}, with nothing equal in two of them."


def _told(inspection: Inspection, found: Iterable[Finding]) -> Iterator[str]:
    for finding in found:
        pair = inspection.rows.pairs[finding.row]
        asked = "" if pair is None else f" (“{escaped_markdown(pair.question, 80)}”)"
        yield f"- Row {finding.row + 1:,}{asked}: {escaped_markdown(finding.reason)}."
